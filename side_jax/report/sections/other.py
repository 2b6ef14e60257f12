"""Other scores: top p %, percentile, Carlini's ratio, d₁/d₂."""

from collections.abc import Iterator

from side_jax.report.blocks import Block, Note, Table, Text
from side_jax.report.section import Page, Section
from side_jax.report.wording import interval, scale_heading, scale_name


def _blocks(page: Page) -> Iterator[Block]:
    scales = page.metrics["scales"]
    percents = sorted(scales[0]["train"]["top_percent"], key=float)
    references = {"paired": "train", "heldout": "heldout"} if page.calibrated else {"train": "train"}
    rows = []
    for row in scales:
        for reference, against in references.items():
            scores = row[reference]
            cells = [
                scale_name(row),
                "training" if against == "train" else "held-out",
                *(f"{scores['top_percent'][p]:.3f}" for p in percents),
                f"{scores['percentile_95']:.3f}",
                interval(scores["carlini_below_1"]),
                interval(scores["nearest_ratio_below_third"]),
            ]
            rows.append([Text(cell, against) for cell in cells])
    tops = [f"top {p} %" for p in percents]
    headings = [scale_heading(scales), "against", *tops, "95th percentile", "Carlini ratio < 1, %", "d₁/d₂ < 1/3, %"]
    yield Table(headings, rows, against=page.paired)
    yield Note(
        "Top p %: mean of the p % highest best scores (Table 2). Carlini ratio: ℓ₂ to the nearest photo over half the"
        " mean ℓ₂ to the 50 nearest. d₁/d₂: ℓ₂ to the nearest over the second nearest."
    )


SECTION = Section("other", "Other scores", _blocks)
