"""The photos that the recall stage asks for, and their order."""

import dataclasses

import numpy as np

from side_jax.data.splitting import Split


@dataclasses.dataclass(frozen=True)
class AskedPhotos:
    """The photos in the order in which they are asked for, in pairs of a training and a held-out photo.

    Image n belongs to round n // 2P, and there to pair (n mod 2P) // 2: first the training photo. So more photos or
    more rounds extend the stage, and an image depends on its index alone.

    Attributes:
      split: of the audit.
      train: positions of the training photos in the guide's set, one of each picture; they come first.
      heldout: of the held-out photos.
      order: positions in the guide's set, by pair: int [P, 2].
    """

    split: Split
    train: np.ndarray
    heldout: np.ndarray
    order: np.ndarray

    @classmethod
    def of(cls, split: Split) -> "AskedPhotos":
        """Those of an audit."""
        train, heldout = split.representatives()
        strata = split.strata()
        pairs = _pairs(strata[0][train], strata[1][heldout])
        order = pairs + np.array([0, len(train)])
        return cls(split, train, heldout, order)

    @property
    def classes(self) -> np.ndarray:
        """Each photo of the set is a class of its own."""
        return np.arange(len(self.train) + len(self.heldout), dtype=np.int32)

    def count(self, wanted: int) -> int:
        """Pairs that are asked for, `wanted` or all."""
        return min(wanted, len(self.order))

    def indices(self, wanted: int, rounds: int) -> np.ndarray:
        """All images of so many pairs and rounds, ascending: int [R · 2n]."""
        starts = np.arange(rounds)[:, None] * self.order.size
        indices: np.ndarray = (starts + np.arange(2 * self.count(wanted))).ravel()
        return indices

    def position(self, indices: np.ndarray) -> np.ndarray:
        """The position in the set of the photo that each image is guided to."""
        positions: np.ndarray = self.order.ravel()[indices % self.order.size]
        return positions

    def images(self) -> np.ndarray:
        """The guide's set, uint8 [P', H, W, C]."""
        return np.concatenate([self.split.train.images[self.train], self.split.heldout.images[self.heldout]])


def _pairs(train: np.ndarray, heldout: np.ndarray) -> np.ndarray:
    """Pairs of a training and a held-out photo, as many as there are, of one stratum while it has both: int [P, 2].

    Any beginning of the list has its share of every stratum, and within one it is random.

    Args:
      train: strata of the training photos.
      heldout: strata of the held-out photos.
    """
    rng = np.random.default_rng((len(train), len(heldout), 6))
    pairs, places = [np.zeros((0, 2), int)], [np.zeros(0)]
    for stratum in np.unique(train):
        members = [rng.permutation(np.flatnonzero(side == stratum)) for side in (train, heldout)]
        count = min(map(len, members))
        pairs.append(np.stack([rows[:count] for rows in members], axis=1))
        places.append((np.arange(count) + rng.random(count)) / max(count, 1))
    together = np.concatenate(pairs)[np.argsort(np.concatenate(places), kind="stable")]
    left = [
        rng.permutation(np.setdiff1d(np.arange(len(side)), together[:, i])) for i, side in enumerate((train, heldout))
    ]
    count = min(map(len, left))
    return np.concatenate([together, np.stack([rows[:count] for rows in left], axis=1)])
