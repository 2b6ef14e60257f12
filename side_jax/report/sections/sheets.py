"""Contact sheets: generated images beside the photos that they resemble most."""

from collections.abc import Iterator

from side_jax.report.blocks import Block, Note
from side_jax.report.section import Page, Section


def _blocks(page: Page) -> Iterator[Block]:
    if not page.metrics.get("samples"):
        yield Note(
            "#n is row n of matches.parquet, counted from 0. --replay=n makes that image again, and draws its denoising"
            " path beside the photos."
        )
    yield from page.sheets


SECTION = Section("sheets", "Contact sheets", _blocks, needed=lambda page: bool(page.sheets))
