"""Bands of a descriptor that has no published ones: from photos that nothing copied."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from side_jax.evidence.intervals import Estimate, proportion
from side_jax.evidence.scores import Band

# At most this share of held-out photos scores so high with a training photo; fixed, whatever the descriptor.
FALSE_MATCHES = {"low": 0.1, "mid": 0.01, "high": 0.001}
_DIGITS = 4  # of a limit, which people copy


class MeasuredBands(NamedTuple):
    """Bands, and how many held-out photos reach them.

    Attributes:
      bands: as extract.bands has them.
      rates: name of a band -> share of held-out photos that score at least its lower limit, with its interval.
    """

    bands: tuple[Band, ...]
    rates: dict[str, Estimate]


def measured_bands(best: Float[np.ndarray, " n"]) -> MeasuredBands:
    """The bands whose lower limits at most 10, 1 and 0.1 % of the held-out photos reach.

    A held-out photo copies no training photo, so each that reaches a limit is a false match. Of fewer photos than a
    rate can count, none reaches the limit, and the interval says how little that is. A limit that is the next band's
    too makes no band.

    Args:
      best: the best score of each of N held-out photos with the training photos, N ≥ 1. The intervals take the photos
        as independent: one of each picture.
    """
    scores = np.sort(best.astype(np.float64))[::-1]
    limits = {name: _above(scores[math.floor(rate * len(scores))]) for name, rate in FALSE_MATCHES.items()}
    ends = dict(zip(limits, [*list(limits.values())[1:], 1.0], strict=True))
    bands = tuple((name, low, ends[name]) for name, low in limits.items() if low < ends[name])
    return MeasuredBands(bands, {name: proportion(scores >= low) for name, low, _ in bands})


def _above(score: float) -> float:
    """The next number of four digits above a score, also when both are rounded to float32; at most 0.9999."""
    steps = 10**_DIGITS
    return round(min(math.floor((score + 1e-6) * steps) + 1, steps - 1) / steps, _DIGITS)
