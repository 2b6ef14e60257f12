"""The train / held-out split. Held-out images are never trained on; they calibrate every score (DESIGN §5)."""

import dataclasses

import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from side_jax.images import ImageSet

_THUMBNAIL = 32  # near-duplicates are looked for at 32x32 gray, whatever the image size
_BLOCK = 4096  # rows of the similarity matrix held at once


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
    held = np.zeros(len(images), bool)
    if heldout_fraction > 0:
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
    held: list[int] = []
    for group in rng.permutation(np.unique(groups[members])):
        chosen = members[groups[members] == group]
        if abs(len(held) + len(chosen) - wanted) < abs(len(held) - wanted):
            held += chosen.tolist()
    return np.array(held, int)


def near_duplicate_groups(images: np.ndarray, threshold: float) -> np.ndarray:
    """Connected components of "cosine ≥ threshold". uint8 [N, H, W, C] -> int [N], equal within a group."""
    unit = _thumbnails(images)
    rows, columns = [], []
    for start in range(0, len(unit), _BLOCK):
        i, j = np.nonzero(unit[start : start + _BLOCK] @ unit.T >= threshold)
        rows.append(i + start)
        columns.append(j)
    i, j = np.concatenate(rows), np.concatenate(columns)
    graph = coo_array((np.ones(len(i), np.int8), (i, j)), shape=(len(unit), len(unit)))
    return connected_components(graph, directed=False)[1]


def _thumbnails(images: np.ndarray) -> np.ndarray:
    """Mean-centred unit-norm 32x32 gray pixels, float32 [N, 1024]."""
    gray = [Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).convert("L") for image in images]
    small = [np.asarray(g.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BILINEAR), np.float32) for g in gray]
    flat = np.stack(small).reshape(len(images), -1)
    flat -= flat.mean(1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
