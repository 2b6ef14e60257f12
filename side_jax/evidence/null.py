"""The held-out null: what a model that copies nothing would score (DESIGN §5).

Training and held-out images come from one pool, split at random: class by class, near-duplicates together. If the model
is blind to the split, relabelling the images as the split might have done gives the distribution of any score
difference. The unit of this test is the real image (or group of near-duplicates), not the generated one: a few photos
that many generated images resemble (hubs) widen the null, as they should; a binomial test would overlook them.
"""

from typing import NamedTuple

import numpy as np
from scipy import sparse

PERMUTATIONS = 9_999
_BLOCK = 256  # relabellings at once: [N, 256] floats are held


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


def relabellings(train: np.ndarray, groups: np.ndarray, classes: np.ndarray, seed: int) -> np.ndarray:
    """Which pooled images are "train": column 0 as it is, the others as the split might have had it. bool [P, R].

    Groups of one size in one class change places at random, which leaves every count as it is. The split treats them
    alike, so each such relabelling was equally likely.

    Args:
      train: the actual labels, bool [P].
      groups: near-duplicate groups, each on one side, int [P].
      classes: int [P]; a group has its first member's.
      seed: of the permutations.
    """
    rng = np.random.default_rng((seed, 2))
    _, first, unit, sizes = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    actual = train[first]
    shuffled = np.empty((PERMUTATIONS, len(first)), bool)
    strata = np.unique(np.stack([classes[first], sizes], axis=1), axis=0, return_inverse=True)[1].ravel()
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        shuffled[:, members] = rng.permuted(np.tile(actual[members], (PERMUTATIONS, 1)), axis=1)
    return np.concatenate([actual[None], shuffled])[:, unit].T


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

    blocks = [labels[:, i : i + _BLOCK] for i in range(0, labels.shape[1], _BLOCK)]
    return _excess(np.concatenate([share(block) - share(~block) for block in blocks]))


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
