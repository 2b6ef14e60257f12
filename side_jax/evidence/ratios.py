"""How many times as much one sample gives as another: ratios of counts, with 95 % intervals and exact tests.

Both samples are counted in units that occur in both, in the first alone, or in the second alone:

    hits      images i that are hits in both samples, and images that are hits in one
    photos    training photos with a match in both samples, and photos with a match in one

The first N images of both have the same noise. A unit in both counts in both, and does not decide which is larger.
If both counts have the same expectation, a unit in one alone is as likely in the first as in the second. The test is
then binomial: McNemar's, but the second sample may also have images without a partner.

This holds for photos too, although they are not independent draws. Write X − θY for the first count less θ times the
second, with expectation 0. It is a sum over photos, which are nearly independent: one image matches one photo at most,
so a match with one makes a match with another less likely. A term's variance is at most its mean square, so

    Var(X − θY) ≤ (1 − θ)² E[in both] + E[first alone] + θ² E[second alone].

The interval takes this bound. It holds for any probabilities of the photos, hubs included, since a photo that is almost
surely in both adds almost nothing. If the samples match different photos, each almost surely, test and interval are
wider than necessary.
"""

import math
from typing import NamedTuple

import numpy as np

from side_jax.evidence.intervals import Z, share_of, sign_test


class Overlap(NamedTuple):
    """Units in both samples, in the first alone, and in the second alone."""

    both: int
    first: int
    second: int

    @property
    def counts(self) -> tuple[int, int]:
        """The number of units in each sample."""
        return self.both + self.first, self.both + self.second


class Ratio(NamedTuple):
    """A ratio with its 95 % interval. If the second sample has no units, value and upper end are None."""

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
    """Photos with a match.

    Args:
      winners: the photo that each image matches, or −1: int [N].
      baseline: the same, int [M], M ≥ N.

    Raises:
      ValueError: if M < N.
    """
    _check(winners, baseline)
    ours, theirs = (np.unique(photos[photos >= 0]) for photos in (winners, baseline))
    both = len(np.intersect1d(ours, theirs, assume_unique=True))
    return Overlap(both, len(ours) - both, len(theirs) - both)


def ratio_with_interval(overlap: Overlap) -> Ratio:
    """The first count X over the second count Y.

    With units in both, the logarithm is normal, of variance (first + second) / (X Y) by the module's bound, with 0.5
    added to each count. Without any, the interval is exact: given X + Y, X is binomial with probability θ / (1 + θ).
    """
    x, y = overlap.counts
    value = x / y if y else None
    if overlap.both == 0:
        if x + y == 0:
            return Ratio(None, 0.0, None)
        _, low, high = share_of(x, x + y)
        return Ratio(value, low / (1 - low), high / (1 - high) if y else None)
    x_half, y_half = x + 0.5, y + 0.5
    spread = Z * math.sqrt((overlap.first + overlap.second + 1) / (x_half * y_half))
    centre = math.log(x_half / y_half)
    return Ratio(value, math.exp(centre - spread), math.exp(centre + spread))


def equal_counts_p(overlap: Overlap) -> float:
    """Two-sided p of "both counts have the same expectation", binomial; 1 if no unit is in one sample alone."""
    return sign_test(overlap.first, overlap.second)


def _check(sample: np.ndarray, baseline: np.ndarray) -> int:
    if len(baseline) < len(sample):
        raise ValueError(f"the baseline must have at least the {len(sample)} images of the other, got {len(baseline)}")
    return len(sample)
