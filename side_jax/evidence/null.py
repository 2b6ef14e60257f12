"""The held-out null: what a model that copies nothing would score (DESIGN §5).

Training and held-out images come from one pool, split at random: class by class, near-duplicates together. If the model
is blind to the split, relabelling the images as the split might have done gives the distribution of any score
difference. The unit of this test is the real image (or group of near-duplicates), not the generated one: a few photos
that many generated images resemble (hubs) widen the null, as they should; a binomial test would overlook them.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from side_jax.evidence.bitsets import column_sums, pack
from side_jax.evidence.scores import Band, InBand

PERMUTATIONS = 9_999
SIGNIFICANT = 0.05  # a p below this is called a finding
_BLOCK = 1024  # generated images at once
_STEP = 32  # matches of one image at once; by then nearly every relabelling has one of each side among them


@dataclasses.dataclass(frozen=True)
class Relabellings:
    """Which of P pooled images are "train".

    Attributes:
      bits: uint64 [P, W], column 0 the actual labels (`bitsets`).
      count: relabellings, the actual one included.
      relabelled: how many of the images some relabelling gives another label.
      least_p: the smallest p of any test by them, but for the chance of the draw; 1 if all are the actual one.
      reason: why that is too much for any finding, as the end of a sentence; None if it is not.
    """

    bits: np.ndarray
    count: int
    relabelled: int
    least_p: float
    reason: str | None


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


def relabellings(
    train: np.ndarray, groups: np.ndarray, classes: np.ndarray, seed: int, permutations: int = PERMUTATIONS
) -> Relabellings:
    """The actual labels of the pooled images, and random ones.

    Groups of one size in one class change places at random, which leaves every count as it is. The split treats them
    alike, so each such relabelling was equally likely.

    Args:
      train: the actual labels, bool [P].
      groups: near-duplicate groups, each on one side, int [P].
      classes: int [P]; a group has its first member's.
      seed: of the permutations.
      permutations: how many.
    """
    rng = np.random.default_rng((seed, 2))
    _, first, unit, sizes = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    strata = np.unique(np.stack([classes[first], sizes], axis=1), axis=0, return_inverse=True)[1].ravel()
    count = 1 + permutations
    bits = np.zeros((len(first), -(-count // 64)), np.uint64)
    relabelled, distinct = 0, 1  # images that can change their label; ways to share the labels out, up to `count`
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        actual = train[first[members]]
        bits[members] = _shuffled(actual, count, rng)
        if actual.any() and not actual.all():
            relabelled += int(sizes[members].sum())
            distinct = min(count, distinct * math.comb(len(members), int(actual.sum())))
    shared = np.isin(classes[first][train[first]], classes[first][~train[first]]).any()
    reason = _untestable(relabelled, len(train), distinct, bool(shared))
    return Relabellings(bits[unit], count, relabelled, 1 / distinct, reason)


def _untestable(relabelled: int, size: int, distinct: int, share_a_class: bool) -> str | None:
    """Why no test can find anything, if none can: the actual labelling is one of `distinct`, all equally likely."""
    if distinct == 1:
        why = "those of one class differ in their number of near-duplicates" if share_a_class else "they share no class"
        return f"no training photo can change places with a held-out one: {why}"
    if 1 / distinct < SIGNIFICANT:
        return None
    return (
        f"only {relabelled} of the {size} photos can change places, and the smallest p possible is {1 / distinct:.2f}"
    )


def _shuffled(actual: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Labels bool [U] as they are and shuffled, as bits [U, W]."""
    drawn = 0

    def draw(number: int) -> np.ndarray:
        nonlocal drawn
        labels = np.tile(actual, (number, 1))
        shuffled = labels[int(drawn == 0) :]
        drawn += number
        rng.permuted(shuffled, axis=1, out=shuffled)
        return labels

    return pack(draw, count, len(actual))


