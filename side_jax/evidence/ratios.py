"""How many times as much one sample gives as another: ratios of counts, with 95 % intervals and exact tests.

Both samples are counted in units that occur in both, in the first alone, or in the second alone:

    hits      images i whose guided and whose unguided version is a hit, and images of one side only
    photos    training photos that both samples find, and photos that one of them finds

The first N images of both have the same noise, so what is in both is counted in both, and says nothing about which is
larger. If both have the same expectation, a unit in one alone is as likely in the first as in the second, and the test
is the binomial one: McNemar's, where the second sample may also have images without a partner.

Why that holds for photos, which are no independent draws. Write X − θY for the first count less θ times the second,
with expectation 0: a sum over photos, which are all but independent, for one image finds one photo at most, so that
finding one makes another less likely. A term's variance is at most its mean square, so

    Var(X − θY) ≤ (1 − θ)² E[in both] + E[first alone] + θ² E[second alone],

which is what the interval takes, whatever the photos' probabilities, hubs included: of a photo found almost surely by
both, nothing is left. Where the samples find different photos, each almost surely, test and interval are wider than
they need be.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy import stats

from side_jax.evidence.intervals import LEVEL

_Z = float(stats.norm.ppf(0.5 + LEVEL / 2))


class Overlap(NamedTuple):
    """Units in both samples, in the first alone, and in the second alone."""

    both: int
    first: int
    second: int

    @property
    def counts(self) -> tuple[int, int]:
        """What each sample has."""
        return self.both + self.first, self.both + self.second


class Ratio(NamedTuple):
    """A ratio with its 95 % interval; None where it is not bounded, for the second sample may have nothing."""

    value: float | None
    low: float
    high: float | None


def shared_hits(hits: np.ndarray, baseline: np.ndarray) -> Overlap:
    """Images that are hits, by index.

    Args:
      hits: bool [N].
      baseline: bool [M], M ≥ N: the first N are paired with `hits`, the others have no partner.

    Raises:
      ValueError: if M < N.
    """
    n = _check(hits, baseline)
    both = int((hits & baseline[:n]).sum())
    return Overlap(both, int(hits.sum()) - both, int(baseline.sum()) - both)


def shared_photos(winners: np.ndarray, baseline: np.ndarray) -> Overlap:
    """Photos that are found.

    Args:
      winners: the photo that each image finds, or −1: int [N].
      baseline: the same, int [M], M ≥ N.

    Raises:
      ValueError: if M < N.
    """
    _check(winners, baseline)
    ours, theirs = (np.unique(found[found >= 0]) for found in (winners, baseline))
    both = len(np.intersect1d(ours, theirs, assume_unique=True))
    return Overlap(both, len(ours) - both, len(theirs) - both)


def ratio_with_interval(overlap: Overlap) -> Ratio:
    """First count over second.

    With units in both, the logarithm is normal, of variance (first + second) / (X Y) by the module's bound, each count
    raised by a half. Without, the interval is exact: given X + Y, X is binomial with probability θ / (1 + θ).
    """
    x, y = overlap.counts
    value = x / y if y else None
    if overlap.both == 0:
        if x + y == 0:
            return Ratio(None, 0.0, None)
        share = stats.binomtest(x, x + y).proportion_ci(LEVEL, method="exact")
        low, high = float(share.low), float(share.high)
        return Ratio(value, low / (1 - low), high / (1 - high) if y else None)
    x_half, y_half = x + 0.5, y + 0.5
    spread = _Z * math.sqrt((overlap.first + overlap.second + 1) / (x_half * y_half))
    centre = math.log(x_half / y_half)
    return Ratio(value, math.exp(centre - spread), math.exp(centre + spread))


def equal_counts_p(overlap: Overlap) -> float:
    """p of the null that both counts have the same expectation: two-sided, binomial; 1 if neither has a unit alone."""
    alone = overlap.first + overlap.second
    return float(stats.binomtest(overlap.first, alone).pvalue) if alone else 1.0


def _check(sample: np.ndarray, baseline: np.ndarray) -> int:
    if len(baseline) < len(sample):
        raise ValueError(f"the baseline must have at least the {len(sample)} images of the other, got {len(baseline)}")
    return len(sample)
