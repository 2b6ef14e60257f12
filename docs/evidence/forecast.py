"""The forecast from the first tenth of a sweep against the whole: `python -m docs.evidence.forecast`.

4,800 unguided images of the ORL target, 20 minutes on two idle cores; what is matched is kept in runs/evidence. Prints
docs/evidence/forecast.json, and draws docs/figures/evidence_forecast.svg.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import side_jax
from configs import orl
from docs.theory.plotting import BLUE, GRAY, GREEN, ORANGE, panels, save
from side_jax.audit.dataset import load_split
from side_jax.audit.options import AuditOptions
from side_jax.evidence.forecast import chao1, extrapolated, rarefied, smoothed, unseen_mass
from side_jax.evidence.forecast_model import capped, first_images, modelled
from side_jax.evidence.intervals import Finds
from side_jax.runtime.sharding import stage_key
from side_jax.targets.sampling import Sampler, Sampling

NUM_IMAGES, NUM_STEPS, SEED, HIT = 4_800, 25, 0, 0.98  # fixed before any image was generated
HERE = Path(__file__).parent
NUMBERS, FIGURES = HERE / "forecast.json", HERE.parent / "figures"
PHOTOS = 200  # of training
_KEPT = Path("runs/evidence/forecast")
_CHUNK = 240


def winners() -> np.ndarray:
    """The best match of each image in the demo's highest band, −1 for the others: int [N]. Made, or read if kept."""
    _KEPT.mkdir(parents=True, exist_ok=True)
    options = AuditOptions.from_config(orl.get_config())
    target, embed = side_jax.load_target(options.target.path), side_jax.load_descriptor("pixel")
    photos = embed(load_split(options.dataset).train.images)
    sampler = Sampler(target, stage_key(SEED, "forecast"), Sampling(NUM_STEPS, batch_size=60))
    chunks = []
    for start in range(0, NUM_IMAGES, _CHUNK):
        path = _KEPT / f"{start:06d}.npy"
        if not path.exists():
            images = np.concatenate([batch for _, batch in sampler(np.arange(start, start + _CHUNK), 0.0)])
            found = side_jax.match(embed(images), photos, k=1)
            np.save(path, np.where(found.scores[:, 0] >= HIT, found.indices[:, 0], -1))
            print(f"{start + _CHUNK} images", flush=True)
        chunks.append(np.load(path))
    return np.concatenate(chunks)


def measure(found: np.ndarray) -> dict[str, Any]:
    """Forecasts from the first tenth against what came, and whether those of all ten tenths hold.

    Args:
      found: best match of each image, −1 for none: int [N], N a multiple of 10.
    """
    whole, tenth = Finds.of(found), len(found) // 10
    first = first_images(whole, tenth)
    numbers = [2 * tenth, 5 * tenth, 10 * tenth]
    later, known = found[tenth:], np.unique(first.photos)
    model = modelled(first, PHOTOS, numbers, SEED)
    assert model is not None
    rows = [
        {"num_images": n, "came": first_images(whole, n).distinct(), "on_average": rarefied(whole, n)}
        | {"model": capped(one, PHOTOS)}
        | {"series": capped((extrapolated if n == 2 * tenth else smoothed)(first, n), PHOTOS)}
        for n, one in zip(numbers, model, strict=True)
    ]
    return {
        "num_images": len(found),
        "hits": len(whole.images),
        "seen": whole.distinct(),
        "tenth": {"num_images": tenth, "hits": len(first.images), "seen": first.distinct()},
        "unseen_mass": unseen_mass(first)._asdict() | {"came": float(((later >= 0) & ~np.isin(later, known)).mean())},
        "chao1": chao1(first, PHOTOS)._asdict(),
        "forecasts": rows,
        "tenths": _every_tenth(found.reshape(10, tenth)),
    }


def _every_tenth(tenths: np.ndarray) -> dict[str, Any]:
    """How many of the forecasts from each tenth alone hold what came: of two tenths, and of all ten."""
    whole, held = len(np.setdiff1d(tenths, [-1])), {"series_2": 0, "model_2": 0, "model_10": 0, "unseen_mass": 0}
    values = []
    for i, part in enumerate(tenths):
        finds, others = Finds.of(part), np.delete(tenths, i, axis=0).ravel()
        double = len(np.setdiff1d([*part, *tenths[(i + 1) % 10]], [-1]))
        model = modelled(finds, PHOTOS, [2 * len(part), 10 * len(part)], SEED)
        assert model is not None
        mass, new = unseen_mass(finds), ((others >= 0) & ~np.isin(others, finds.photos)).mean()
        forecasts = (extrapolated(finds, 2 * len(part)), double), (model[0], double), (model[1], whole), (mass, new)
        for name, (estimate, came) in zip(held, forecasts, strict=True):
            held[name] += int(estimate.low <= came <= estimate.high)
        values.append(model[1].value)
    return {"hold": held, "model_10": values}


def draw(found: np.ndarray, numbers: dict[str, Any], folder: Path) -> None:
    """What was found by number of images, and the forecasts from the first tenth."""
    figure, (axis,) = panels(1, columns=1, width=6.5, height=4)
    tenth, whole = numbers["tenth"]["num_images"], Finds.of(found)
    first = first_images(whole, tenth)
    steps = np.unique(np.linspace(0, len(found), 81).astype(int))
    axis.plot(steps, [first_images(whole, int(n)).distinct() for n in steps], color=GRAY, label="what came")
    series = np.linspace(tenth, 2 * tenth, 9).astype(int)
    _band(axis, series, [extrapolated(first, int(n)) for n in series], BLUE, "series, to 2 N")
    ahead = np.linspace(2 * tenth, len(found), 17).astype(int)
    model = modelled(first, PHOTOS, [int(n) for n in ahead], SEED)
    assert model is not None
    _band(axis, ahead, model, ORANGE, "model: rates of photos are gamma")
    axis.axhline(numbers["chao1"]["value"], color=GREEN, linestyle=":", label="Chao's lower bound")
    axis.axvline(tenth, color=GRAY, linewidth=0.8, linestyle=":")
    axis.set(xlabel="unguided images", ylabel="different training photos", title="Forecast from the first tenth")
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False, loc="lower right")
    save(figure, folder / "evidence_forecast.svg")


def _band(axis: Any, numbers: np.ndarray, estimates: list[Any], colour: str, label: str) -> None:
    value, low, high = np.minimum(np.array(estimates).T, PHOTOS)
    axis.plot(numbers, value, color=colour, label=label)
    axis.fill_between(numbers, low, high, color=colour, alpha=0.25, linewidth=0)


def main() -> int:
    """Makes images, numbers and figure; images that were matched before are not made again."""
    found = winners()
    numbers = {"num_steps": NUM_STEPS, "seed": SEED, "threshold": HIT, "photos": PHOTOS} | measure(found)
    text = json.dumps(numbers, indent=1)
    NUMBERS.write_text(text + "\n", encoding="utf-8")
    print(text)
    draw(found, numbers, FIGURES)
    return 0


if __name__ == "__main__":
    sys.exit(main())
