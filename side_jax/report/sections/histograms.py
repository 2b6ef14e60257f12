"""Histograms of the best score of every image."""

from collections.abc import Iterator

import numpy as np

from side_jax.report.blocks import Block, Figure, Note
from side_jax.report.figures import HELDOUT, REAL, TRAIN, new_axes, svg
from side_jax.report.section import Page, Section
from side_jax.report.wording import scale_title
from side_jax.runtime.files import Json

_MOST = 6  # λ with a histogram


def _blocks(page: Page) -> Iterator[Block]:
    shown, scales = histogram_scales(page.metrics), page.metrics["scales"]
    if len(shown) < len(scales):
        yield Note(
            f"At {len(shown)} of the {len(scales)} λ: the ends, the highest AMS in band {page.band}, and some between."
        )
    drawn = score_histograms(page.metrics, {scale: page.best[scale] for scale in shown})
    yield Figure(drawn, "Best score of every image", page.paired)


def histogram_scales(metrics: Json) -> list[float]:
    """The λ that get a histogram: all, or if they are many the ends, the highest AMS and some evenly between."""
    rows = sorted(metrics["scales"], key=lambda row: row["scale"])
    if len(rows) <= _MOST:
        return [row["scale"] for row in rows]
    top = metrics["bands"][-1][0]
    highest = max(range(len(rows)), key=lambda i: rows[i]["train"]["bands"][top]["ams"]["value"])
    places = np.linspace(0, len(rows) - 1, _MOST).round().astype(int)
    if highest not in places:
        places[1 + int(np.abs(places[1:-1] - highest).argmin())] = highest
    return [rows[i]["scale"] for i in places]


def score_histograms(metrics: Json, best: dict[float, dict[str, np.ndarray]]) -> str:
    """Best score of every image against training and held-out photos, by λ; gray: held-out photos themselves.

    Args:
      metrics: metrics.json.
      best: λ, in the order shown -> reference name -> best score per generated image.
    """
    figure, axes = new_axes(len(best), columns=3, width=3.7, height=2.6)
    everything = np.concatenate([scores for by_name in best.values() for scores in by_name.values()]).astype(float)
    titles = {row["scale"]: scale_title(row) for row in metrics["scales"]}
    edges = np.linspace(np.floor(np.quantile(everything, 0.01) * 20) / 20, 1.0, 41).tolist()
    for axis, (scale, by_name) in zip(axes, best.items(), strict=True):
        if metrics["heldout_photos"]:
            real = metrics["heldout_photos"]["best"]
            axis.hist(real, edges, density=True, color=REAL, alpha=0.35, label="held-out photo to training")
        for name, color in (("training", TRAIN), ("held-out", HELDOUT)):
            if name in by_name:
                axis.hist(by_name[name], edges, density=True, histtype="step", color=color, linewidth=1.6, label=name)
        for _, low, _ in metrics["bands"]:
            axis.axvline(low, color="black", linewidth=0.6, linestyle=":")
        axis.set(title=titles[scale], xlabel="best score γ", yticks=[])
    axes[0].legend(fontsize=8, loc="upper left")
    return svg(figure)


SECTION = Section("histograms", "Histograms: best score of every image", _blocks)
