"""95 % confidence intervals and paired tests. Generated images are independent draws; λ's are paired by image index."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from side_jax.evidence.bitsets import column_sums, pack, union

LEVEL = 0.95
_Z = float(stats.norm.ppf(0.5 + LEVEL / 2))


class Estimate(NamedTuple):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


class Finds(NamedTuple):
    """Which training images each of N generated images finds, as pairs; no pair occurs twice.

    Attributes:
      images: which generated image, int [E].
      photos: which training image it finds, int [E].
      num_images: N.
    """

    images: np.ndarray
    photos: np.ndarray
    num_images: int

    @classmethod
    def of(cls, winners: np.ndarray) -> "Finds":
        """At most one each: int [N], −1 for none."""
        images = np.flatnonzero(winners >= 0)
        return cls(images, winners[images], len(winners))

    def times(self) -> np.ndarray:
        """How many generated images find each training image, int [at most M]."""
        return np.bincount(self.photos)

    def distinct(self) -> int:
        """Training images found."""
        return int(np.count_nonzero(self.times()))


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


def lone_finds(found: Finds) -> np.ndarray:
    """For each generated image, how many training images it alone finds: what UMS loses without it. int [N]."""
    alone = found.times()[found.photos] == 1
    return np.bincount(found.images[alone], minlength=found.num_images)


def unique_share(found: Finds) -> Estimate:
    """Distinct training images found, over N, with a jackknife interval.

    Deleting image i loses exactly its lone finds, so the jackknife needs no recomputation. Its variance errs on the
    large side (Efron and Stein 1981), but does not see that a photo found c ≥ 2 times might have been missed; as a
    Poisson count it would be with probability e^−c, and that variance is added. With no find at all the upper end is
    Clopper–Pearson's for a share of zero.
    """
    return mean_unique_share([found])


def mean_unique_share(sweep: Sequence[Finds]) -> Estimate:
    """`unique_share` averaged over several λ, image i paired with image i.

    Deleting image i deletes it at every λ. What repeated finds add counts as fully correlated over λ, an upper bound.
    """
    n = sweep[0].num_images
    value = float(np.mean([found.distinct() for found in sweep])) / n
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
    sweep, before = [Finds.of(row) for row in np.atleast_2d(winners)], Finds.of(baseline)
    n = len(baseline)
    lost = np.mean([lone_finds(found) for found in sweep], axis=0) - lone_finds(before)
    variance = _jackknife_variance(lost) + _repeat_variance(before)
    variance += float(np.mean([_repeat_variance(found) for found in sweep]))
    spread = max(_Z * float(np.sqrt(variance)) / n, proportion(np.zeros(n, bool)).high)
    value = float(np.mean([found.distinct() for found in sweep]) - before.distinct())
    p = _share_as_extreme(_swapped_counts(sweep, before, seed), value)
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
    return estimate, _share_as_extreme(_swapped_shares(hits, baseline, seed), hits.mean() - baseline.mean())


_SWAPPINGS = 1_999


def _swappings(size: int, seed: int) -> np.ndarray:
    """Which images each swapping swaps, as bits [N, W]."""
    rng = np.random.default_rng((seed, 3))

    def draw(count: int) -> np.ndarray:
        return np.stack([rng.random(size) < 0.5 for _ in range(count)])

    return pack(draw, _SWAPPINGS, size)


def _share_as_extreme(swapped: np.ndarray, actual: float) -> float:
    """p: the share of the swappings, the actual outcome included, that differ at least as much."""
    return float((1 + np.sum(np.abs(swapped) >= abs(actual) - 1e-12)) / (_SWAPPINGS + 1))


def _swapped_shares(hits: np.ndarray, baseline: np.ndarray, seed: int) -> np.ndarray:
    """The difference of the shares, hits [L, N] less baseline [N], under every swapping: [1,999].

    Swapping image i adds to the one count what it takes from the other. Images alike in that are counted together.
    """
    gain = len(hits) * baseline.astype(np.int64) - hits.sum(0)
    swaps = _swappings(len(baseline), seed)
    moved = np.zeros(_SWAPPINGS, np.int64)
    for step in np.unique(gain[gain != 0]):
        moved += step * column_sums([swaps[gain == step]], _SWAPPINGS)
    ours, theirs = hits.sum() + moved, len(hits) * baseline.sum() - moved
    return ours / hits.size - theirs / hits.size


def _swapped_counts(sweep: Sequence[Finds], baseline: Finds, seed: int) -> np.ndarray:
    """The difference of the numbers of distinct finds, averaged over λ, under every swapping: [1,999].

    A photo is found if any of its finders stayed, or any of the other side's was swapped in.
    """
    swaps = _swappings(baseline.num_images, seed)
    size = max(len(found.times()) for found in (*sweep, baseline))
    ours, theirs = np.zeros((2, _SWAPPINGS), np.int64)

    def found_by(bits: np.ndarray, found: Finds) -> np.ndarray:
        return union(bits, found.images, found.photos, size)

    moved_in, stayed = found_by(swaps, baseline), found_by(~swaps, baseline)
    for found in sweep:
        ours += column_sums([found_by(~swaps, found) | moved_in], _SWAPPINGS)
        theirs += column_sums([found_by(swaps, found) | stayed], _SWAPPINGS)
    return ours / len(sweep) - theirs / len(sweep)


def _jackknife_variance(lost: np.ndarray) -> float:
    """Variance of a count, from what each deletion takes off it."""
    n = len(lost)
    return float((n - 1) / n * np.square(lost - lost.mean()).sum())


def _repeat_variance(found: Finds) -> float:
    """Variance of a count that photos found more than once add, each being missed with probability e^−c."""
    counts = found.times()
    missed = np.exp(-counts[counts >= 2].astype(float))
    return float((missed * (1 - missed)).sum())
