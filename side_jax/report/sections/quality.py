"""Quality: how far the images of each λ are from photos, beside what they copy."""

from collections.abc import Iterator

from side_jax.report.blocks import Block, Note, Table, Text
from side_jax.report.section import Page, Section
from side_jax.report.wording import SIGNIFICANT, interval, p_value, scale_title
from side_jax.runtime.files import Json

_KINDS = {"heldout": "held-out photos", "train": "training photos, as fewer than 3 are held out"}


def _blocks(page: Page) -> Iterator[Block]:
    measured, band = page.metrics["quality"], page.band
    rows = [_row(row, band) for row in page.metrics["scales"] if row["quality"]]
    foot = []
    if real := measured["yardstick"]:
        label = f"{real['num_images']} training photos themselves"
        foot = [[label, interval(real["kid"]), "", "", f"{real['frechet']:.1f}", ""]]
    against = {measured["against"]: measured["photos"]}
    set_of = measured["against"]
    headings: list[str | Text] = [
        "λ",
        Text("KID × 100", set_of),
        f"difference from {_zero(page.metrics)}",
        "p",
        Text("Fréchet distance", set_of),
    ]
    yield Table([*headings, Text(f"AMS, {band}", "train")], rows, "", against, foot=foot)
    yield Note(
        f"The first {measured['num_images']} images of each λ against {measured['photos']} {_KINDS[set_of]}, by the"
        " descriptor of the scores: not comparable with a published KID or FID. KID is unbiased, and 0 where images are"
        " distributed as photos; its intervals and p are the jackknife's, image by image of the same noise. The Fréchet"
        " distance is biased upwards, the more the fewer images: compare rows only"
        f"{', of which the last, real photos, has little but this bias' if foot else ''}."
    )
    yield Note(f"{_reading(page.metrics)} AMS is of all images against all training photos.")


def _zero(metrics: Json) -> str:
    """What the others are compared with: λ = 0, or the first set of samples."""
    return next((scale_title(row) for row in metrics["scales"] if row["scale"] == 0), "λ = 0")


def _row(row: Json, band: str) -> list[str | list[str]]:
    quality = row["quality"]
    change = quality["change"]
    difference = [interval(change["difference"]), p_value(change["p"])] if change else ["", ""]
    ams = interval(row["train"]["bands"][band]["ams"])
    label = f"{row['scale']:g}{'' if row['scale'] else ', Random'}"
    return [label, interval(quality["kid"]), *difference, f"{quality['frechet']:.1f}", ams]


def _reading(metrics: Json) -> str:
    """How to read it; and which λ are further from photos than unguided images."""
    changes = {scale_title(row): row["quality"]["change"] for row in metrics["scales"] if row["quality"]}
    further = [
        title
        for title, change in changes.items()
        if change and change["p"] < SIGNIFICANT and change["difference"]["value"] > 0
    ]
    said = (
        "Where KID rises with λ, images leave the photos: look at the contact sheets before a match is counted, as it"
    )
    said += " may be a broken image. Images that copy few photos over and over are further from photos too."
    if further:
        said += f" Significantly further from photos than {_zero(metrics)}: {', '.join(further)}."
    return said


SECTION = Section(
    "quality",
    "Quality: how far images are from photos",
    _blocks,
    needed=lambda page: bool(page.metrics.get("quality")),
)
