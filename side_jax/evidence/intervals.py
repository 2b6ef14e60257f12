"""95 % confidence intervals and paired tests. Generated images are independent draws; λ's are paired by image index."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from side_jax.evidence.bitsets import column_sums, pack, union

LEVEL = 0.95
Z = float(stats.norm.ppf(0.5 + LEVEL / 2))  # half a normal interval, in standard errors


class Estimate(NamedTuple):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


class Difference(NamedTuple):
    """A difference between two scores, and the two-sided p of no difference."""

    estimate: Estimate
    p: float

    def facts(self) -> dict[str, object]:
        """As metrics.json has it."""
        return {"difference": self.estimate._asdict(), "p": self.p}


class Finds(NamedTuple):
    """Pairs of a generated image and a photo that it matches; no pair occurs twice.

    Attributes:
      images: the generated image of each pair, int [E].
      photos: its photo, int [E].
      num_images: number of generated images, N, those without a match included.
    """

    images: np.ndarray
    photos: np.ndarray
    num_images: int

    @classmethod
    def of(cls, winners: np.ndarray) -> "Finds":
        """At most one photo per image, from int [N] with −1 for none."""
        images = np.flatnonzero(winners >= 0)
        return cls(images, winners[images], len(winners))

    def times(self) -> np.ndarray:
        """The number of images that match each photo, int [at most M]."""
        return np.bincount(self.photos)

    def distinct(self) -> int:
        """The number of photos with a match."""
        return int(np.count_nonzero(self.times()))


def proportion(hits: np.ndarray) -> Estimate:
    """The share of hits among independent images, bool [N], with the exact Clopper–Pearson interval."""
    return share_of(int(hits.sum()), len(hits))


def share_of(count: int, n: int) -> Estimate:
    """`count` of `n` independent trials, with the exact Clopper–Pearson interval: quantiles of beta distributions."""
    tail = (1 - LEVEL) / 2
    low = float(stats.beta.ppf(tail, count, n - count + 1)) if count else 0.0
    high = float(stats.beta.ppf(1 - tail, count + 1, n - count)) if count < n else 1.0
    return Estimate(count / n, low, high)


def mean(values: np.ndarray, level: float = LEVEL) -> Estimate:
    """The mean of float [N], N ≥ 2, with Student's interval at a level."""
    quantile = float(stats.t.ppf(0.5 + level / 2, len(values) - 1))
    spread = quantile * float(values.std(ddof=1)) / np.sqrt(len(values))
    centre = float(values.mean())
    return Estimate(centre, centre - spread, centre + spread)


def lone_finds(finds: Finds) -> np.ndarray:
    """For each generated image, the number of photos that it alone matches: what UMS loses without it. int [N]."""
    alone = finds.times()[finds.photos] == 1
    return np.bincount(finds.images[alone], minlength=finds.num_images)


def unique_share(finds: Finds) -> Estimate:
    """Distinct photos with a match, over N, with a gamma interval of the jackknife's variance.

    Deleting image i loses exactly its lone finds, so the jackknife needs no recomputation. Its variance is too large on
    average (Efron and Stein 1981), but neglects that a photo matched c ≥ 2 times might have been missed. A Poisson
    count of mean c is 0 with probability e^−c, and the variance of that is added. The interval is skewed as that of a
    small count is, and knows that photos without a match are not seen: see `_count_interval`.
    """
    return mean_unique_share([finds])


def mean_unique_share(sweep: Sequence[Finds]) -> Estimate:
    """`unique_share` averaged over several λ, image i paired with image i.

    Deleting image i deletes it at every λ. What repeated finds add counts as fully correlated over λ, an upper bound.
    """
    n = sweep[0].num_images
    count = float(np.mean([finds.distinct() for finds in sweep]))
    if count == 0:
        return Estimate(0.0, 0.0, _highest_of_none(n))
    lost = np.mean([lone_finds(finds) for finds in sweep], axis=0)
    repeats = float(np.mean([_repeat_variance(finds) for finds in sweep]))
    most = max(int(np.bincount(finds.images).max(initial=0)) for finds in sweep)
    low, high = _count_interval(count, _jackknife_variance(lost) + repeats, most)
    return Estimate(count / n, low / n, high / n)