def share_excess(paired: InBand, heldout: InBand, labels: Relabellings, bands: Sequence[Band]) -> list[Excess]:
    """Excess of "the best match lies in a band", for each: some match is at or above α, none at or above β.

    Args:
      paired: what each generated image scores with the training images, the first half of the pool.
      heldout: with the held-out images, the other half.
      labels: `relabellings` of the pool.
      bands: a band that ends at 1 has no upper limit.
    """
    size = len(paired.offsets) - 1
    limits = [(low, high if high < 1.0 else np.inf) for _, low, high in bands]
    thresholds = sorted({limit for pair in limits for limit in pair if limit < np.inf}, reverse=True)
    level = {threshold: i + 1 for i, threshold in enumerate(thresholds)} | {np.inf: 0}
    counts = np.zeros((len(bands), 2, labels.count), np.int64)
    for start in range(0, size, _BLOCK):
        block = paired.rows(start, start + _BLOCK), heldout.rows(start, start + _BLOCK)
        reached = _reached(*block, labels, thresholds)
        for band, (low, high) in enumerate(limits):
            inside = reached[level[low]] & ~reached[level[high]]
            for side in range(2):
                counts[band, side] += column_sums([inside[side]], labels.count)
    return [_excess(train / size - held / size) for train, held in counts]


def _reached(paired: InBand, heldout: InBand, labels: Relabellings, thresholds: Sequence[float]) -> np.ndarray:
    """Which of n images match some training image, and which some held-out one, in which relabelling.

    Args:
      paired: as for `share_excess`.
      heldout: as for `share_excess`.
      labels: `relabellings` of the pool.
      thresholds: descending.

    Returns:
      uint64 [1 + number of thresholds, 2, n, W]: with a score at or above each threshold; entry 0: none.
    """
    size, ends = len(paired.offsets) - 1, len(thresholds)
    members = np.concatenate([paired.positions, heldout.positions + len(labels.bits) // 2])
    scores = np.concatenate([paired.scores, heldout.scores])
    key = np.concatenate([paired.images(), heldout.images()]) * (ends + 1)
    for threshold in thresholds:
        key += scores < threshold
    members = members[np.argsort(key, kind="stable")]  # by image, then from the highest threshold down
    starts = np.concatenate([[0], np.cumsum(np.bincount(key, minlength=size * (ends + 1)))])
    full = pack(lambda count: np.ones((count, 1), bool), labels.count, 1)[0]
    reached = np.zeros((1 + ends, 2, size, len(full)), np.uint64)
    for image in range(size):
        some, every = np.zeros_like(full), full
        for i in range(ends):
            place = image * (ends + 1) + i
            for step in range(starts[place], starts[place + 1], _STEP):
                if np.array_equal(some & ~every, full):
                    break
                added = labels.bits[members[step : min(step + _STEP, starts[place + 1])]]
                some = some | np.bitwise_or.reduce(added, axis=0)
                every = every & np.bitwise_and.reduce(added, axis=0)
            reached[1 + i, :, image] = some, full & ~every
    return reached


def nearest_excess(nearest: np.ndarray, labels: Relabellings) -> Excess:
    """Excess of "the nearest pooled image is a training image", over 0.5, so that copying nothing gives 0.

    Args:
      nearest: position of each generated image's nearest among the pooled images, int [N].
      labels: `relabellings`.
    """
    blocks = (labels.bits[nearest[start : start + _BLOCK]] for start in range(0, len(nearest), _BLOCK))
    return _excess(column_sums(blocks, labels.count) / len(nearest) - 0.5)


def _excess(differences: np.ndarray) -> Excess:
    """Column 0 is the actual labelling. Rounding before comparing keeps equal shares equal."""
    differences = np.round(differences, 9)
    low, high = np.quantile(differences[1:], [0.025, 0.975])
    return Excess(float(differences[0]), float(low), float(high), float((differences >= differences[0]).mean()))
