"""The train / held-out split. Held-out images are never trained on; they calibrate every score (DESIGN §5)."""

import dataclasses
from collections.abc import Iterable

import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from side_jax.data.images import ImageSet, Skipped
from side_jax.runtime.mapped import rows

_THUMBNAIL = 32  # near-duplicates are searched at 32x32 gray, whatever the image size
_FLAT = 1  # gray level; an image whose pixels deviate less has one colour
_BLOCK = 2048  # rows and columns of the similarity matrix held at once


@dataclasses.dataclass(frozen=True)
class Split:
    """Two disjoint sets from one pool, exchangeable for a model that copies nothing; and the files skipped.

    Attributes:
      train: M photos.
      heldout: H photos; their labels are numbers of the same classes.
      skipped: files of either set.
      groups: near-duplicate group of each training and then of each held-out photo, int [M + H]; each group is on one
        side. None if they were not searched, as nothing is held out.
      separate: True if the held-out photos come from a folder of their own.
      key: names what the photos were read from, and how; "" if they are not to be kept.
      folder: the cache that they were read from (`side_jax.data.cache`); "" if they were decoded.
    """

    train: ImageSet
    heldout: ImageSet
    skipped: Skipped = ()
    groups: np.ndarray | None = None
    separate: bool = False
    key: str = ""
    folder: str = ""

    def representatives(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions of one photo of each near-duplicate group, the first: of training and of held-out photos."""
        count = len(self.train)
        groups = np.arange(count + len(self.heldout)) if self.groups is None else self.groups
        first = np.unique(groups, return_index=True)[1]
        return np.sort(first[first < count]), np.sort(first[first >= count]) - count

    def strata(self) -> tuple[np.ndarray, np.ndarray]:
        """The stratum of each training and of each held-out photo: exchangeable are the photos of one stratum.

        A stratum is a class. Of two separate folders, the photos whose class only one folder has form one more stratum:
        that both folders come from one pool is the auditor's claim, whatever their subfolders are called.
        """
        train, heldout = self.train.labels, self.heldout.labels
        if not self.separate:
            return train, heldout
        shared, rest = np.intersect1d(train, heldout), max(train.max(initial=-1), heldout.max(initial=-1)) + 1
        return np.where(np.isin(train, shared), train, rest), np.where(np.isin(heldout, shared), heldout, rest)


def split_images(images: ImageSet, heldout_fraction: float, near_duplicate: float, seed: int) -> Split:
    """Splits at random by `seed`, class by class, near-duplicates always on one side.

    Args:
      images: the pool.
      heldout_fraction: share held out of the pool and of each class, as far as whole groups of near-duplicates allow;
        0 ≤ fraction < 1.
      near_duplicate: cosine of mean-centred 32x32 gray pixels from which two images are near-duplicates.
      seed: decides the split, alone.

    Raises:
      ValueError: if the fraction is out of range, or leaves no image to train on or none held out.
    """
    if not 0 <= heldout_fraction < 1:
        raise ValueError(f"dataset.heldout_fraction must be in [0, 1), got {heldout_fraction}")
    if not 0 < near_duplicate <= 1:
        raise ValueError(f"dataset.near_duplicate must be in (0, 1], got {near_duplicate}")
    if heldout_fraction == 0:
        return Split(dataclasses.replace(images, skipped=()), images[np.zeros(0, int)], images.skipped)
    held = np.zeros(len(images), bool)
    groups = near_duplicate_groups(rows(images.images), near_duplicate)
    rng = np.random.default_rng(seed)
    owed = 0.0  # images that rounding left over in the classes before
    for label in np.unique(images.labels):
        members = np.flatnonzero(images.labels == label)
        owed += heldout_fraction * len(members)
        chosen = _hold_out_class(members, groups, owed, rng)
        owed -= len(chosen)
        held[chosen] = True
    held = np.isin(groups, groups[held])  # a group that spans classes goes as a whole
    if held.all() or not held.any():
        raise ValueError(
            f"dataset.heldout_fraction {heldout_fraction} of {len(images)} images leaves"
            f" {int((~held).sum())} to train on and {int(held.sum())} held out; both must be at least 1"
        )
    train, heldout = np.flatnonzero(~held), np.flatnonzero(held)
    return Split(images[train], images[heldout], images.skipped, groups[np.concatenate([train, heldout])])


def _hold_out_class(members: np.ndarray, groups: np.ndarray, wanted: float, rng: np.random.Generator) -> np.ndarray:
    """Members in whole groups, in random order, each taken if that brings their number nearer to `wanted`."""
    names, of_group = np.unique(groups[members], return_inverse=True)
    by_group = np.split(members[np.argsort(of_group, kind="stable")], np.cumsum(np.bincount(of_group))[:-1])
    taken, number = [np.zeros(0, int)], 0
    for group in rng.permutation(len(names)):
        chosen = by_group[group]
        if abs(number + len(chosen) - wanted) < abs(number - wanted):
            taken.append(chosen)
            number += len(chosen)
    return np.concatenate(taken)


def near_duplicate_groups(images: Iterable[np.ndarray], threshold: float) -> np.ndarray:
    """Connected components of "cosine ≥ threshold", as they are or mirrored, numbered by their first image: int [N].

    Images of one colour, which have no cosine, are near-duplicates if their gray levels are equal. 2 N² cosines are
    computed; memory is O(N), whatever the number of near-duplicates.

    Args:
      images: N of uint8 [H, W, C], as an array or one by one.
      threshold: cosine of mean-centred 32x32 gray pixels.
    """
    pixels: np.ndarray = np.fromiter(map(_thumbnail, images), np.dtype((np.float32, _THUMBNAIL**2)))
    groups = _joined(np.arange(len(pixels)), *_one_colour(pixels))
    pixels -= pixels.mean(1, keepdims=True)
    pixels /= np.maximum(np.linalg.norm(pixels, axis=1, keepdims=True), 1e-6)
    for start in range(0, len(pixels), _BLOCK):
        block = pixels[start : start + _BLOCK]
        mirrored = block.reshape(-1, _THUMBNAIL, _THUMBNAIL)[:, :, ::-1].reshape(block.shape)
        for other in range(start, len(pixels), _BLOCK):
            others = pixels[other : other + _BLOCK].T
            i, j = np.nonzero(np.maximum(block @ others, mirrored @ others) >= threshold)
            groups = _joined(groups, i + start, j + other)
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


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
