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
    large side (Efron and Stein 1981). With no find at all the upper end is Clopper–Pearson's for a share of zero.
    """
    n = len(found)
    value = len(np.unique(np.concatenate(found))) / n
    if value == 0:
        return Estimate(0.0, 0.0, proportion(np.zeros(n, bool)).high)
    spread = _Z * _jackknife_deviation(lone_finds(found))
    return Estimate(value, max(0.0, value - spread), value + spread)


def unique_difference(found: list[np.ndarray], baseline: list[np.ndarray]) -> Estimate:
    """UMS minus a baseline's UMS, image i paired with image i, with a jackknife interval."""
    n = len(found)
    value = (len(np.unique(np.concatenate(found))) - len(np.unique(np.concatenate(baseline)))) / n
    spread = _Z * _jackknife_deviation(lone_finds(found) - lone_finds(baseline))
    return Estimate(value, value - spread, value + spread)


def _jackknife_deviation(lost: np.ndarray) -> float:
    """Standard error of (count / n) from what each deletion takes off the count."""
    n = len(lost)
    return float(np.sqrt((n - 1) / n * np.square(lost - lost.mean()).sum())) / n


def share_difference(hits: np.ndarray, baseline: np.ndarray) -> tuple[Estimate, float]:
    """Share minus a baseline's share, image i paired with image i: (estimate, p of McNemar's exact two-sided test)."""
    gained, lost = int((hits & ~baseline).sum()), int((~hits & baseline).sum())
    p = float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    return mean(hits.astype(float) - baseline.astype(float)), p
