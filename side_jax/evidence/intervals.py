"""95 % confidence intervals and paired tests. Generated images are independent draws; λ's are paired by image index."""

from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.95
_Z = float(stats.norm.ppf(0.5 + LEVEL / 2))


class Estimate(NamedTuple):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


def proportion(hits: np.ndarray) -> Estimate:
    """A share of independent images, with the exact Clopper–Pearson interval. bool [N]."""
    count = int(hits.sum())
    interval = stats.binomtest(count, len(hits)).proportion_ci(LEVEL, method="exact")
    return Estimate(count / len(hits), float(interval.low), float(interval.high))


def mean(values: np.ndarray) -> Estimate:
    """A mean with its normal interval. float [N], N ≥ 2."""
    spread = _Z * float(values.std(ddof=1)) / np.sqrt(len(values))
    centre = float(values.mean())
    return Estimate(centre, centre - spread, centre + spread)


def lone_finds(found: list[np.ndarray]) -> np.ndarray:
    """For each generated image, how many training images it alone finds: what UMS loses without it. int [N].

    Args:
      found: per generated image, the distinct training images it finds.
    """
    lengths = [len(ids) for ids in found]
    flat = np.concatenate(found) if found else np.zeros(0, np.int64)
    owner = np.repeat(np.arange(len(found)), lengths)
    _, position, counts = np.unique(flat, return_inverse=True, return_counts=True)
    return np.bincount(owner[counts[position] == 1], minlength=len(found))


def unique_share(found: list[np.ndarray]) -> Estimate:
    """Distinct training images found, over N, with a jackknife interval.

    Deleting image i loses exactly its lone finds, so the jackknife needs no recomputation. Its variance errs on the
    large side (Efron and Stein 1981), but does not see that a photo found c ≥ 2 times might have been missed; as a
    Poisson count it would be with probability e^−c, and that variance is added. With no find at all the upper end is
    Clopper–Pearson's for a share of zero.
    """
    n = len(found)
    value = len(np.unique(np.concatenate(found))) / n
    if value == 0:
        return Estimate(0.0, 0.0, proportion(np.zeros(n, bool)).high)
    spread = _Z * np.sqrt(_jackknife_variance(lone_finds(found)) + _repeat_variance(found)) / n
    return Estimate(value, max(0.0, value - spread), value + spread)


def unique_difference(winners: np.ndarray, baseline: np.ndarray, seed: int = 0) -> tuple[Estimate, float]:
    """UMS minus a baseline's UMS, image i paired with image i: (estimate, p of a two-sided sign-flip test).

    If guidance makes no difference, each pair might as well be swapped; p is the share of 1,999 random swappings (and
    the actual one) that give at least this difference. Exact, also for the few finds on which an interval is rough.

    Args:
      winners: each image's best training image in the band, or −1: int [N].
      baseline: the same for the baseline.
      seed: of the swappings.
    """
    n = len(winners)
    first, second = _as_found(winners), _as_found(baseline)
    difference = _count(winners) - _count(baseline)
    variance = _jackknife_variance(lone_finds(first) - lone_finds(second))
    variance += _repeat_variance(first) + _repeat_variance(second)
    spread = max(_Z * float(np.sqrt(variance)) / n, proportion(np.zeros(n, bool)).high)
    rng, extreme = np.random.default_rng((seed, 3)), 1
    for _ in range(_SWAPPINGS):
        swap = rng.random(n) < 0.5
        swapped = _count(np.where(swap, baseline, winners)) - _count(np.where(swap, winners, baseline))
        extreme += abs(swapped) >= abs(difference)
    return Estimate(difference / n, difference / n - spread, difference / n + spread), extreme / (_SWAPPINGS + 1)


_SWAPPINGS = 1_999


def _count(winners: np.ndarray) -> int:
    return int((np.bincount(winners + 1)[1:] > 0).sum())


def _as_found(winners: np.ndarray) -> list[np.ndarray]:
    return [np.array([w] if w >= 0 else [], int) for w in winners]


def _jackknife_variance(lost: np.ndarray) -> float:
    """Variance of a count, from what each deletion takes off it."""
    n = len(lost)
    return float((n - 1) / n * np.square(lost - lost.mean()).sum())


def _repeat_variance(found: list[np.ndarray]) -> float:
    """Variance of a count that photos found more than once add, each being missed with probability e^−c."""
    counts = np.unique(np.concatenate(found), return_counts=True)[1]
    missed = np.exp(-counts[counts >= 2].astype(float))
    return float((missed * (1 - missed)).sum())


def share_difference(hits: np.ndarray, baseline: np.ndarray) -> tuple[Estimate, float]:
    """Share minus a baseline's share, image i paired with image i: (estimate, p of McNemar's exact two-sided test)."""
    gained, lost = int((hits & ~baseline).sum()), int((~hits & baseline).sum())
    p = float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    return mean(hits.astype(float) - baseline.astype(float)), p
