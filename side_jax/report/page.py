"""report.html: one file, no network, rendered from metrics.json and the match table."""

import jinja2

from side_jax.report.answers import answers
from side_jax.report.blocks import Sentences
from side_jax.report.figures import png_data
from side_jax.report.section import Page
from side_jax.report.sections import SECTIONS
from side_jax.report.verdict import block
from side_jax.runtime.files import Json


def render(page: Page) -> str:
    """The page as text: the one verdict, the verdicts of all sections, then each section."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("side_jax.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["png"] = png_data
    return environment.get_template("page.html.j2").render(
        facts=page.facts,
        verdict=block(page.metrics),
        answers=None if withheld(page.metrics) else answers(page.metrics),
        verdicts=Sentences(verdicts(page.metrics)),
        sections=[(section, section.blocks(page)) for section in SECTIONS if section.needed(page)],
    )


def verdicts(metrics: Json) -> list[str]:
    """What the numbers say, in sentences: each with its interval, or with why nothing can be said."""
    return withheld(metrics) or [sentence for section in SECTIONS for sentence in section.verdict(metrics)]


def withheld(metrics: Json) -> list[str]:
    """Sentences that replace all verdicts, where these could not be trusted; else none."""
    return [sentence for section in SECTIONS for sentence in section.withheld(metrics)]
