"""Real images to match against, on the devices: descriptors for the score, pixels for ℓ₂."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, UInt8

from side_jax.extraction.matching import list_length, own, padded_rows, search
from side_jax.sharding import local_mesh, replicate

NEIGHBOURS = 50  # Carlini et al.'s n
_HOST_BATCH = 64
_HOST_ROWS = 4096


class References(NamedTuple):
    """Arrays of one reference set, rows padded as `search` wants them; both biases are −∞ in the padding.

    Attributes:
      descriptors: float32 [M', D].
      bias: float32 [M'], 0.
      pixels: uint8 [M″, P].
      half_norms: float32 [M″], −½‖y‖², y = pixels/255 − centre: ‖x − y‖² = ‖x‖² − 2 (x·y − ½‖y‖²).
      centre: float32 [P], about the mean image: smaller norms, less cancellation.
    """

    descriptors: jax.Array
    bias: jax.Array
    pixels: jax.Array
    half_norms: jax.Array
    centre: jax.Array


def layout(sharded: bool) -> Any:
    """`References` of the arrays' layouts, sharded over "data" or replicated."""
    rows = PartitionSpec("data") if sharded else PartitionSpec()
    return References(*(rows,) * 4, PartitionSpec())  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True)
class ReferenceSet:
    """Names and arrays of M real images."""

    ids: np.ndarray
    arrays: References

    def __len__(self) -> int:
        return len(self.ids)


def place_references(
    ids: np.ndarray,
    read_descriptors: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    chosen: np.ndarray,
    mesh: Mesh,
    sharded: bool,
) -> ReferenceSet:
    """A reference set on the devices of a mesh. A process reads what its own devices hold, and no more.

    Args:
      ids: of all images.
      read_descriptors: positions -> float32 [N, D].
      images: all of them, uint8 [M, H, W, C].
      chosen: positions of the images that are in the set, ascending.
      mesh: the devices.
      sharded: each device holds an equal share, in order; else each holds all.
    """
    shards = mesh.size if sharded else 1
    spec = layout(sharded)
    flat = images.reshape(len(images), math.prod(images.shape[1:]))
    centre = flat[chosen[:_HOST_ROWS]].mean(0, dtype=np.float32) / 255
    width = read_descriptors(chosen[:1]).shape[1]

    def place(
        spec: PartitionSpec, shape: tuple[int, ...], read: Callable[[np.ndarray], np.ndarray], padding: float = 0.0
    ) -> jax.Array:
        """What `read` has of the rows of `chosen` that each device is to hold; beyond the last there is padding."""

        def rows(index: Any) -> np.ndarray:
            places = np.arange(shape[0])[index[0]]
            real = read(chosen[places[places < len(chosen)]])
            edges = ((0, len(places) - len(real)), *((0, 0) for _ in shape[1:]))
            return np.pad(real, edges, constant_values=padding)

        return jax.make_array_from_callback(shape, NamedSharding(mesh, spec), rows)

    def half_norms(positions: np.ndarray) -> np.ndarray:
        parts = [np.zeros(0, np.float32)]
        for start in range(0, len(positions), _HOST_ROWS):
            y = flat[positions[start : start + _HOST_ROWS]].astype(np.float32) / 255 - centre
            parts.append(-0.5 * np.square(y).sum(1))
        return np.concatenate(parts)

    rows, pixel_rows = padded_rows(len(chosen), width, shards), padded_rows(len(chosen), flat.shape[1], shards)
    arrays = References(
        place(spec.descriptors, (rows, width), read_descriptors),
        place(spec.bias, (rows,), lambda positions: np.zeros(len(positions), np.float32), -np.inf),
        place(spec.pixels, (pixel_rows, flat.shape[1]), lambda positions: flat[positions]),
        place(spec.half_norms, (pixel_rows,), half_norms, -np.inf),
        replicate(centre, mesh),
    )
    return ReferenceSet(ids[chosen], arrays)


class Comparison(NamedTuple):
    """What N images are like in one reference set of M.

    Attributes:
      scores: float32 [N, K], best first.
      indices: int32 [N, K], positions in the set.
      above: int32 [N], how many score at least the threshold: they are the first in the lists, if K is enough.
      distances: float32 [N, ≤ 50], ℓ₂ to the nearest by pixels, ascending; pixels in [0, 1].
      nearest: int32 [N], position of the nearest by pixels.
    """

    scores: jax.Array
    indices: jax.Array
    above: jax.Array
    distances: jax.Array
    nearest: jax.Array


def compare(
    images: UInt8[Array, "n h w c"],
    descriptors: Float[Array, "n d"],
    references: References,
    size: int,
    k: int,
    threshold: float,
    axis: str | None = None,
) -> Comparison:
    """Images against one reference set. Pure; inside `shard_map` if the set is sharded over `axis`.

    Args:
      images: uint8 [N, H, W, C]; `gathered`, with `axis`.
      descriptors: theirs, float32 [N, D]; as the images.
      references: the set.
      size: M.
      k: length of the lists, 1 … M.
      threshold: what `above` counts.
      axis: as in `search`.

    Returns:
      For the images of this device.
    """
    found = search(descriptors, references.descriptors, references.bias, k, threshold, None, axis)
    pixels, neighbours = images.reshape(images.shape[0], -1), min(NEIGHBOURS, size)
    near = search(pixels, references.pixels, references.half_norms, neighbours, None, references.centre, axis)
    x = own(pixels, axis).astype(jnp.float32) / 255 - references.centre[None]
    squared = jnp.square(x).sum(1, keepdims=True) - 2 * near.scores
    return Comparison(*found, jnp.sqrt(jnp.maximum(squared, 0)), near.indices[:, 0])


_compare_block = jax.jit(compare, static_argnames=("size", "k", "threshold"))


def compare_photos(
    images: np.ndarray, descriptors: np.ndarray, references: ReferenceSet, top_k: int, threshold: float
) -> Comparison:
    """`compare` for any number of images on the host, lists as long as they need to be; NumPy arrays.

    `references` must be replicated over `local_mesh`.
    """
    size, k = len(references), list_length(top_k, len(references))
    pad = -len(images) % _HOST_BATCH
    images, descriptors = np.pad(images, ((0, pad), (0, 0), (0, 0), (0, 0))), np.pad(descriptors, ((0, pad), (0, 0)))
    while True:
        parts = []
        for start in range(0, len(images), _HOST_BATCH):
            rows = replicate(
                (images[start : start + _HOST_BATCH], descriptors[start : start + _HOST_BATCH]), local_mesh()
            )
            parts.append(jax.device_get(_compare_block(*rows, references.arrays, size=size, k=k, threshold=threshold)))
        columns = [np.concatenate(column)[: len(images) - pad] for column in zip(*parts, strict=True)]
        whole = Comparison(*columns)  # type: ignore[arg-type]
        longest = int(np.asarray(whole.above).max(initial=0))
        if longest <= k:
            return whole
        k = list_length(longest, size)
