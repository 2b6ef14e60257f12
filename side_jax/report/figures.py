"""Figures of the report, as SVG text or PNG data that the page embeds."""

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

TRAIN, HELDOUT, REAL = "#b2182b", "#2166ac", "#888888"
_MANY = 12  # λ from which a curve has a ribbon in place of error bars
_GUIDES = (TRAIN, HELDOUT, "#1b7837")
_HISTOGRAMS = 6  # λ with a histogram, at most


def png_data(image: np.ndarray) -> str:
    """uint8 [H, W, C] as a data URL."""
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def svg(figure: Any) -> str:
    """A figure as SVG text, and closed."""
    import matplotlib.pyplot as plt

    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight")
    plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def new_axes(count: int, columns: int, width: float = 4.2, height: float = 3.2) -> tuple[Any, list[Any]]:
    """`count` panels, at most `columns` side by side."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams.update({"font.size": 10, "svg.fonttype": "none", "svg.hashsalt": "side_jax"})
    import matplotlib.pyplot as plt

    columns = min(count, columns)
    rows = -(-count // columns)
    size = width * columns, height * rows
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for unused in axes.flat[count:]:
        unused.remove()
    return figure, list(axes.flat[:count])


def _curve(
    axis: Any, scales: list[float], estimates: list[dict[str, float]], color: str, style: str, name: str
) -> None:
    value, low, high = (100 * np.array([e[key] for e in estimates]) for key in ("value", "low", "high"))
    if len(scales) >= _MANY:
        axis.plot(scales, value, color=color, linestyle=style, linewidth=1.4, label=name)
        axis.fill_between(scales, low, high, color=color, alpha=0.15, linewidth=0)
        return
    errors = np.maximum([value - low, high - value], 0)
    axis.errorbar(scales, value, errors, color=color, linestyle=style, marker="o", markersize=4, capsize=3, label=name)


def scale_curves(metrics: dict[str, Any]) -> str:
    """AMS and UMS by λ in every band, against training and against held-out photos, with 95 % intervals."""
    rows = sorted(metrics["scales"], key=lambda row: row["scale"])
    scales = [row["scale"] for row in rows]
    references = [("train", TRAIN, "training")]
    if "heldout" in rows[0]:  # equally many of each
        references = [("paired", TRAIN, "training"), ("heldout", HELDOUT, "held-out")]
    figure, axes = new_axes(len(metrics["bands"]), columns=3)
    for axis, (band, low, high) in zip(axes, metrics["bands"], strict=True):
        for reference, color, name in references:
            for score, style in (("ams", "-"), ("ums", ":")):
                estimates = [row[reference]["bands"][band][score] for row in rows]
                _curve(axis, scales, estimates, color, style, f"{score.upper()}, {name}")
        axis.set(title=f"{band} [{low:g}, {high:g}{']' if high >= 1 else ')'}", xlabel="λ", ylabel="% of images")
        axis.set_ylim(bottom=0)
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=8, loc="outside upper center", ncols=4)
    return svg(figure)


def histogram_scales(metrics: dict[str, Any]) -> list[float]:
    """The λ that get a histogram: all, or if they are many the ends, the highest AMS and some evenly between."""
    rows = sorted(metrics["scales"], key=lambda row: row["scale"])
    if len(rows) <= _HISTOGRAMS:
        return [row["scale"] for row in rows]
    top = metrics["bands"][-1][0]
    highest = max(range(len(rows)), key=lambda i: rows[i]["train"]["bands"][top]["ams"]["value"])
    places = np.linspace(0, len(rows) - 1, _HISTOGRAMS).round().astype(int)
    if highest not in places:
        places[1 + int(np.abs(places[1:-1] - highest).argmin())] = highest
    return [rows[i]["scale"] for i in places]


def score_histograms(metrics: dict[str, Any], best: dict[float, dict[str, np.ndarray]]) -> str:
    """Best score of every image against training and held-out photos, by λ; gray: held-out photos themselves.

    Args:
      metrics: metrics.json.
      best: λ, in the order shown -> reference name -> best score per generated image.
    """
    figure, axes = new_axes(len(best), columns=3, width=3.7, height=2.6)
    everything = np.concatenate([scores for by_name in best.values() for scores in by_name.values()]).astype(float)
    edges = np.linspace(np.floor(np.quantile(everything, 0.01) * 20) / 20, 1.0, 41)
    for axis, (scale, by_name) in zip(axes, best.items(), strict=True):
        if metrics["heldout_photos"]:
            real = metrics["heldout_photos"]["best"]
            axis.hist(real, edges, density=True, color=REAL, alpha=0.35, label="held-out photo to training")
        for name, color in (("training", TRAIN), ("held-out", HELDOUT)):
            if name in by_name:
                axis.hist(by_name[name], edges, density=True, histtype="step", color=color, linewidth=1.6, label=name)
        for _, low, _ in metrics["bands"]:
            axis.axvline(low, color="black", linewidth=0.6, linestyle=":")
        axis.set(title=f"λ = {scale:g}", xlabel="best score γ", yticks=[])
    axes[0].legend(fontsize=8, loc="upper left")
    return svg(figure)


def agreement_curve(curves: dict[str, dict[str, float]], num_classes: int) -> str:
    """Share of images that a guide gives their label, by noise level, and chance.

    Args:
      curves: name -> t -> share.
      num_classes: K.
    """
    figure, (axis,) = new_axes(1, columns=1)
    for (name, shares), color, style in zip(curves.items(), _GUIDES, ("-", "--", "-."), strict=False):
        t = [int(timestep) for timestep in shares]
        axis.plot(t, [100 * share for share in shares.values()], style, marker="o", color=color, label=name)
    axis.axhline(100 / num_classes, color=REAL, linestyle=":", label="chance")
    axis.set(xlabel="timestep t (noise grows to the right)", ylabel="agreement with the labels, %", ylim=(0, 102))
    axis.legend(fontsize=8)
    return svg(figure)
