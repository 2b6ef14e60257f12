"""Parts: two regimes, each one audit of every method by λ: a target that copies much, and one that copies less."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from etils import epath
from ml_collections import ConfigDict

import side_jax
from configs import orl
from docs.theory.plotting import BLUE, GRAY, GREEN, ORANGE, RED, panels, save
from side_jax.artifacts import read_json

WORKDIRS = Path("runs/guidance")
HELDOUT = {"few": 0.5, "many": 0.1}  # of 400 photos: 200 and 360 are trained on
METHODS = {
    "few": ("random", "side_exact", "side_repeats"),
    "many": ("random", "side_exact", "side_repeats", "side", "exact_train", "exact_heldout"),
}
_NAMES = {
    "random": "Random",
    "side": "SIDE, student",
    "side_exact": "SIDE, exact",
    "side_repeats": "SIDE, exact, repeats",
    "exact_train": "bound: exact, training photos",
    "exact_heldout": "control: exact, held-out photos",
}
_COLORS = {"side": ORANGE, "side_exact": RED, "side_repeats": GREEN, "exact_train": BLUE, "exact_heldout": GRAY}


def make(figures: Path, regime: str, num_images: int, target: str = "") -> dict[str, Any]:
    """Runs or resumes the audit, draws, and returns its numbers.

    Args:
      figures: where SVGs go.
      regime: "few" (the demo's target) or "many".
      num_images: per λ and method.
      target: a target of that regime; empty: the demo's, or one trained here, 35 minutes on 2 cores.
    """
    config = _config(regime, num_images, target)
    WORKDIRS.mkdir(parents=True, exist_ok=True)
    workdir = side_jax.run(config, WORKDIRS / regime)
    metrics = read_json(epath.Path(workdir) / "metrics.json")
    _draw(figures / f"guidance_{regime}.svg", metrics["methods"])
    return {
        "num_images": num_images,
        "photos": metrics["images"],
        "methods": [group | {"name": _NAMES[group["method"]]} for group in metrics["methods"]],
        "unguided": metrics["scales"][0],
        "photos_by_images": _rarefaction(workdir, metrics),
    }


def _config(regime: str, num_images: int, target: str) -> ConfigDict:
    config = orl.get_config()
    config.methods = METHODS[regime]
    config.dataset.heldout_fraction = HELDOUT[regime]
    config.classifier.train.num_steps = 1_500
    config.classifier.learn = "posterior"
    config.extract.update({"num_images": num_images, "save_images": "none"})
    config.detect.num_images, config.steer.weights = 0, ()
    if regime == "many" and not target:
        config.target.update({"source": "train", "path": ""})
    elif target:
        config.target.path = target
    return config


def _rarefaction(workdir: epath.Path, metrics: dict[str, Any]) -> dict[str, Any]:
    """Different photos found by the first N images, of Random and of the two exact guides at their best λ."""
    low = metrics["bands"][-1][1]
    table = pq.read_table(workdir / "matches.parquet", columns=["method", "scale", "index", "ids", "scores"])
    method, scale = np.array(table["method"]), np.array(table["scale"])
    curves: dict[str, Any] = {}
    chosen = {"random": 0.0}
    for group in metrics["methods"]:
        if group["method"] in ("side_exact", "side_repeats"):
            chosen[group["method"]] = group["against_random"]["ums"]["scale"]
    for name, lam in chosen.items():
        rows = table.filter((method == name) & (scale == np.float32(lam)))
        first = np.array([ids[0] for ids in rows["ids"].to_pylist()])
        hit = np.array([scores[0] for scores in rows["scores"].to_pylist()]) >= low
        counts = np.unique(np.linspace(0, len(rows), 9).astype(int))[1:]
        curves[name] = {"scale": lam, "images": counts, "photos": [len(set(first[:n][hit[:n]])) for n in counts]}
    return curves


def _draw(path: Path, methods: list[dict[str, Any]]) -> None:
    """AMS and UMS by λ with intervals; Random as a line."""
    figure, axes = panels(2, 2, 4.8)
    for axis, score in zip(axes, ("ams", "ums"), strict=True):
        for group in methods:
            rows = group["scales"]
            scales = [row["scale"] for row in rows]
            value, low, high = (100 * np.array([row["train"][score][key] for row in rows]) for key in _INTERVAL)
            if group["method"] == "random":
                axis.axhspan(low[0], high[0], color="black", alpha=0.08)
                axis.axhline(value[0], color="black", linewidth=1, label=_NAMES["random"])
                continue
            errors = np.maximum([value - low, high - value], 0)
            look = {"color": _COLORS[group["method"]], "marker": "o", "markersize": 3, "capsize": 2, "linewidth": 1.2}
            axis.errorbar(scales, value, errors, label=_NAMES[group["method"]], **look)
        axis.set(xlabel="λ", ylabel="% of images", title=f"{score.upper()}, score ≥ 0.98", ylim=(0, None))
    axes[1].legend(fontsize=7)
    save(figure, path)


_INTERVAL = ("value", "low", "high")
