"""model_card.md: a section in Markdown, to paste into a model card, from audit.json alone."""

import re

import jinja2

from side_jax.report.gate_metrics import descriptions
from side_jax.report.wording import p_value
from side_jax.runtime.files import Json

FILE = "model_card.md"


def model_card(audit: Json) -> str:
    """The section as text.

    Args:
      audit: audit.json.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("side_jax.report", ""),
        autoescape=False,  # Markdown; what comes from file names goes through `_plain`
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"plain": _plain, "number": _number, "p": p_value}
    template = environment.get_template("model_card.md.j2")
    return template.render(
        audit=audit, descriptions=dict(descriptions()), words=("copies", "nothing_found", "cannot_tell")
    )


def _plain(text: str) -> str:
    """Text that means nothing to Markdown: the name of a set, or of a photo, may hold anything."""
    return re.sub(r"([\\`*_{}<>|#])", r"\\\1", " ".join(text.split()))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
