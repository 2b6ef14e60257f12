"""AMS and UMS by λ, in every band."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from side_jax.evidence.scores import Band
from side_jax.report.blocks import Block, Figure, Note, Table, Text
from side_jax.report.figures import HELDOUT, TRAIN, new_axes, svg, with_tips
from side_jax.report.section import Page, Section
from side_jax.report.wording import (
    band_range,
    interval,
    method_name,
    p_value,
    percent,
    scale_heading,
    scale_name,
    untested,
)
from side_jax.runtime.files import Json

if TYPE_CHECKING:  # matplotlib is slow to import
    from matplotlib.axes import Axes

_SCORES = {"ams": "AMS", "ums": "UMS", "ums_all": "UMS_all"}
_RIBBON = 12  # λ from which a curve has a ribbon in place of error bars
_SCROLLS = 20  # λ above which a table scrolls


def _blocks(page: Page) -> Iterator[Block]:
    metrics = page.metrics
    of = "the generated images" if metrics.get("samples") else method_name(metrics["method"])
    if scale_heading(metrics["scales"]) == "λ":  # between sets with names there is no curve
        yield Figure(scale_curves(metrics), f"AMS and UMS of {of}", page.paired)
    if len(metrics["scales"]) > _SCROLLS:
        yield Note(f"The tables have a row for each of {len(metrics['scales'])} λ, and scroll.")
    if metrics["measured_bands"]:
        yield Note(_measured(metrics["measured_bands"], metrics["descriptor"]["name"]))
    for band in metrics["bands"]:
        yield _table(page, band)
    note = (
        "AMS (Eq. 12): share of images whose best score with a training photo lies in the band. UMS (Eq. 13): distinct"
        " best-matching training photos, over the number of images. UMS_all: distinct training photos with any score in"
        " the band."
    )
    if page.calibrated:
        note += (
            " The last row matches the held-out photos themselves against the training photos; the excess is against"
            " equally many of both."
        )
    if page.repeated:
        note += " The photos that are compared one to one have no repeats, so that UMS counts different pictures."
    yield Note(f"{note} AMS intervals are Clopper–Pearson's, UMS intervals gamma, of the jackknife's variance.")


def _measured(measured: Json, descriptor: str) -> str:
    """Where the bands come from, and what they are worth."""
    rates = measured["rates"]
    reached = ", ".join(
        f"{interval(rates[name])} % score {low:g} or more ({name})" for name, low, _ in measured["bands"]
    )
    return (
        f"No bands are published for the {descriptor} descriptor. These were measured before any image was generated:"
        f" of {measured['heldout']} held-out photos, one of each picture, {reached} with one of the"
        f" {measured['train']} training photos. None of them is a copy: that is how often the score is wrong for a real"
        " photo that the target never saw. Other images may resemble photos more or less; the comparison with the"
        " held-out photos below speaks of them."
    )


class _Column(NamedTuple):
    """AMS, UMS or UMS_all against one reference set, as a row of metrics.json names it."""

    heading: Text
    reference: str
    score: str


def _columns(page: Page, compared: str) -> Iterator[_Column]:
    images = page.metrics["images"]
    if page.calibrated and images["train"] != images["paired"]:
        yield _Column(Text(f"AMS, all {images['train']}", "train"), "train", "ams")
    for score, name in _SCORES.items():
        yield _Column(Text(name, "train"), compared, score)
        if page.calibrated and score != "ums_all":
            yield _Column(Text(f"{name}, held-out", "heldout"), "heldout", score)


def _table(page: Page, band: Band) -> Table:
    """A row for each λ; at its foot the mean, and the held-out photos themselves."""
    metrics, name = page.metrics, band[0]
    compared = "paired" if page.calibrated else "train"
    columns = list(_columns(page, compared))
    tested = ["AMS excess, points", "p"] if page.calibrated else []
    rows = []
    for row in metrics["scales"]:
        label = f"{scale_name(row)}{'' if row['scale'] or 'name' in row else ', Random'}"
        scores = [interval(row[column.reference]["bands"][name][column.score]) for column in columns]
        rows.append([label, *scores, *(_excess(row["ams_excess"][name], page.untestable) if tested else [])])

    def foot(label: str, by_score: dict[str, str]) -> list[str]:
        cells = [by_score[column.score] if column.reference == compared else "" for column in columns]
        return [label, *cells, *("" for _ in tested)]

    below = []
    if mean := metrics["guided_mean"]:
        below.append(foot("mean over λ > 0", {score: percent(mean[f"{name}/{score}"]) for score in _SCORES}))
    if page.calibrated:
        photos = metrics["heldout_photos"]["bands"][name]
        below.append(foot("held-out photos themselves", {score: interval(photos[score]) for score in _SCORES}))
    headings: list[str | Text] = [scale_heading(metrics["scales"]), *(column.heading for column in columns), *tested]
    return Table(headings, rows, band_range(band), page.paired, foot=below)


def _excess(excess: dict[str, float], reason: str | None) -> list[str]:
    return [percent(excess["value"]), "–" if untested(excess, reason) else p_value(excess["p"])]


def scale_curves(metrics: Json) -> str:
    """AMS and UMS by λ in every band, against training and against held-out photos, with 95 % intervals."""
    rows = sorted(metrics["scales"], key=lambda row: row["scale"])
    scales = [row["scale"] for row in rows]
    references = [("train", TRAIN, "training")]
    if "heldout" in rows[0]:  # equally many of each
        references = [("paired", TRAIN, "training"), ("heldout", HELDOUT, "held-out")]
    figure, axes = new_axes(len(metrics["bands"]), columns=3)
    for axis, band in zip(axes, metrics["bands"], strict=True):
        for reference, color, name in references:
            for score, style in (("ams", "-"), ("ums", ":")):
                estimates = [row[reference]["bands"][band[0]][score] for row in rows]
                _curve(axis, scales, estimates, color, style, f"{score.upper()}, {name}")
        axis.set(title=band_range(band), xlabel="λ", ylabel="% of images")
        axis.set_ylim(bottom=0)
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=8, loc="outside upper center", ncols=4)
    return svg(figure)


def _curve(
    axis: "Axes", scales: list[float], estimates: list[dict[str, float]], color: str, style: str, name: str
) -> None:
    value, low, high = (100 * np.array([e[key] for e in estimates]) for key in ("value", "low", "high"))
    tips = [f"{name}, λ = {scale:g}: {interval(e)} %" for scale, e in zip(scales, estimates, strict=True)]
    if len(scales) >= _RIBBON:
        (line,) = axis.plot(
            scales, value, color=color, linestyle=style, linewidth=1.4, marker="o", markersize=2, label=name
        )
        with_tips(line, tips)
        axis.fill_between(scales, low, high, color=color, alpha=0.15, linewidth=0)
        return
    errors = np.maximum([value - low, high - value], 0)
    bars = axis.errorbar(
        scales, value, errors, color=color, linestyle=style, marker="o", markersize=4, capsize=3, label=name
    )
    with_tips(bars.lines[0], tips)


SECTION = Section("scores", "Scores, in % with 95 % intervals", _blocks)
