"""report.html: one file, no network, rendered from metrics.json and the match table; and its head for a notebook."""

import dataclasses
from typing import Any

import jinja2

from side_jax.report.answers import answers
from side_jax.report.blocks import Sentences
from side_jax.report.figures import png_data
from side_jax.report.section import Page
from side_jax.report.sections import SECTIONS
from side_jax.runtime.files import Json

_PAIRS = 6  # of each contact sheet in a notebook


def render(page: Page) -> str:
    """The page as text: the verdicts of all sections, then each section."""
    return _rendered(
        "page.html.j2",
        page,
        facts=page.facts,
        sections=[(section, section.blocks(page)) for section in SECTIONS if section.needed(page)],
    )


def render_summary(page: Page) -> str:
    """A fragment of HTML with the head of the page and the first pairs of its contact sheets."""
    sheets = [dataclasses.replace(sheet, pairs=sheet.pairs[:_PAIRS]) for sheet in page.sheets]
    return _rendered("summary.html.j2", page, sheets=sheets)


def _rendered(template: str, page: Page, **shown: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("side_jax.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["png"] = png_data
    return environment.get_template(template).render(
        answers=None if withheld(page.metrics) else answers(page.metrics),
        verdicts=Sentences(verdicts(page.metrics)),
        **shown,
    )


def verdicts(metrics: Json) -> list[str]:
    """What the numbers say, in sentences: each with its interval, or with why nothing can be said."""
    return withheld(metrics) or [sentence for section in SECTIONS for sentence in section.verdict(metrics)]


def withheld(metrics: Json) -> list[str]:
    """Sentences that replace all verdicts, where these could not be trusted; else none."""
    return [sentence for section in SECTIONS for sentence in section.withheld(metrics)]
