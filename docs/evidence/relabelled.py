"""Scenarios: the held-out null. Labels are those of a random split, and the images do not depend on it."""

import numpy as np

from docs.evidence.cells import Interval, Outcome, Scenario
from side_jax.evidence.null import nearest_excess, relabellings, share_excess
from side_jax.evidence.scores import InBand

_SIDE = 150  # training photos, and held-out photos
_IMAGES = 240
_BANDS = (("mid", 0.5, 0.6), ("high", 0.6, 1.0))
_PERMUTATIONS = 999
_REPETITIONS = 300


def scenarios() -> list[Scenario]:
    """All of this module."""
    return [_copies_nothing(hubs, classes) for hubs in (False, True) for classes in (1, 30)]


def _copies_nothing(hubs: bool, classes: int) -> Scenario:
    """An image resembles about six photos; with hubs, some photos are resembled by many images."""
    pool = 2 * _SIDE

    def draw(rng: np.random.Generator) -> Outcome:
        popularity = rng.pareto(1.0, pool) + 0.05 if hubs else np.ones(pool)
        share = np.minimum(1.0, 6 * popularity / popularity.sum())
        near = rng.random((_IMAGES, pool)) < share
        scores = np.where(near, 0.5 + 0.3 * rng.random((_IMAGES, pool)), 0.4 * rng.random((_IMAGES, pool)))
        classed = np.arange(pool) % classes
        train = np.zeros(pool, bool)
        for one in range(classes):
            members = rng.permutation(np.flatnonzero(classed == one))
            train[members[: len(members) // 2]] = True
        order = np.argsort(~train, kind="stable")  # training photos are the first half of the pool
        scores = scores[:, order]
        labels = relabellings(train[order], classed[order], int(rng.integers(2**31)), _PERMUTATIONS)
        excess = share_excess(_in_band(scores[:, :_SIDE]), _in_band(scores[:, _SIDE:]), labels, _BANDS)
        found = dict(zip(("share_excess, mid", "share_excess, high"), excess, strict=True))
        found["nearest_excess"] = nearest_excess(scores.argmax(1), labels)
        ends = {name: Interval(one.null_low, one.null_high, one.value) for name, one in found.items()}
        return Outcome(ends, {name: one.p for name, one in found.items()})

    kind = "hubs" if hubs else "no hubs"
    return Scenario(f"{_IMAGES} images, {_SIDE} + {_SIDE} photos of {classes} classes, {kind}", draw, _REPETITIONS)


def _in_band(scores: np.ndarray) -> InBand:
    images, photos = np.nonzero(scores >= _BANDS[0][1])
    offsets = np.concatenate([[0], np.cumsum(np.bincount(images, minlength=len(scores)))])
    return InBand(offsets, photos.astype(np.int32), scores[images, photos].astype(np.float32))
