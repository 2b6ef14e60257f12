"""The train / held-out split. Held-out images are never trained on; they calibrate every score (DESIGN §5)."""

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from side_jax.data.images import ImageSet, Skipped
from side_jax.runtime.mapped import rows

_THUMBNAIL = 32  # near-duplicates are searched at 32x32 gray, whatever the image size
_FLAT = 1  # gray level; an image whose pixels deviate less has one colour
_BLOCK = 2048  # rows and columns of the similarity matrix held at once
_LEAST = 0.98  # cosine; of no pool are two photos that are less alike one picture
_NEARER = 1 / 16  # of the typical 1 − cosine, which is half a squared distance: a quarter of the distance
_SAME = 0.99999  # cosine of equal pixels, but for rounding
_SAMPLE = 1024  # photos that say what is typical of a pool


@dataclasses.dataclass(frozen=True)
class Split:
    """Two disjoint sets from one pool, exchangeable for a model that copies nothing; and the files skipped.

    Attributes:
      train: M photos.
      heldout: H photos; their labels are numbers of the same classes.
      skipped: files of either set.
      traits: of either set, as `ImageSet.traits`.
      groups: near-duplicate group of each training and then of each held-out photo, int [M + H]; each group is on one
        side. None if they were not searched, as nothing is held out.
      near_duplicate: the cosine from which two photos were near-duplicates; None if they were not searched.
      separate: True if the held-out photos come from a folder of their own.
      key: names what the photos were read from, and how; "" if they are not to be kept.
      folder: the cache that they were read from (`side_jax.data.cache`); "" if they were decoded.
    """

    train: ImageSet
    heldout: ImageSet
    skipped: Skipped = ()
    groups: np.ndarray | None = None
    near_duplicate: float | None = None
    separate: bool = False
    traits: Mapping[str, int] = dataclasses.field(default_factory=dict)
    key: str = ""
    folder: str = ""

    def representatives(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions of one photo of each near-duplicate group, the first: of training and of held-out photos."""
        count = len(self.train)
        groups = np.arange(count + len(self.heldout)) if self.groups is None else self.groups
        first = np.unique(groups, return_index=True)[1]
        return np.sort(first[first < count]), np.sort(first[first >= count]) - count

    def train_pictures(self) -> np.ndarray | None:
        """The picture of each training photo, numbered from 0, int [M]; None if near-duplicates were not searched."""
        if self.groups is None:
            return None
        pictures: np.ndarray = np.unique(self.groups[: len(self.train)], return_inverse=True)[1]
        return pictures

    def strata(self) -> tuple[np.ndarray, np.ndarray]:
        """The stratum of each training and of each held-out photo: exchangeable are the photos of one stratum.

        A stratum is a class; the photos of near-duplicate groups that span classes form one more, as they are drawn. Of
        two separate folders, the photos whose stratum only one folder has form one more still: that both folders come
        from one pool is the auditor's claim, whatever their subfolders are called.
        """
        train, heldout = self.train.labels, self.heldout.labels
        if self.groups is not None:
            both = _strata(np.concatenate([train, heldout]), self.groups)
            train, heldout = both[: len(train)], both[len(train) :]
        if not self.separate:
            return train, heldout
        shared, rest = np.intersect1d(train, heldout), max(train.max(initial=-1), heldout.max(initial=-1)) + 1
        return np.where(np.isin(train, shared), train, rest), np.where(np.isin(heldout, shared), heldout, rest)


def split_images(images: ImageSet, heldout_fraction: float, near_duplicate: float, seed: int) -> Split:
    """Splits at random by `seed`, class by class, near-duplicates always on one side.

    Near-duplicate groups that span classes are drawn after the classes, as if they were a class of their own: so each
    group is drawn once.

    Args:
      images: the pool.
      heldout_fraction: share held out of the pool and of each class, as far as whole groups of near-duplicates allow;
        0 ≤ fraction < 1.
      near_duplicate: cosine of mean-centred 32x32 gray pixels from which two images are near-duplicates; 0:
        `near_duplicate_cosine` of the pool.
      seed: decides the split, alone.

    Raises:
      ValueError: if the fraction is out of range, or leaves no image to train on or none held out.
    """
    check_shares(heldout_fraction, near_duplicate)
    if heldout_fraction == 0:
        return Split(dataclasses.replace(images, skipped=()), images[np.zeros(0, int)], images.skipped)
    held = np.zeros(len(images), bool)
    cosine = near_duplicate or near_duplicate_cosine(images.images)
    groups = near_duplicate_groups(rows(images.images), cosine)
    rng = np.random.default_rng(seed)
    owed = 0.0  # images that rounding left over in the classes before
    strata = _strata(images.labels, groups)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        owed += heldout_fraction * len(members)
        chosen = whole_groups(members, groups, owed, rng)
        owed -= len(chosen)
        held[chosen] = True
    if held.all() or not held.any():
        raise ValueError(
            f"dataset.heldout_fraction {heldout_fraction} of {len(images)} images leaves"
            f" {int((~held).sum())} to train on and {int(held.sum())} held out; both must be at least 1"
            f"{_largest(images, groups, cosine)}"
        )
    train, heldout = np.flatnonzero(~held), np.flatnonzero(held)
    return Split(images[train], images[heldout], images.skipped, groups[np.concatenate([train, heldout])], cosine)


def check_shares(heldout_fraction: float, near_duplicate: float) -> None:
    """Raises `ValueError` for a share or a cosine out of range."""
    if not 0 <= heldout_fraction < 1:
        raise ValueError(f"dataset.heldout_fraction must be in [0, 1), got {heldout_fraction}")
    if not 0 <= near_duplicate <= 1:
        raise ValueError(f"dataset.near_duplicate must be in (0, 1], or 0 for the pool's own, got {near_duplicate}")


def _largest(images: ImageSet, groups: np.ndarray, cosine: float) -> str:
    """The end of a message: the largest group of near-duplicates, and the two photos of it that are most alike."""
    members = np.flatnonzero(groups == np.bincount(groups).argmax())
    if len(members) == 1:
        return ""
    pixels = _unit_thumbnails(images.images[members[:_SAMPLE]])
    alike = _cosines(pixels, pixels)
    np.fill_diagonal(alike, -1)
    first, second = (int(i) for i in np.unravel_index(alike.argmax(), alike.shape))
    return (
        f". The largest group of near-duplicates, which are never separated, has {len(members)} of the photos, such as"
        f" {images.ids[members[first]]} and {images.ids[members[second]]} (cosine {alike[first, second]:.5f}; from"
        f" {cosine:.5g} two photos are near-duplicates). If they are different pictures, set dataset.near_duplicate"
        " higher"
    )


def _strata(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The class of each photo; one number more for all photos whose group has several classes. int [N]."""
    lowest = np.full(groups.max(initial=-1) + 1, labels.max(initial=-1) + 1)
    highest = np.full_like(lowest, -1)
    np.minimum.at(lowest, groups, labels)
    np.maximum.at(highest, groups, labels)
    return np.where((lowest == highest)[groups], labels, labels.max(initial=-1) + 1)


def whole_groups(members: np.ndarray, groups: np.ndarray, wanted: float, rng: np.random.Generator) -> np.ndarray:
    """Members in whole groups, in random order, each taken if that brings their number nearer to `wanted`.

    Args:
      members: positions of photos, int [K].
      groups: near-duplicate group by position.
      wanted: number of photos.
      rng: decides the order.

    Returns:
      Positions, group by group.
    """
    names, of_group = np.unique(groups[members], return_inverse=True)
    by_group = np.split(members[np.argsort(of_group, kind="stable")], np.cumsum(np.bincount(of_group))[:-1])
    taken, number = [np.zeros(0, int)], 0
    for group in rng.permutation(len(names)):
        chosen = by_group[group]
        if abs(number + len(chosen) - wanted) < abs(number - wanted):
            taken.append(chosen)
            number += len(chosen)
    return np.concatenate(taken)


def near_duplicate_cosine(images: np.ndarray) -> float:
    """The cosine from which two photos of a pool are near-duplicates: 0.98, or more where all photos are much alike.

    Copies of a picture (compressed, resized, mirrored) are far nearer to each other than two photos of the pool usually
    are, whatever kind of photos these are. So the distance of two near-duplicates is at most a quarter of the median
    distance of two photos: 1 − cosine is half a squared distance of unit vectors, and at most a sixteenth of its
    median. Half of all pairs would have to be copies to move that median, where the distances to nearest neighbours
    would be moved by the very repeats that are searched. If the rule is too wide for a pool, the split is refused or
    the report lists a group that is none, which can be seen; too narrow a rule would hide repeats.

    Args:
      images: the pool, uint8 [N, H, W, C]; of many, 1,024 evenly spaced ones are compared.
    """
    chosen = np.linspace(0, len(images) - 1, min(len(images), _SAMPLE)).astype(int)
    pixels = _unit_thumbnails(images[chosen])
    pairs = _cosines(pixels, pixels)[np.triu_indices(len(pixels), 1)]
    typical = 1 - float(np.median(pairs)) if len(pairs) else 1.0
    return min(max(_LEAST, 1 - _NEARER * typical), _SAME)


def near_duplicate_groups(images: Iterable[np.ndarray], threshold: float) -> np.ndarray:
    """Connected components of "cosine ≥ threshold", as they are or mirrored, numbered by their first image: int [N].

    Images of one colour, which have no cosine, are near-duplicates if their gray levels are equal. 2 N² cosines are
    computed; memory is O(N), whatever the number of near-duplicates.

    Args:
      images: N of uint8 [H, W, C], as an array or one by one.
      threshold: cosine of mean-centred 32x32 gray pixels, such as `near_duplicate_cosine` of the pool.
    """
    pixels = _thumbnails(images)
    groups = _joined(np.arange(len(pixels)), *_one_colour(pixels))
    _centre(pixels)
    for start in range(0, len(pixels), _BLOCK):
        block = pixels[start : start + _BLOCK]
        for other in range(start, len(pixels), _BLOCK):
            i, j = np.nonzero(_cosines(block, pixels[other : other + _BLOCK]) >= threshold)
            groups = _joined(groups, i + start, j + other)
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def _unit_thumbnails(images: np.ndarray) -> np.ndarray:
    pixels = _thumbnails(images)
    _centre(pixels)
    return pixels


def _thumbnails(images: Iterable[np.ndarray]) -> np.ndarray:
    """Gray pixels, float32 [N, 1024]."""
    pixels: np.ndarray = np.fromiter(map(_thumbnail, images), np.dtype((np.float32, _THUMBNAIL**2)))
    return pixels


def _centre(pixels: np.ndarray) -> None:
    """Makes rows of mean 0 and norm 1 of them, in place; an image of one colour becomes 0."""
    pixels -= pixels.mean(1, keepdims=True)
    pixels /= np.maximum(np.linalg.norm(pixels, axis=1, keepdims=True), 1e-6)


def _cosines(pixels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Cosines [N, M] of unit rows [N, 1024] and [M, 1024], as they are or mirrored: the larger."""
    mirrored = pixels.reshape(-1, _THUMBNAIL, _THUMBNAIL)[:, :, ::-1].reshape(pixels.shape)
    return np.maximum(pixels @ others.T, mirrored @ others.T)


def _joined(groups: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """The groups, int [N], after those of the images i and j have been joined, pair by pair."""
    i, j = groups[i], groups[j]
    apart = i != j
    if not apart.any():
        return groups
    edges = np.ones(int(apart.sum()), np.int8), (i[apart], j[apart])
    return connected_components(coo_array(edges, shape=(len(groups),) * 2), directed=False)[1][groups]


def _one_colour(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of images of one colour with the same gray level, [K] and [K]."""
    flat = np.flatnonzero(pixels.std(1) < _FLAT)
    level = pixels[flat].mean(1)
    order = np.argsort(level, kind="stable")
    same = np.diff(level[order]) <= _FLAT
    return flat[order[:-1][same]], flat[order[1:][same]]


def _thumbnail(image: np.ndarray) -> np.ndarray:
    gray = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).convert("L")
    return np.asarray(gray.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BILINEAR), np.float32).ravel()
