"""The held-out null: the scores of a model that copies nothing (DESIGN §7).

Training and held-out photos come from one pool, split at random: class by class, near-duplicates together. If the model
does not depend on the split, relabelling the photos as the split might have done gives the distribution of any score
difference. The unit of this test is the picture, a photo with its near-duplicates, and not the generated image: a few
pictures that many generated images resemble (hubs) widen the null, as they should; a binomial test would ignore them.
One photo stands for each picture, on either side, so that repetition in the training folder, which causes copying,
cannot hide it: a picture that was repeated and one that was not are exchangeable if nothing was learnt of either.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from side_jax.evidence.bitsets import column_sums, pack
from side_jax.evidence.scores import Band, InBand

PERMUTATIONS = 9_999
SIGNIFICANT = 0.05  # a p below this is significant
_BLOCK = 1024  # generated images at once
_STEP = 32  # matches of one image at once; nearly every relabelling has one of each side among so many


@dataclasses.dataclass(frozen=True)
class Relabellings:
    """Labels "train" or "held-out" of P pooled photos, the actual ones and random ones.

    Attributes:
      bits: 1 for "train", uint64 [P, W], column 0 the actual labels (`bitsets`).
      count: number of relabellings, the actual one included.
      relabelled: number of photos that get another label in some relabelling.
      least_p: the smallest p that the test can give, 1 over the number of different relabellings.
      reason: the end of a sentence that says why no p can be significant; None if one can.
    """

    bits: np.ndarray
    count: int
    relabelled: int
    least_p: float
    reason: str | None


class Excess(NamedTuple):
    """A score against training photos, minus the same score against equally many held-out photos.

    Attributes:
      value: the difference.
      null_low, null_high: the interval that holds the difference in 95 % of random relabellings.
      p: share of relabellings (the actual one included) with at least this difference; one-sided.
      null_sd: the standard deviation of the difference over random relabellings.
    """

    value: float
    null_low: float
    null_high: float
    p: float
    null_sd: float


def relabellings(train: np.ndarray, strata: np.ndarray, seed: int, permutations: int = PERMUTATIONS) -> Relabellings:
    """The actual labels of the pooled photos, and random ones: the photos of one stratum swap their labels.

    That changes no count. Each relabelling was equally likely if the photos of a stratum are exchangeable, as those of
    one class of a random split are. No two of the photos are near-duplicates.

    Args:
      train: the actual labels, bool [P].
      strata: int [P].
      seed: of the permutations.
      permutations: number of random relabellings.
    """
    rng = np.random.default_rng((seed, 2))
    count = 1 + permutations
    bits = np.zeros((len(train), -(-count // 64)), np.uint64)
    relabelled, distinct = 0, 1  # photos that can change their label; different relabellings, counted up to `count`
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        actual = train[members]
        bits[members] = _shuffled(actual, count, rng)
        if actual.any() and not actual.all():
            relabelled += len(members)
            distinct = min(count, distinct * math.comb(len(members), int(actual.sum())))
    return Relabellings(bits, count, relabelled, 1 / distinct, _untestable(relabelled, len(train), distinct))


def _untestable(relabelled: int, size: int, distinct: int) -> str | None:
    """The reason why no p can be significant, or None. The actual labelling is one of `distinct`, equally likely."""
    if distinct == 1:
        return "no training photo can change places with a held-out one: they share no class"
    if 1 / distinct < SIGNIFICANT:
        return None
    return (
        f"only {relabelled} of the {size} photos can change places, and the smallest p possible is {1 / distinct:.2f}"
    )


def _shuffled(actual: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Labels bool [U], first unchanged and then shuffled, as bits [U, W]."""
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
    """Excess of "the best match lies in the band" for each band: some match is at or above α, none at or above β.

    Args:
      paired: scores of each generated image with the training photos, the first half of the pool.
      heldout: scores with the held-out photos, the other half.
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
    """For n images and all relabellings: bits for a match with a training photo, and with a held-out photo.

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
            row = image * (ends + 1) + i
            for step in range(starts[row], starts[row + 1], _STEP):
                if np.array_equal(some & ~every, full):
                    break
                added = labels.bits[members[step : min(step + _STEP, starts[row + 1])]]
                some = some | np.bitwise_or.reduce(added, axis=0)
                every = every & np.bitwise_and.reduce(added, axis=0)
            reached[1 + i, :, image] = some, full & ~every
    return reached


def nearest_excess(nearest: np.ndarray, labels: Relabellings) -> Excess:
    """Excess of "the nearest pooled photo is a training photo" over 0.5, so that a model that copies nothing gives 0.

    Args:
      nearest: position in the pool of the photo nearest to each generated image, int [N].
      labels: `relabellings`.
    """
    blocks = (labels.bits[nearest[start : start + _BLOCK]] for start in range(0, len(nearest), _BLOCK))
    return _excess(column_sums(blocks, labels.count) / len(nearest) - 0.5)


def photo_excess(hits: np.ndarray, labels: Relabellings) -> Excess:
    """Share of training photos with a hit, minus that of held-out photos: for photos that were asked for one by one.

    Args:
      hits: bool [P], of the pooled photos.
      labels: `relabellings` of them.
    """
    held = labels.bits[hits]
    trained = int(column_sums([labels.bits], labels.count)[0])
    found = column_sums([held], labels.count) if len(held) else np.zeros(labels.count, np.int64)
    return _excess(found / trained - (len(held) - found) / (len(hits) - trained))


def _excess(differences: np.ndarray) -> Excess:
    """The excess from the differences under all relabellings, the actual one first."""
    differences = np.round(differences, 9)  # so that equal shares compare as equal
    low, high = np.quantile(differences[1:], [0.025, 0.975])
    p = float((differences >= differences[0]).mean())
    return Excess(float(differences[0]), float(low), float(high), p, float(differences[1:].std()))
