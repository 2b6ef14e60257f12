"""Marks of a reader: how many scores of each band a person calls copies."""

from collections.abc import Iterator

from side_jax.report.blocks import Block, Note, Table
from side_jax.report.section import Page, Section
from side_jax.report.wording import interval
from side_jax.runtime.files import Json


def _blocks(page: Page) -> Iterator[Block]:
    rows = [[row["band"], *_cells(row["drawn"]), *_cells(row["all"])] for row in page.metrics["marks"]]
    headings = ["band", *("marked", "copies", "precision, %") * 2]
    groups = [("", 1), ("randomly drawn pairs", 3), ("all marked pairs", 3)]
    yield Table(headings, rows, "Precision of the bands", groups=groups)
    yield Note(
        "Pairs that a person marked as a copy, among those marked in the band. The best pairs are the surest of their"
        " band: the precision of a band is that of randomly drawn pairs."
    )


def _cells(found: Json) -> list[str]:
    return [str(found["marked"]), str(found["kept"]), interval(found["precision"]) if found["precision"] else "–"]


SECTION = Section("marks", "Marks of a reader", _blocks, needed=lambda page: bool(page.metrics.get("marks")))
