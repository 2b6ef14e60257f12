"""Table 1: how the guide is chosen."""

from collections.abc import Iterator

from side_jax.report.blocks import Block, Cell, Note, Table, Text
from side_jax.report.section import Page, Section
from side_jax.report.wording import band_range, interval, p_value, percent, scale_list, with_what_it_saw
from side_jax.runtime.files import Json

_SCORES = {"ams": "AMS", "ums": "UMS"}


def _blocks(page: Page) -> Iterator[Block]:
    metrics, images = page.metrics, page.metrics["images"]
    bands = metrics["bands"]
    rows: list[list[Cell]] = [
        [with_what_it_saw(row), *(_cell(row, band[0], score) for band in bands for score in _SCORES)]
        for row in metrics["table1"]
    ]
    groups = [("", 1), *((band_range(band), len(_SCORES)) for band in bands)]
    yield Table(["method", *[*_SCORES.values()] * len(bands)], rows, "", page.all_train, groups)
    guided = scale_list([row["scale"] for row in metrics["scales"] if row["scale"]])
    fewer, heldout = "", " against held-out photos;" if page.calibrated else ""
    if page.calibrated and images["train"] != images["paired"]:
        fewer = " The held-out photos are fewer: compare the two by the tables above."
    yield Note(
        f"Random is λ = 0; every other row is the mean over its λ > 0 ({guided}), as in the paper's Table 1: no λ is"
        f" picked.{fewer} In a cell, from top to bottom: against the training photos;{heldout} gain over Random in"
        " points, image by image, with p of swapping images with Random's (two-sided)."
    )


def _cell(row: Json, band: str, score: str) -> list[str | Text]:
    """Against training photos; if there are any, against held-out ones; the gain."""
    lines: list[str | Text] = [Text(interval(row["train"][band][score]), "train")]
    if row["heldout"]:
        lines.append(Text(interval(row["heldout"][band][score]), "heldout"))
    if row["gain"]:
        gain = row["gain"][band][score]
        difference = gain["difference"]["value"]
        lines.append(f"{'+' if difference > 0 else ''}{percent(difference)}, {p_value(gain['p'])}")
    return lines


SECTION = Section(
    "table1",
    "Table 1: how the guide is chosen, in % with 95 % intervals",
    _blocks,
    needed=lambda page: len(page.metrics["table1"]) > 1,
)
