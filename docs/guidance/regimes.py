"""Parts that are audits of methods by λ: of a target that copies much, and of one that copies less."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from etils import epath
from ml_collections import ConfigDict

import side_jax
from configs import orl
from docs.guidance.setting import WORKDIRS, describe, training_photos
from docs.theory.plotting import BLUE, GRAY, GREEN, ORANGE, RED, panels, save
from side_jax.runtime.arrays import load_array
from side_jax.runtime.files import read_json
from side_jax.surrogate.stored import SYNTHETIC


class Regime(NamedTuple):
    """One audit.

    Attributes:
      methods: its rows.
      heldout: share of the 400 photos that are held out; half leaves 200 to train on, as in the demo, a tenth 360.
      scales: λ.
      synthetic: images that guides learn from.
      equal_compute: as of the extract stage.
    """

    methods: tuple[str, ...]
    heldout: float = 0.5
    scales: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0, 8.0)
    synthetic: int = 1_024
    equal_compute: bool = True


REGIMES = {
    "few": Regime(("random", "side_exact", "side_repeats")),
    "trained": Regime(("random", "side"), scales=(0.0, 2.0, 4.0), equal_compute=False),
    "wide": Regime(("random", "side_repeats"), scales=(0.0, 2.0, 4.0), synthetic=3_072),
    "control": Regime(("random", "ol_ti", "exact_heldout"), scales=(0.0, 1.0, 4.0), equal_compute=False),
    "many": Regime(("random", "side_exact", "side_repeats", "side", "exact_train", "exact_heldout"), heldout=0.1),
}
_NAMES = {
    "random": "Random",
    "ol_ti": "OL-TI",
    "side": "SIDE, student",
    "side_exact": "SIDE, exact",
    "side_repeats": "SIDE, exact, repeats",
    "exact_train": "bound: exact, training photos",
    "exact_heldout": "control: exact, held-out photos",
}
_COLORS = {
    "ol_ti": ORANGE,
    "side": ORANGE,
    "side_exact": RED,
    "side_repeats": GREEN,
    "exact_train": BLUE,
    "exact_heldout": GRAY,
}


def make(figures: Path, regime: str, num_images: int, target: str = "") -> dict[str, Any]:
    """Runs or resumes the audit, draws, and returns its numbers.

    Args:
      figures: where SVGs go.
      regime: of `REGIMES`.
      num_images: per λ and method.
      target: a target of that regime; empty: the demo's or, of "many", one trained here, 35 minutes on 2 cores.
    """
    config = config_of(regime, num_images, target)
    WORKDIRS.mkdir(parents=True, exist_ok=True)
    workdir = side_jax.run(config, WORKDIRS / regime)
    metrics = read_json(epath.Path(workdir) / "metrics.json")
    found = _found(epath.Path(workdir), metrics)
    _draw(figures / f"guidance_{regime}.svg", metrics["methods"])
    return {
        "num_images": num_images,
        "photos": metrics["images"],
        "methods": [group | {"name": _NAMES[group["method"]]} for group in metrics["methods"]],
        "unguided": metrics["scales"][0],
        "synthetic": REGIMES[regime].synthetic,
        "photos_by_images": _rarefaction(found),
        "together": _together(epath.Path(workdir), metrics, found),
    }


def config_of(regime: str, num_images: int, target: str = "") -> ConfigDict:
    """The demo's, with every method of the regime."""
    config = orl.get_config()
    chosen = REGIMES[regime]
    config.methods = chosen.methods
    config.dataset.heldout_fraction = chosen.heldout
    config.synthesize.num_images = chosen.synthetic
    config.classifier.train.num_steps = 1_500
    config.classifier.learn = "posterior"
    config.extract.update({"scales": chosen.scales, "num_images": num_images, "save_images": "none"})
    config.extract.equal_compute = chosen.equal_compute
    config.detect.num_images, config.steer.weights = 0, ()
    if regime == "many" and not target:
        config.target.update({"source": "train", "path": ""})
    elif target:
        config.target.path = target
    return config


class _Found(NamedTuple):
    """Nearest photo of each image by index, and whether it is a hit."""

    photo: np.ndarray
    hit: np.ndarray

    def photos(self, count: int | None = None) -> set[str]:
        """Those that the first `count` images find."""
        return set(self.photo[:count][self.hit[:count]])


def _found(workdir: epath.Path, metrics: dict[str, Any]) -> dict[str, tuple[float, _Found]]:
    """Of Random and of every guide at its best λ on even images: λ, and what it found."""
    low = metrics["bands"][-1][1]
    table = pq.read_table(workdir / "matches.parquet", columns=["method", "scale", "index", "ids", "scores"])
    method, scale = np.array(table["method"]), np.array(table["scale"])
    chosen = {"random": 0.0}
    for group in metrics["methods"]:
        if group["against_random"]:
            chosen[group["method"]] = group["against_random"]["ums"]["scale"]
    found = {}
    for name, lam in chosen.items():
        rows = table.filter((method == name) & (scale == np.float32(lam)))
        first = np.array([ids[0] for ids in rows["ids"].to_pylist()])
        found[name] = lam, _Found(first, np.array([scores[0] for scores in rows["scores"].to_pylist()]) >= low)
    return found


def _rarefaction(found: dict[str, tuple[float, _Found]]) -> dict[str, Any]:
    """Different photos found by the first N images."""
    curves: dict[str, Any] = {}
    for name, (lam, one) in found.items():
        counts = np.unique(np.linspace(0, len(one.hit), 9).astype(int))[1:]
        hits, photos = [one.hit[:n].sum() for n in counts], [len(one.photos(n)) for n in counts]
        curves[name] = {"scale": lam, "images": counts, "hits": hits, "photos": photos}
    return curves


def _together(
    workdir: epath.Path, metrics: dict[str, Any], found: dict[str, tuple[float, _Found]]
) -> dict[str, dict[str, int]]:
    """Different photos among a method's synthetic images, its guided ones, and both; and Random's at equal compute."""
    compared = [group for group in metrics["methods"] if group["against_random"]]
    compared = [group for group in compared if group["against_random"]["equal_compute"]]
    if not compared:
        return {}
    photos = training_photos(side_jax.load_target(workdir))
    scores = describe(load_array(workdir / SYNTHETIC)) @ describe(photos.images).T
    synthetic = _Found(np.array(photos.ids)[scores.argmax(1)], scores.max(1) >= metrics["bands"][-1][1]).photos()
    counts = {}
    for group in compared:
        images = group["against_random"]["equal_compute"]["cost"]["random_images"]
        guided, random = found[group["method"]][1].photos(), found["random"][1].photos(images)
        counts[group["method"]] = {"synthetic": len(synthetic), "guided": len(guided)}
        counts[group["method"]] |= {"both": len(synthetic | guided), "random": len(random), "random_images": images}
    return counts


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
