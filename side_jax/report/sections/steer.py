"""The steer stage: what steering away from the memorized representation bought and cost."""

from collections.abc import Iterator

import numpy as np

from side_jax.report.blocks import Block, Note, Picture, Sentences, Table, Text
from side_jax.report.section import Page, Section
from side_jax.report.wording import SIGNIFICANT, interval, p_value, percent
from side_jax.runtime.files import Json


def _blocks(page: Page) -> Iterator[Block]:
    steer, metrics = page.metrics["steer"], page.metrics
    if "reason" in steer:
        yield Sentences([steer["reason"]])
        return
    yield Sentences(sentences(steer, page.band))
    yield _gains(page)
    yield _costs(steer["rows"])
    yield Note(_how(steer, metrics["descriptor"]["name"], page.facts["options"]["extract"]["num_steps"]))
    if page.steered is not None:
        yield _pictures(steer, page.steered)


def _weight(row: Json) -> str:
    return f"{row['weight']:g}{'' if row['weight'] else ', none'}"


def _change(row: Json, estimate: Json) -> str:
    """p of the change from α = 0, in every other row."""
    return p_value(estimate["change"]["p"]) if row["weight"] else ""


def _gains(page: Page) -> Table:
    top = page.band
    names = [name for name, _, _ in page.metrics["bands"]]
    rows = []
    for row in page.metrics["steer"]["rows"]:
        bands, memorized = row["bands"], row["memorized"]
        ums = bands[top]["train"]["ums"]
        ams = [interval(bands[name]["train"]["ams"]) for name in names]
        found = [_weight(row), interval(memorized), _change(row, memorized), *ams]
        rows.append([*found, interval(ums), _change(row, ums), interval(bands[top]["heldout"]["ams"])])
    headings: list[str | Text] = [
        *("α", "memorized, %", "p"),
        *(Text(f"AMS, {name}", "train") for name in names),
        *(Text(f"UMS, {top}", "train"), "p", Text(f"AMS, {top}, held-out", "heldout")),
    ]
    return Table(headings, rows, "What it buys", page.paired)


def _costs(rows: list[Json]) -> Table:
    cells = []
    for row in rows:
        kid, steered = row["kid"], row["weight"] != 0
        change = interval(kid["change"]["difference"]) if steered else ""
        to_unsteered = interval(row["kid_to_unsteered"]) if steered else ""
        found = [_weight(row), interval(kid), change, _change(row, kid)]
        cells.append([*found, f"{row['frechet']:.2f}", to_unsteered])
    headings = [
        *("α", "KID × 100 to held-out photos", "change", "p"),
        *("Fréchet distance to held-out photos", "KID × 100 to α = 0"),
    ]
    return Table(headings, cells, "What it costs")


def _how(steer: Json, descriptor: str, num_steps: int) -> str:
    first, last = steer["steps"]
    blind = ", and blind to what pixels do not show" if descriptor == "pixel" else ""
    return (
        f"h + α (mean of memorized − mean of other images), added to the output of {', '.join(steer['layers'])} in"
        f" steps {first} to {last} of {num_steps} (seed 003's intervention); α below 0 steers away. The direction comes"
        f" from {steer['num_positive']} memorized and {steer['num_negative']} other unguided images with an even index,"
        f" its effect is measured on {steer['rows'][0]['num_images']} with an odd one, each the same noise at every α."
        f" Memorized: a better score with a training photo than {steer['threshold']:.4f}, the highest 0.1 % of the"
        " scores with as many held-out photos. Every p is two-sided, of the change from α = 0, and of that row alone:"
        " none is corrected for the number of weights. KID (unbiased, kernel (cosine + 1)³, jackknife intervals) and"
        f" Fréchet distance are to the held-out photos in the {descriptor} descriptor's space and not Inception's:"
        f" comparable only within this table{blind}. The Fréchet distance is of descriptors of norm √D, and biased"
        " upwards by the number of images, the same in every row."
    )


def _pictures(steer: Json, images: np.ndarray) -> Table:
    """A row for each weight, a column for each image, of images uint8 [A, K, H, W, C]."""
    rows: list[list[str | Picture]] = []
    for row, steered in zip(steer["rows"], images, strict=True):
        weight = f"α = {row['weight']:g}"
        pictured = zip(steer["pictured"], steered, strict=True)
        rows.append([weight, *(Picture(pixels, f"image {index} at {weight}") for index, pixels in pictured)])
    number = len(steer["pictured"])
    caption = f"The first {number} memorized images with an odd index, the same noise in every row"
    return Table(["", *(f"image {index}" for index in steer["pictured"])], rows, caption)


def sentences(steer: Json, band: str) -> list[str]:
    """What each weight bought and cost, in words."""
    (unsteered,) = (row for row in steer["rows"] if row["weight"] == 0)
    sentences = []
    for row in steer["rows"]:
        if row["weight"] == 0:
            continue
        copies, ams = row["memorized"], row["bands"][band]["train"]["ams"]
        kid = row["kid"]
        sentences.append(
            f"α = {row['weight']:g}: {_moved(copies['change'], 'fewer', 'more')} images are memorized,"
            f" {percent(copies['value'])} % for {percent(unsteered['memorized']['value'])} %"
            f" ({p_value(copies['change']['p'])}), and {_moved(ams['change'], 'fewer', 'more')} score in band {band},"
            f" {percent(ams['value'])} % for {percent(unsteered['bands'][band]['train']['ams']['value'])} %"
            f" ({p_value(ams['change']['p'])}). The images are"
            f" {_moved(kid['change'], 'nearer to', 'further from')} held-out photos: KID {kid['value']:.4f} for"
            f" {unsteered['kid']['value']:.4f} ({p_value(kid['change']['p'])})."
        )
    return sentences


def _moved(change: Json, fell: str, rose: str) -> str:
    if change["p"] >= SIGNIFICANT:
        return f"not significantly {fell if change['difference']['value'] < 0 else rose}"
    return fell if change["difference"]["value"] < 0 else rose


SECTION = Section(
    "steer",
    "Steer: away from the memorized representation",
    _blocks,
    needed=lambda page: bool(page.metrics.get("steer")),
)
