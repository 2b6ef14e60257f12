"""Two sets of images that have nothing to do with each other: the difference of their scores, and a test of none."""

import numpy as np
from scipy import stats

from side_jax.evidence.intervals import LEVEL, Difference, Estimate, Z, normal_test


def unpaired_share_difference(hits: np.ndarray, baseline: np.ndarray) -> Difference:
    """A share of hits minus that of a baseline, of independent images.

    The interval is Newcombe's (1998, method 10), from Wilson's intervals of both shares; p is Fisher's exact test.

    Args:
      hits: bool [N].
      baseline: bool [M].
    """
    (a, n), (b, m) = ((int(one.sum()), len(one)) for one in (hits, baseline))
    test = float(stats.fisher_exact([[a, n - a], [b, m - b]]).pvalue)
    return Difference(difference_of_estimates(_wilson(a, n), _wilson(b, m)).estimate, test)


def difference_of_estimates(one: Estimate, other: Estimate) -> Difference:
    """The difference of two independent estimates from their intervals alone (Zou and Donner 2008, MOVER).

    Newcombe's interval is this one of Wilson's intervals. p is that of a normal estimate with the half of the interval
    that points to 0.
    """
    value = one.value - other.value
    below = float(np.hypot(one.value - one.low, other.high - other.value))
    above = float(np.hypot(one.high - one.value, other.value - other.low))
    error = (below if value > 0 else above) / Z
    return Difference(Estimate(value, value - below, value + above), normal_test(value, error))


def _wilson(count: int, size: int) -> Estimate:
    interval = stats.binomtest(count, size).proportion_ci(LEVEL, method="wilson")
    return Estimate(count / size, float(interval.low), float(interval.high))
