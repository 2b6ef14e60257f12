"""95 % confidence intervals and paired tests. Generated images are independent draws; λ's are paired by image index."""

from collections.abc import Callable, Sequence
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
    return mean_unique_share([found])


def mean_unique_share(sweep: Sequence[list[np.ndarray]]) -> Estimate:
    """`unique_share` averaged over several λ, image i paired with image i: L lists of N.

    Deleting image i deletes it at every λ. What repeated finds add counts as fully correlated over λ, an upper bound.
    """
    n = len(sweep[0])
    value = float(np.mean([len(np.unique(np.concatenate(found))) for found in sweep])) / n
    if value == 0:
        return Estimate(0.0, 0.0, proportion(np.zeros(n, bool)).high)
    lost = np.mean([lone_finds(found) for found in sweep], axis=0)
    repeats = float(np.mean([_repeat_variance(found) for found in sweep]))
    spread = _Z * np.sqrt(_jackknife_variance(lost) + repeats) / n
    return Estimate(value, max(0.0, value - spread), value + spread)


def mean_share(hits: np.ndarray) -> Estimate:
    """A share averaged over several λ, image i paired with image i: bool [L, N]. For one λ it is `proportion`."""
    if len(hits) == 1 or not hits.any():
        return proportion(hits[0])
    estimate = mean(hits.mean(0))
    return estimate._replace(low=max(0.0, estimate.low))


def unique_difference(winners: np.ndarray, baseline: np.ndarray, seed: int = 0) -> tuple[Estimate, float]:
    """UMS, averaged over λ, minus a baseline's, image i paired with image i: (estimate, two-sided p).

    If guidance makes no difference, image i and its baseline might as well be swapped; p is the share of 1,999 random
    swappings (and the actual one) that give at least this difference, also for the few finds on which an interval is
    rough. An image is swapped at every λ or at none: its outcomes at neighbouring λ are much alike, and count once.

    Args:
      winners: each image's best training image in the band, or −1: int [N], or [L, N] for L λ.
      baseline: the same for the baseline: int [N].
      seed: of the swappings.
    """
    winners = np.atleast_2d(winners)
    n = len(baseline)
    lost = np.mean([lone_finds(_as_found(row)) for row in winners], axis=0) - lone_finds(_as_found(baseline))
    variance = _jackknife_variance(lost) + _repeat_variance(_as_found(baseline))
    variance += float(np.mean([_repeat_variance(_as_found(row)) for row in winners]))
    spread = max(_Z * float(np.sqrt(variance)) / n, proportion(np.zeros(n, bool)).high)

    def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
        return float(np.mean([_count(row) for row in ours]) - np.mean([_count(row) for row in theirs]))

    value, p = _swap_test(winners, baseline, difference, seed)
    return Estimate(value / n, value / n - spread, value / n + spread), p


def share_difference(hits: np.ndarray, baseline: np.ndarray, seed: int = 0) -> tuple[Estimate, float]:
    """A share, averaged over λ, minus a baseline's, image i paired with image i: (estimate, two-sided p).

    For one λ the test is McNemar's, exact; for several that of `unique_difference`.

    Args:
      hits: bool [N], or [L, N] for L λ.
      baseline: bool [N].
      seed: of the swappings.
    """
    hits = np.atleast_2d(hits)
    estimate = mean(hits.mean(0) - baseline)
    if estimate.low == estimate.high:  # no pair differs
        spread = proportion(np.zeros(len(baseline), bool)).high
        estimate = Estimate(estimate.value, estimate.low - spread, estimate.high + spread)
    if len(hits) == 1:
        gained, lost = int((hits[0] & ~baseline).sum()), int((~hits[0] & baseline).sum())
        return estimate, float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    return estimate, _swap_test(hits, baseline, lambda ours, theirs: ours.mean() - theirs.mean(), seed)[1]


_SWAPPINGS = 1_999


def _swap_test(
    outcomes: np.ndarray, baseline: np.ndarray, statistic: Callable[[np.ndarray, np.ndarray], float], seed: int
) -> tuple[float, float]:
    """`statistic` of outcomes [L, N] and the baseline [N], and the share of random swappings that are as extreme."""
    theirs = np.broadcast_to(baseline, outcomes.shape)
    actual = statistic(outcomes, theirs)
    rng, extreme = np.random.default_rng((seed, 3)), 1
    for _ in range(_SWAPPINGS):
        swap = rng.random(len(baseline)) < 0.5
        swapped = statistic(np.where(swap, theirs, outcomes), np.where(swap, outcomes, theirs))
        extreme += abs(swapped) >= abs(actual) - 1e-12
    return actual, extreme / (_SWAPPINGS + 1)


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