def mean_share(hits: np.ndarray) -> Estimate:
    """A share averaged over several λ, image i paired with image i: bool [L, N]. For one λ it is `proportion`.

    The interval is normal, within [0, 1]. Where every image has as many hits as any other, as when all hit or none, it
    would be empty: it then reaches as far as Clopper–Pearson's for no hit.
    """
    if len(hits) == 1:
        return proportion(hits[0])
    values = hits.mean(0)
    if (values == values[0]).all():
        value, spread = float(values[0]), _highest_of_none(len(values))
        return Estimate(value, max(0.0, value - spread), min(1.0, value + spread))
    estimate = mean(values)
    return estimate._replace(low=max(0.0, estimate.low), high=min(1.0, estimate.high))


def unique_difference(winners: np.ndarray, baseline: np.ndarray) -> Difference:
    """UMS, averaged over λ, minus that of a baseline, image i paired with image i.

    If guidance makes no difference, image i and its baseline can be swapped. p is the share of 1,999 random swappings
    (and the actual outcome) with at least this difference; it holds for few finds too, where an interval is rough.
    An image is swapped at every λ or at none: its outcomes at neighbouring λ are much alike, and count once.
    Where they differ, an average over λ varies less than its baseline and the two cannot be swapped: then p is at least
    that of the interval. In simulation swapping alone gave p ≤ .01 in up to 9 % of samples without a difference.

    The interval counts one photo more of each sample alone, as Bonett and Price (2012) do for shares.

    Args:
      winners: each image's best match in the band, or −1: int [N], or [L, N] for L λ.
      baseline: the same for the baseline: int [N].
    """
    rows = _different(winners)
    sweep, before = [Finds.of(row) for row in rows], Finds.of(baseline)
    n = len(baseline)
    lost = np.mean([lone_finds(finds) for finds in sweep], axis=0) - lone_finds(before)
    variance = 2 + _jackknife_variance(lost) + _repeat_variance(before)
    variance += float(np.mean([_repeat_variance(finds) for finds in sweep]))
    spread = max(Z * float(np.sqrt(variance)) / n, _highest_of_none(n))
    value = float(np.mean([finds.distinct() for finds in sweep]) - before.distinct()) / n
    p = _swapping_test(sweep, before)
    if len(sweep) > 1:
        p = max(p, normal_test(value, spread / Z))
    return Difference(Estimate(value, value - spread, value + spread), p)


def share_difference(hits: np.ndarray, baseline: np.ndarray) -> Difference:
    """A share of hits, averaged over λ, minus that of a baseline, image i paired with image i.

    For one λ the test is McNemar's exact test; for several λ it is that of `unique_difference`. The interval is that of
    Bonett and Price (2012): the mean of the differences, with one more of +1 and one more of −1.

    Args:
      hits: bool [N], or [L, N] for L λ.
      baseline: bool [N].
    """
    rows = _different(hits)
    differences = rows.mean(0) - baseline
    adjusted = mean(np.append(differences, [1.0, -1.0]))
    estimate = Estimate(float(differences.mean()), max(-1.0, adjusted.low), min(1.0, adjusted.high))
    if len(rows) == 1:
        return Difference(estimate, sign_test(int((rows[0] & ~baseline).sum()), int((~rows[0] & baseline).sum())))
    own = np.arange(len(baseline))  # as if each hit matched a photo of its own: distinct photos are then hits
    sweep = [Finds.of(np.where(row, own, -1)) for row in rows]
    p = _swapping_test(sweep, Finds.of(np.where(baseline, own, -1)))
    return Difference(estimate, max(p, normal_test(adjusted.value, (adjusted.high - adjusted.low) / 2 / Z)))


