"""report.html: one file, no network, rendered from metrics.json and the match table; and its head for a notebook."""

import dataclasses
import importlib.resources

import jinja2

from side_jax.report.blocks import Sentences
from side_jax.report.figures import picture_data
from side_jax.report.head import head
from side_jax.report.section import Page
from side_jax.report.sections import SECTIONS
from side_jax.report.verdict import block
from side_jax.runtime.files import Json

_PAIRS = 6  # of each contact sheet in a notebook


def render(page: Page) -> str:
    """The page as text: the first screen, the verdicts of all sections, then each section."""
    return template("page.html.j2").render(
        facts=page.facts,
        verdict=block(page.metrics),
        head=head(page, bool(withheld(page.metrics))),
        verdicts=Sentences(verdicts(page.metrics)),
        sections=[(section, list(section.blocks(page))) for section in SECTIONS if section.needed(page)],
        script=_resource("page.js"),
    )


def render_summary(page: Page) -> str:
    """A fragment of HTML with the head of the page and the first pairs of its contact sheets."""
    sheets = [dataclasses.replace(sheet, pairs=sheet.pairs[:_PAIRS]) for sheet in page.sheets]
    return template("summary.html.j2").render(
        verdict=block(page.metrics), head=head(page, bool(withheld(page.metrics))), sheets=sheets
    )


def template(name: str) -> jinja2.Template:
    """A template of this folder, which may use the macros of blocks.html.j2 and the page's `style`."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("side_jax.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["picture"] = picture_data
    environment.globals["style"] = _resource("page.css")
    return environment.get_template(name)


def _resource(name: str) -> str:
    return importlib.resources.files("side_jax.report").joinpath(name).read_text(encoding="utf-8")


def verdicts(metrics: Json) -> list[str]:
    """What the numbers say, in sentences: each with its interval, or with why nothing can be said."""
    return withheld(metrics) or [sentence for section in SECTIONS for sentence in section.verdict(metrics)]


def withheld(metrics: Json) -> list[str]:
    """Sentences that replace all verdicts, where these could not be trusted; else none."""
    return [sentence for section in SECTIONS for sentence in section.withheld(metrics)]
