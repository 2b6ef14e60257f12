"""Training photos at risk: the surest finds, and what to do about them."""

from collections.abc import Iterator

from side_jax.report.blocks import Block, Cell, More, Note, Picture, Table
from side_jax.report.section import FoundPhoto, Page, Section
from side_jax.report.wording import percent
from side_jax.runtime.files import Json

_ADVICE = {
    "remove": "remove, train again",
    "deduplicate": "keep one, train again",
    "look": "look: may be chance",
}


def _blocks(page: Page) -> Iterator[Block]:
    found, low = page.metrics["at_risk"], page.metrics["bands"][-1][1]
    against = {"train": page.metrics["images"]["train"]}
    yield Table(
        ["false-discovery rate, at most", "photos", "different pictures"],
        [[f"{percent(one['rate'])} %", str(one["photos"]), str(one["pictures"])] for one in found["sure"]],
        "Photos found, by how sure it is",
        against,
    )
    rows: list[list[Cell]] = [
        [Picture(photo.photo, f"training photo {row['id']}"), *_cells(row, photo)]
        for photo, row in zip(page.at_risk, found["rows"], strict=True)
    ]
    headings = [
        "photo",
        "id",
        "class",
        "false-discovery rate",
        "images that find it",
        "best score",
        "recall",
        "photos of it",
    ]
    yield Table([*headings, "what to do"], rows, "The surest", against)
    more = f" The table has the first {len(rows)} of {found['listed']}." if found["listed"] > len(rows) else ""
    decoys = (
        "The false-discovery rate compares with held-out photos, which are found by mistake (target-decoy): it is the"
        " expected share of photos in the list, down to this row, that were found by chance. It counts images whose"
        " guide has not seen which photos were trained on, and recall with the λ that the other half of the photos"
        " chose."
        if found["decoys"]
        else "Without held-out photos no false-discovery rate can be given."
    )
    yield Note(
        f"at_risk.csv has every training photo with a score of {low:g} or more, by sweep or recall, with its content"
        f" hash, and what found it.{more} {decoys}"
    )


def _cells(row: Json, photo: FoundPhoto) -> list[Cell]:
    best = "" if row["best_score"] is None else f"{row['best_score']:.3f}, {row['best_by']}"
    recall = ""
    if row["recall_drawn"]:
        recall = f"{row['recall_drawn']}, best {row['recall_score']:.3f}, rank {row['recall_rank']}"
    rate = f"{percent(row['false_discovery_rate'])} %"
    counts = [_found(row, photo), best, recall, str(row["copies"])]
    return [row["id"], row["class"], rate, *counts, _ADVICE[row["advice"]]]


def _found(row: Json, photo: FoundPhoto) -> Cell:
    """The number of images that find a photo; opened, which ones."""
    if not row["found"]:
        return str(row["images"])
    texts = [f"{one['by']} #{one['index']}: {one['score']:.3f}" for one in row["found"]]
    pictures = [(Picture(image, text), text) for image, text in zip(photo.images, texts, strict=False)]
    left = row["images"] - len(texts)
    return More(
        str(row["images"]),
        texts[len(pictures) :] + [f"and {left:,} more: matches.parquet"] * (left > 0),
        pictures,
    )


SECTION = Section(
    "at_risk",
    "Training photos at risk",
    _blocks,
    needed=lambda page: page.metrics["at_risk"]["listed"] > 0,
)
