"""The held-out null: what a model that copies nothing would score (DESIGN §5).

Training and held-out images come from one pool, split at random. If the model is blind to the split, which of them
were called "train" does not matter, so relabelling them at random gives the exact distribution of any score
difference. The unit of this test is the real image, not the generated one: a few photos that many generated images
resemble (hubs) widen the null, as they should; a binomial test over generated images would overlook them.
"""

from typing import NamedTuple

import numpy as np
from scipy import sparse

PERMUTATIONS = 9_999


class Excess(NamedTuple):
    """A score against training images, less the same score against equally many held-out images.

    Attributes:
      value: the difference.
      null_low, null_high: where it lies in 95 % of random relabellings.
      p: share of relabellings (the actual one included) with at least this difference; one-sided.
    """

    value: float
    null_low: float
    null_high: float
    p: float


def relabellings(size: int, seed: int) -> np.ndarray:
    """Random halves of 2·size pooled images; column 0 is the actual one, the first `size`. bool [2·size, R]."""
    rng = np.random.default_rng((seed, 2))
    actual = np.arange(2 * size) < size
    shuffled = rng.permuted(np.tile(actual, (PERMUTATIONS, 1)), axis=1)
    return np.concatenate([actual[None], shuffled]).T


def share_excess(hits: sparse.csr_array, excluded: sparse.csr_array, labels: np.ndarray) -> Excess:
    """Excess of "the best match lies in a band": some match is at or above α, none at or above β.

    Args:
      hits: [N, 2m], non-zero where image i scores ≥ α with pooled image j.
      excluded: the same for ≥ β; empty for a band without upper limit.
      labels: `relabellings`.
    """

    def share(train: np.ndarray) -> np.ndarray:
        mask = train.astype(np.float32)
        return (((hits @ mask) > 0) & ~((excluded @ mask) > 0)).mean(0)

    return _excess(share(labels) - share(~labels))


def nearest_excess(nearest: np.ndarray, labels: np.ndarray) -> Excess:
    """Excess of "the nearest pooled image is a training image", over 0.5, so that copying nothing gives 0.

    Args:
      nearest: position of each generated image's nearest among the pooled images, int [N].
      labels: `relabellings`.
    """
    counts = np.bincount(nearest, minlength=len(labels))
    return _excess(counts @ labels / len(nearest) - 0.5)


def _excess(differences: np.ndarray) -> Excess:
    """Column 0 is the actual labelling. Rounding before comparing keeps equal shares equal."""
    differences = np.round(differences, 9)
    low, high = np.quantile(differences[1:], [0.025, 0.975])
    return Excess(float(differences[0]), float(low), float(high), float((differences >= differences[0]).mean()))
