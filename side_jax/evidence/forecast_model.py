"""A model of how often photos are matched, for forecasts beyond twice a sweep; and all forecasts of one λ.

Each of the M photos is matched at a rate of its own. The model is that the rates come from one gamma distribution, so
that the counts are negative binomial (Greenwood and Yule 1920; of species, Fisher, Corbet and Williams 1943). The
photos that are not matched are known here, as M is: they are counts of 0, and no truncated law is needed. A gamma
distribution may be wrong, and no sweep can tell how the rates of its unmatched photos are distributed: what this module
forecasts holds if the model does.
"""

from typing import NamedTuple

import numpy as np
from scipy import special

from side_jax.evidence.forecast import chao1, extrapolated, rarefied, smoothed, unseen_mass
from side_jax.evidence.intervals import LEVEL, Estimate, Finds

_DRAWS = 400  # of the bootstrap
_LOG_SHAPES = np.linspace(-8, 8, 161)  # log r; beyond the upper end rates hardly differ
BEYOND = (5, 10, 100)  # multiples of N that the model forecasts; the smoothed series the first, which is about ln N
_POINTS = 25  # of a curve


class GammaRates(NamedTuple):
    """Rates per sweep of N images: gamma of shape r and mean μ."""

    shape: float
    mean: float

    def unmatched(self, more: float) -> float:
        """P(not matched in `more` further sweeps | not matched in the first): (1 + t / (1 + r / μ))^−r."""
        return float(np.exp(-self.shape * np.log1p(more / (1 + self.shape / self.mean))))


def fitted(times: np.ndarray) -> GammaRates:
    """The maximum-likelihood fit to the number of matches of each photo, int [M], not all 0.

    For every r the best μ is the mean count, so that one number is searched: on a grid, with a parabola at its best.
    """
    values, count = np.unique(times, return_counts=True)
    mean, shape = float(times.mean()), np.exp(_LOG_SHAPES)
    likelihood = count @ (special.gammaln(values[:, None] + shape) - special.gammaln(shape))
    likelihood += len(times) * shape * np.log(shape / (shape + mean)) - times.sum() * np.log(shape + mean)
    best = int(np.clip(likelihood.argmax(), 1, len(shape) - 2))
    left, centre, right = likelihood[best - 1 : best + 2]
    bend = left - 2 * centre + right
    step = float(np.clip((left - right) / (2 * bend), -1, 1)) if bend < 0 else 0.0
    return GammaRates(float(np.exp(_LOG_SHAPES[best] + step * (_LOG_SHAPES[1] - _LOG_SHAPES[0]))), mean)


def modelled(finds: Finds, num_photos: int, num_images: list[int], seed: int) -> list[Estimate] | None:
    """Distinct photos that so many images will match if rates are gamma; None if no photo was matched.

    The value is the expectation at the fit. The 95 % prediction interval is a parametric bootstrap: sweeps are drawn
    from the fit, the model is fitted to each, and what further images match is drawn from that.

    Args:
      finds: the matches of N images.
      num_photos: M.
      num_images: N or more each.
      seed: of the bootstrap.
    """
    times = np.bincount(finds.photos, minlength=num_photos)
    if not times.any():
        return None
    model, rng, missed = fitted(times), np.random.default_rng((seed, 4)), int((times == 0).sum())
    seen, more = num_photos - missed, np.array(num_images) / finds.num_images - 1
    draws = np.empty((_DRAWS, len(more)))
    for draw in draws:
        again = rng.poisson(rng.gamma(model.shape, model.mean / model.shape, num_photos))
        refitted = fitted(again) if again.any() else model
        draw[:] = [rng.binomial(missed, 1 - refitted.unmatched(t)) for t in more]
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    values = [missed * (1 - model.unmatched(t)) for t in more]
    ends = zip(values, np.minimum(low, values), np.maximum(high, values), strict=True)
    return [Estimate(*(seen + float(x) for x in row)) for row in ends]


def forecast(finds: Finds, num_photos: int, seed: int) -> dict[str, object]:
    """What metrics.json says of the photos that one λ has found and will find.

    Args:
      finds: the matches of N images in one band, at most one each.
      num_photos: M.
      seed: of the model's bootstrap.

    Returns:
      "num_images", "photos", "hits", "seen"; "unseen_mass"; "curve": n -> distinct photos found by n of the images;
      "good_toulmin": n -> from N to 2 N; "smoothed": the same series at 5 N; "model": n -> for `BEYOND`, or None;
      "chao1"; "check": the whole forecast from the first half (Good and Toulmin) and from the first tenth (the model),
      beside what came, which is "seen". No forecast exceeds M.
    """
    total = finds.num_images
    inside = np.unique(np.linspace(0, total, _POINTS).astype(int))
    ahead = np.unique(np.linspace(total, 2 * total, _POINTS).astype(int))
    beyond = [times * total for times in BEYOND]
    found = modelled(finds, num_photos, beyond, seed)
    return {
        "num_images": total,
        "photos": num_photos,
        "hits": len(finds.images),
        "seen": finds.distinct(),
        "unseen_mass": unseen_mass(finds)._asdict(),
        "curve": [[int(n), rarefied(finds, int(n))] for n in inside],
        "good_toulmin": [{"num_images": int(n)} | capped(extrapolated(finds, int(n)), num_photos) for n in ahead],
        "smoothed": {"num_images": beyond[0]} | capped(smoothed(finds, beyond[0]), num_photos),
        "model": [{"num_images": n} | one._asdict() for n, one in zip(beyond, found, strict=True)] if found else None,
        "chao1": chao1(finds, num_photos)._asdict(),
        "check": _check(finds, num_photos, seed),
    }


def capped(estimate: Estimate, num_photos: int) -> dict[str, float]:
    """The estimate, of at most M photos, as metrics.json has it."""
    return {name: min(float(num_photos), value) for name, value in estimate._asdict().items()}


def first_images(finds: Finds, count: int) -> Finds:
    """The matches of the first `count` images."""
    kept = finds.images < count
    return Finds(finds.images[kept], finds.photos[kept], count)


def _check(finds: Finds, num_photos: int, seed: int) -> dict[str, object]:
    """The whole sweep forecast from its beginning."""
    total = finds.num_images
    half, tenth = (total + 1) // 2, max(1, total // 10)
    found = modelled(first_images(finds, tenth), num_photos, [total], seed)
    return {
        "half": half,
        "from_half": capped(extrapolated(first_images(finds, half), total), num_photos),
        "tenth": tenth,
        "from_tenth": found[0]._asdict() if found else None,
    }
