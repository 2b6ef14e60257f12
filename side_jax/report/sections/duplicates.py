"""Pictures that are among the training photos more than once: what to delete, and which the target gives back."""

from collections.abc import Iterator

from side_jax.report.blocks import Block, Note, Table
from side_jax.report.section import Page, Section
from side_jax.report.wording import scale_heading, scale_name
from side_jax.runtime.files import Json

_SHOWN = 50  # pictures in the table


def _blocks(page: Page) -> Iterator[Block]:
    found, low = page.metrics["duplicates"], page.metrics["bands"][-1][1]
    repeated, against = found["repeated"], {"train": page.metrics["images"]["train"]}
    rows = [
        [picture["keep"], str(1 + len(picture["delete"])), str(picture["images"]), ", ".join(picture["delete"])]
        for picture in repeated[:_SHOWN]
    ]
    headings = ["keep", "photos", f"images that score {low:g} or more with one of them, all λ", "delete"]
    yield Table(headings, rows, "Repeated pictures", against)
    names = {row["scale"]: scale_name(row) for row in page.metrics["scales"]}
    counts = [[names[row["scale"]], str(row["photos"]), str(row["pictures"])] for row in found["scales"]]
    yield Table(
        [scale_heading(page.metrics["scales"]), "different photos found", "different pictures found"],
        counts,
        "Finds",
        against,
    )
    more = f" The table has the first {_SHOWN} of {len(repeated)}; metrics.json has all." if repeated[_SHOWN:] else ""
    yield Note(
        "A model copies above all what it sees many times: delete the repeats and train again. Photos are one picture"
        f" if their 32×32 gray pixels have a cosine of {found['near_duplicate']:.5g} or more (dataset.near_duplicate),"
        f" as they are or mirrored. Against held-out photos one photo stands for each picture, on either side.{more}"
    )


def _verdict(metrics: Json) -> list[str]:
    """How many training photos repeat others, if any do."""
    repeated = (metrics["duplicates"] or {}).get("repeated")
    if not repeated:
        return []
    copies = sum(len(picture["delete"]) for picture in repeated)
    found = sum(picture["images"] > 0 for picture in repeated)
    pictures = "1 picture is" if len(repeated) == 1 else f"{len(repeated)} pictures are"
    sentence = (
        f"{pictures} more than once among the {metrics['images']['train']} training photos ({copies} too many);"
        f" generated images find {found or 'none'} of them. Repeats are what a model copies first; the page"
        " lists what to delete."
    )
    return [sentence]


SECTION = Section("duplicates", "Repeated pictures", _blocks, needed=lambda page: page.repeated, verdict=_verdict)
