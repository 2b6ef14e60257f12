"""One λ of the sweep: sample, embed, match, write; batch by batch, from wherever it stopped."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from etils import epath

from side_jax import preemption
from side_jax.arrays import ImageStore
from side_jax.evidence.metrics import carlini_ratio, nearest_ratio
from side_jax.extraction.descriptors import Descriptor
from side_jax.extraction.matching import match, matches_above, nearest_l2
from side_jax.extraction.parts import read_parts, scale_folder, write_part
from side_jax.images import ImageSet
from side_jax.progress import Progress
from side_jax.sampling import Sampler

_NEIGHBOURS = 50  # Carlini et al.'s n


@dataclasses.dataclass(frozen=True)
class Reference:
    """Real images to match against: names, descriptors [M, D], flat pixels in [0, 1] [M, P]."""

    ids: np.ndarray
    descriptors: np.ndarray
    pixels: np.ndarray

    @classmethod
    def of(cls, images: ImageSet, descriptors: np.ndarray) -> "Reference":
        """With descriptors computed before."""
        return cls(np.array(images.ids, object), descriptors, flat_pixels(images.images))

    def subset(self, chosen: np.ndarray) -> "Reference":
        """The images at positions `chosen`."""
        return Reference(self.ids[chosen], self.descriptors[chosen], self.pixels[chosen])


def flat_pixels(images: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W, C] -> float32 [N, H·W·C] in [0, 1]."""
    return images.reshape(len(images), math.prod(images.shape[1:])).astype(np.float32) / 255


def paired_subsets(num_train: int, num_heldout: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Equally many training and held-out images, at random by seed: positions, ascending."""
    rng = np.random.default_rng((seed, 1))
    size = min(num_train, num_heldout)
    return np.sort(rng.permutation(num_train)[:size]), np.sort(rng.permutation(num_heldout)[:size])


def reference_columns(
    images: np.ndarray, descriptors: np.ndarray, reference: Reference, top_k: int, threshold: float, prefix: str
) -> dict[str, Any]:
    """Columns of the match table for one reference set; empty lists and nulls if that has no images."""
    if not len(reference.ids):
        lists: dict[str, Any] = {name: [[] for _ in images] for name in ("ids", "scores", "in_band", "in_band_scores")}
        empty = lists | {name: [None] * len(images) for name in ("l2_id", "carlini_ratio", "nearest_ratio")}
        return {prefix + name: column for name, column in empty.items()}
    size = len(reference.ids)
    best = match(descriptors, reference.descriptors, min(top_k, size))
    above = matches_above(descriptors, reference.descriptors, threshold)
    nearest = nearest_l2(flat_pixels(images), reference.pixels, min(_NEIGHBOURS, size))
    rows: dict[str, Any] = {
        "ids": list(reference.ids[best.indices]),
        "scores": list(best.scores),
        "in_band": [reference.ids[indices] for indices, _ in above],
        "in_band_scores": [scores for _, scores in above],
        "l2_id": reference.ids[nearest.indices[:, 0]],
        "carlini_ratio": carlini_ratio(nearest.scores),
        "nearest_ratio": nearest_ratio(nearest.scores),
    }
    return {prefix + name: column for name, column in rows.items()}


def sweep_scale(
    extract: epath.Path,
    scale: float,
    num_images: int,
    sampler: Sampler,
    embed: Descriptor,
    references: dict[str, Reference],
    top_k: int,
    threshold: float,
    store: ImageStore | None,
) -> None:
    """Generates and matches the images 0 … num_images − 1 of one λ that no part holds yet.

    Args:
      extract: the stage's folder.
      scale: λ.
      num_images: N_G.
      sampler: generates images by index.
      embed: the descriptor.
      references: column prefix -> images to match against.
      top_k: nearest kept.
      threshold: in_band lists go down to this score.
      store: keeps the images too, if given.
    """
    folder = scale_folder(extract, scale)
    missing = np.setdiff1d(np.arange(num_images), read_parts(folder)["index"].to_numpy())
    done, logs = num_images - len(missing), extract / "logs" / folder.name
    with Progress(f"extract λ={scale:g}", num_images, done, logs=logs) as bar:
        for run in _consecutive(missing):
            for indices, images in sampler(run, scale):
                if store is not None:  # before the part: a part says that its images are there
                    store.write(indices, images)
                descriptors = embed(images)
                columns: dict[str, Any] = {
                    "scale": np.full(len(indices), scale, np.float32),
                    "index": indices,
                    "label": sampler.labels(indices) if scale > 0 else np.full(len(indices), -1, np.int32),
                }
                for prefix, reference in references.items():
                    columns |= reference_columns(images, descriptors, reference, top_k, threshold, prefix)
                write_part(folder, columns, embed.facts)
                bar.update(len(indices))
                preemption.check()


def _consecutive(indices: np.ndarray) -> Iterator[np.ndarray]:
    """Splits ascending indices where a gap is, so that a part's name says which images it holds."""
    if len(indices):
        yield from np.split(indices, np.flatnonzero(np.diff(indices) > 1) + 1)
