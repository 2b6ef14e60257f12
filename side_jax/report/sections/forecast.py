"""Forecast: the photos that more images would find."""

from collections.abc import Iterator

import numpy as np

from side_jax.report.blocks import Block, Figure, Note, Table, Text
from side_jax.report.figures import REAL, TRAIN, new_axes, svg, with_tips
from side_jax.report.section import Page, Section
from side_jax.report.wording import band_range, count_interval, interval, scale_name, scale_title
from side_jax.runtime.files import Json

_MODEL = "#e08214"


def _blocks(page: Page) -> Iterator[Block]:
    rows = page.metrics["forecast"]["scales"]
    against = {"train": page.metrics["images"]["train"]}
    yield Figure(curves(rows), f"Different training photos found, {band_range(page.metrics['bands'][-1])}", against)
    yield _table(rows, against)
    yield Note(
        "The next image finds a new photo: the share of further images whose match would be one that no image has"
        " matched so far (Good 1953). Up to N the curve is the mean over all choices of so many of the images. To 2 N"
        " it is Good and Toulmin's series, which needs no model."
    )
    yield Note(
        "Beyond 2 N it is a model: every photo is matched at a rate of its own, and the rates come from one gamma"
        " distribution, so that counts are negative binomial. If rates are distributed otherwise, these numbers are"
        " wrong by more than their intervals say. The smoothed series assumes no distribution but is biased: where it"
        " contradicts the model, trust neither. Chao's number is a lower bound. No forecast exceeds the number of"
        " photos."
    )
    yield _checks(rows, against)


def _label(row: Json) -> str:
    return f"{scale_name(row)}{'' if row['scale'] or row.get('name') else ', Random'}"


def _table(rows: list[Json], against: dict[str, int]) -> Table:
    """What is found, and what is forecast."""
    headings: list[str | Text] = ["λ", "images, N", Text("found", "train"), "next image finds a new one, %", "2 N"]
    modelled = [row for row in rows if row["model"]]
    beyond = [model["num_images"] // row["num_images"] for row in modelled[:1] for model in row["model"]]
    headings += ["5 N, smoothed series", *(f"{times} N, model" for times in beyond), "endless: Chao's lower bound"]
    cells = []
    for row in rows:
        model = [count_interval(one) for one in row["model"] or []] or ["–"] * len(beyond)
        found = [_label(row), f"{row['num_images']:,}", f"{row['seen']:,} of {row['photos']:,}"]
        found += [
            interval(row["unseen_mass"]),
            count_interval(row["good_toulmin"][-1]),
            count_interval(row["smoothed"]),
        ]
        cells.append([*found, *model, count_interval(row["chao1"])])
    return Table(headings, cells, "Different photos that more images would find, with 95 % intervals", against)


def _checks(rows: list[Json], against: dict[str, int]) -> Table:
    """How the forecasts would have done on this sweep."""
    cells = []
    for row in rows:
        check = row["check"]
        model = count_interval(check["from_tenth"]) if check["from_tenth"] else "– (no match)"
        cells.append([_label(row), count_interval(check["from_half"]), model, f"{row['seen']:,}"])
    headings = ["λ", "from the first half, series", "from the first tenth, model", "found"]
    return Table(headings, cells, "The whole, forecast from its beginning", against)


def curves(rows: list[Json]) -> str:
    """Different photos found by number of images: what was found, and the forecasts, one panel for each λ."""
    figure, axes = new_axes(len(rows), columns=2)
    for axis, row in zip(axes, rows, strict=True):
        inside = np.array(row["curve"], float)
        axis.plot(inside[:, 0], inside[:, 1], color=TRAIN, label="found")
        ahead = {
            name: np.array([one[name] for one in row["good_toulmin"]])
            for name in ("num_images", "value", "low", "high")
        }
        axis.plot(ahead["num_images"], ahead["value"], color=REAL, label="series, to 2 N")
        axis.fill_between(ahead["num_images"], ahead["low"], ahead["high"], color=REAL, alpha=0.3, linewidth=0)
        if row["model"]:
            model = [one for one in row["model"] if one["num_images"] <= 10 * row["num_images"]]
            value, low, high = (np.array([one[name] for one in model]) for name in ("value", "low", "high"))
            errors = np.maximum([value - low, high - value], 0)
            numbers = [one["num_images"] for one in model]
            bars = axis.errorbar(numbers, value, errors, fmt="o", color=_MODEL, markersize=4, capsize=3, label="model")
            with_tips(bars.lines[0], [f"{one['num_images']:,} images: {count_interval(one)} photos" for one in model])
        if axis.get_ylim()[1] > row["photos"] / 3:  # else it would flatten the curve
            axis.axhline(row["photos"], color="black", linewidth=0.6, linestyle=":")
        axis.set(
            title=f"{scale_title(row)}, N = {row['num_images']:,}",
            xlabel="generated images",
            ylabel="different photos",
        )
        axis.set_ylim(bottom=0)
    axes[0].legend(fontsize=8, loc="lower right")
    return svg(figure)


SECTION = Section(
    "forecast",
    "Forecast: what more images would find",
    _blocks,
    needed=lambda page: bool(page.metrics.get("forecast")),
)
