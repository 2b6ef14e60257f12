"""The sets of generated images that were audited alone: one row each, compared with the first."""

from collections.abc import Iterator

import numpy as np

from side_jax.evidence.scores import Band
from side_jax.report.blocks import Block, Figure, Note, Table, Text
from side_jax.report.figures import HELDOUT, TRAIN, new_axes, svg
from side_jax.report.section import Page, Section
from side_jax.report.wording import band_range, interval, p_value, percent, scale_title, untested
from side_jax.runtime.files import Json


def _blocks(page: Page) -> Iterator[Block]:
    rows, several = page.metrics["samples"], len(page.metrics["samples"]) > 1
    by_scale = {row["scale"]: row for row in page.metrics["scales"]}
    headings: list[str | Text] = ["set", "images", Text("AMS", "train"), Text("UMS", "train")]
    headings += [Text("AMS, held-out", "heldout"), "excess, points", "p"] if page.calibrated else []
    headings += [f"AMS less that of {rows[0]['name']}, points"] if several else []
    headings += ["training photos, pixel for pixel"]
    cells = [
        [*_scores(page, row, by_scale[row["scale"]]), *_difference(page, row, several), _same(row)] for row in rows
    ]
    caption = f"Each set, {band_range(page.metrics['bands'][-1])}, in % with 95 % intervals"
    yield Table(headings, cells, caption, page.paired)
    if several:
        yield Figure(set_intervals(page.metrics["scales"], page.metrics["bands"]), "AMS of each set", page.paired)
        yield Note(
            "By image: the two sets have images of the same names, and image is compared with image (McNemar's test)."
            " As a whole: they have not, and share is compared with share (Fisher's test; Newcombe's interval)."
        )


def set_intervals(rows: list[Json], bands: list[Band]) -> str:
    """AMS of every set in every band, against training and against held-out photos, with 95 % intervals."""
    references = {"paired": TRAIN, "heldout": HELDOUT} if "heldout" in rows[0] else {"train": TRAIN}
    figure, axes = new_axes(len(bands), columns=3, height=1.2 + 0.4 * len(rows))
    for axis, band in zip(axes, bands, strict=True):
        for shift, (reference, color) in enumerate(references.items()):
            found = [row[reference]["bands"][band[0]]["ams"] for row in rows]
            value, low, high = (100 * np.array([one[name] for one in found]) for name in ("value", "low", "high"))
            places = np.arange(len(rows)) + 0.2 * shift
            axis.errorbar(
                value, places, xerr=[value - low, high - value], fmt="o", color=color, markersize=4, capsize=3
            )
        axis.set(title=band_range(band), xlabel="% of images", yticks=range(len(rows)))
        axis.set_yticklabels([scale_title(row) for row in rows])
        axis.invert_yaxis()
        axis.set_xlim(left=0)
    return svg(figure)


def _scores(page: Page, row: Json, scores: Json) -> list[str]:
    """Name, number of images, AMS and UMS; against held-out photos, with the excess and its p."""
    reference = "paired" if page.calibrated else "train"
    band = scores[reference]["bands"][page.band]
    cells = [row["name"], str(row["num_images"]), interval(band["ams"]), interval(band["ums"])]
    if page.calibrated:
        excess = scores["ams_excess"][page.band]
        tested = "–" if untested(excess, page.untestable) else p_value(excess["p"])
        cells += [interval(scores["heldout"]["bands"][page.band]["ams"]), percent(excess["value"]), tested]
    return cells


def _difference(page: Page, row: Json, several: bool) -> list[str]:
    if not several:
        return []
    found = row["against_first"]
    if found is None:
        return [""]
    result = found["bands"][page.band]["ams"]
    return [f"{interval(result['difference'])}, {p_value(result['p'])}, {_how(found)}"]


def _how(found: Json) -> str:
    return "by image" if found["paired"] else "as a whole"


def _same(row: Json) -> str:
    return str(row["identical"]["train"]) if row["identical"]["train"] else "none"


def _verdict(metrics: Json) -> list[str]:
    """Images that are photos pixel for pixel, and the difference of each set from the first."""
    sentences = []
    for row in metrics.get("samples") or ():
        for kind, what in (("train", "training"), ("heldout", "held-out")):
            if count := row["identical"][kind]:
                photos = f"is a {what} photo" if count == 1 else f"are {what} photos"
                sentences.append(
                    f"{count} of the {row['num_images']} images of {row['name']} {photos}, pixel for pixel:"
                    " either the model made it so, or photos lie among the samples."
                )
        if found := row["against_first"]:
            band = metrics["bands"][-1][0]
            result = found["bands"][band]["ams"]
            sentences.append(
                f"{row['name']} against {metrics['samples'][0]['name']}, {_how(found)}: AMS ({band}) differs by"
                f" {interval(result['difference'])} points ({p_value(result['p'])})."
            )
    return sentences


SECTION = Section(
    "samples",
    "Generated images",
    _blocks,
    needed=lambda page: bool(page.metrics.get("samples")),
    verdict=_verdict,
)