def _different(rows: np.ndarray) -> np.ndarray:
    """[N] or [L, N] -> [L, N]; one row if all λ have the same."""
    rows = np.atleast_2d(rows)
    return rows[:1] if (rows == rows[0]).all() else rows


def sign_test(gained: int, lost: int) -> float:
    """Two-sided p of "a unit is gained as likely as lost", exact binomial; 1 without any unit."""
    return min(1.0, 2 * float(stats.binom.cdf(min(gained, lost), gained + lost, 0.5)))


def normal_test(difference: float, error: float) -> float:
    """Two-sided p of no difference, given its standard error. Without error it is 1 for no difference, else 0."""
    return float(2 * stats.norm.sf(abs(difference) / error)) if error else float(difference == 0)


def _count_interval(count: float, variance: float, most: int) -> tuple[float, float]:
    """The gamma interval of a count of rare things that come up to `most` at once (Fay and Feuer 1997).

    The lower end is a quantile of the gamma distribution of this mean and variance. The upper end is that of one draw
    more: of mean `count` + `most` and variance `variance` + `most`². If each comes alone and counts once, this is the
    exact interval of a Poisson count. A normal interval would be too low: a small count has a small variance too.
    """
    tail = (1 - LEVEL) / 2
    low = float(stats.gamma.ppf(tail, count**2 / variance, scale=variance / count)) if variance else count
    mean_above, variance_above = count + most, variance + most**2
    shape = mean_above**2 / variance_above
    return low, float(stats.gamma.ppf(1 - tail, shape, scale=variance_above / mean_above))


def _highest_of_none(size: int) -> float:
    """The upper end of Clopper–Pearson's interval for no hit among `size` images."""
    return proportion(np.zeros(size, bool)).high


_SWAPPINGS = 1_999


@functools.lru_cache(maxsize=1)  # one report asks for the same ones dozens of times
def _swaps(size: int) -> np.ndarray:
    """The images that each swapping swaps, as bits [N, W]."""
    rng = np.random.default_rng((0, 3))
    swaps = pack(lambda count: np.stack([rng.random(size) < 0.5 for _ in range(count)]), _SWAPPINGS, size)
    swaps.setflags(write=False)
    return swaps


def _swapping_test(sweep: Sequence[Finds], baseline: Finds) -> float:
    """p of the number of distinct photos, averaged over λ, minus that of the baseline: see `unique_difference`.

    After a swapping a photo counts if one of the images that match it was not swapped out, or one of the other side was
    swapped in. Counts are summed over λ and not averaged, so that equal differences are equal integers.
    """
    swaps = _swaps(baseline.num_images)
    num_photos = max(len(finds.times()) for finds in (*sweep, baseline))

    def matched_by(bits: np.ndarray, finds: Finds) -> np.ndarray:
        return union(bits, finds.images, finds.photos, num_photos)

    moved_in, stayed = matched_by(swaps, baseline), matched_by(~swaps, baseline)
    swapped = np.zeros(_SWAPPINGS, np.int64)
    for finds in sweep:
        swapped += column_sums([matched_by(~swaps, finds) | moved_in], _SWAPPINGS)
        swapped -= column_sums([matched_by(swaps, finds) | stayed], _SWAPPINGS)
    actual = sum(finds.distinct() for finds in sweep) - len(sweep) * baseline.distinct()
    return float((1 + np.sum(np.abs(swapped) >= abs(actual))) / (_SWAPPINGS + 1))


def _jackknife_variance(lost: np.ndarray) -> float:
    """Variance of a count, from what the count loses by each deletion."""
    n = len(lost)
    return float((n - 1) / n * np.square(lost - lost.mean()).sum())


def _repeat_variance(finds: Finds) -> float:
    """Variance of a count from photos matched c ≥ 2 times, each of which is missed with probability e^−c."""
    counts = finds.times()
    missed = np.exp(-counts[counts >= 2].astype(float))
    return float((missed * (1 - missed)).sum())
