"""Shares of two sets of images that have nothing to do with each other: their difference, and a test of none."""

import numpy as np
from scipy import stats

from side_jax.evidence.intervals import LEVEL, Difference, Estimate


def unpaired_share_difference(hits: np.ndarray, baseline: np.ndarray) -> Difference:
    """A share of hits minus that of a baseline, of independent images.

    The interval is Newcombe's (1998, method 10), from Wilson's intervals of both shares; p is Fisher's exact test.

    Args:
      hits: bool [N].
      baseline: bool [M].
    """
    (a, n), (b, m) = ((int(one.sum()), len(one)) for one in (hits, baseline))
    (low, high), (low_b, high_b) = _wilson(a, n), _wilson(b, m)
    p, q = a / n, b / m
    below = float(np.hypot(p - low, high_b - q))
    above = float(np.hypot(high - p, q - low_b))
    test = float(stats.fisher_exact([[a, n - a], [b, m - b]]).pvalue)
    return Difference(Estimate(p - q, p - q - below, p - q + above), test)


def _wilson(count: int, size: int) -> tuple[float, float]:
    interval = stats.binomtest(count, size).proportion_ci(LEVEL, method="wilson")
    return float(interval.low), float(interval.high)
