"""The train / held-out split. Held-out images are never trained on; they calibrate every score (DESIGN §5)."""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from side_jax.images import ImageSet

_THUMBNAIL = 32  # near-duplicates are looked for at 32x32 gray, whatever the image size
_BLOCK = 2048  # rows and columns of the similarity matrix held at once


@dataclasses.dataclass(frozen=True)
class Split:
    """Two disjoint sets from one pool, exchangeable for a model that copies nothing; and the files skipped."""

    train: ImageSet
    heldout: ImageSet
    skipped: tuple[tuple[str, str], ...] = ()


def split_images(images: ImageSet, heldout_fraction: float, near_duplicate: float, seed: int) -> Split:
    """Splits at random by `seed`, class by class, near-duplicates always on one side.

    Args:
      images: the pool.
      heldout_fraction: share of the pool held out, 0 ≤ fraction < 1. Of each class that share is held out, as far as
        whole groups of near-duplicates allow.
      near_duplicate: cosine of mean-centred 32x32 gray pixels from which two images are near-duplicates.
      seed: decides the split, alone.

    Raises:
      ValueError: if the fraction is out of range, or leaves no image to train on or none held out.
    """
    if not 0 <= heldout_fraction < 1:
        raise ValueError(f"dataset.heldout_fraction must be in [0, 1), got {heldout_fraction}")
    if not 0 < near_duplicate <= 1:
        raise ValueError(f"dataset.near_duplicate must be in (0, 1], got {near_duplicate}")
    if heldout_fraction == 0:  # the pool itself and no copy: it is most of the memory
        return Split(dataclasses.replace(images, skipped=()), images[np.zeros(0, int)], images.skipped)
    held = np.zeros(len(images), bool)
    groups = near_duplicate_groups(images.images, near_duplicate)
    rng = np.random.default_rng(seed)
    owed = 0.0  # what rounding left over in the classes before
    for label in np.unique(images.labels):
        members = np.flatnonzero(images.labels == label)
        wanted = heldout_fraction * len(members) + owed
        chosen = _hold_out_class(members, groups, wanted, rng)
        owed = wanted - len(chosen)
        held[chosen] = True
    held = np.isin(groups, groups[held])  # a group that spans classes goes as a whole
    if held.all() or not held.any():
        raise ValueError(
            f"dataset.heldout_fraction {heldout_fraction} of {len(images)} images leaves"
            f" {int((~held).sum())} to train on and {int(held.sum())} held out; both must be at least 1"
        )
    return Split(images[np.flatnonzero(~held)], images[np.flatnonzero(held)], images.skipped)


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
    """Connected components of "cosine ≥ threshold", numbered by their first image: int [N].

    N² cosines are computed; memory is O(N), whatever the number of near-duplicates.

    Args:
      images: N of uint8 [H, W, C]; an array, or whatever gives them one by one.
      threshold: cosine of mean-centred 32x32 gray pixels.
    """
    unit = _thumbnails(images)
    groups = np.arange(len(unit))
    for start in range(0, len(unit), _BLOCK):
        for other in range(start, len(unit), _BLOCK):
            i, j = np.nonzero(unit[start : start + _BLOCK] @ unit[other : other + _BLOCK].T >= threshold)
            i, j = groups[i + start], groups[j + other]
            joined = i != j
            if joined.any():
                edges = np.ones(int(joined.sum()), np.int8), (i[joined], j[joined])
                groups = connected_components(coo_array(edges, shape=(len(unit),) * 2), directed=False)[1][groups]
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def _thumbnails(images: Iterable[np.ndarray]) -> np.ndarray:
    """Mean-centred unit-norm 32x32 gray pixels, float32 [N, 1024]."""

    def small() -> Iterator[np.ndarray]:
        for image in images:
            gray = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).convert("L")
            yield np.asarray(gray.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BILINEAR), np.float32).ravel()

    flat: np.ndarray = np.fromiter(small(), np.dtype((np.float32, _THUMBNAIL**2)))
    flat -= flat.mean(1, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    return flat
