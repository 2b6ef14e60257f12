"""Reference sets on the devices: descriptors for the score, pixels for ℓ₂; and the comparison with them."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Float, Int, UInt8

from side_jax.matching.search import Vectors, list_length, own, padded_rows, search
from side_jax.runtime.batching import ROWS, WHOLE, batched
from side_jax.runtime.sharding import local_mesh, replicate

NEIGHBOURS = 50  # Carlini et al.'s n
_HOST_BATCH = 64
_HOST_ROWS = 4096
Rows = jax.Array | np.ndarray  # on the devices, or on the host


@flax.struct.dataclass
class References:
    """One reference set on the devices: a pytree.

    Attributes:
      descriptors: float32 rows; the bias is 0.
      pixels: uint8 rows; the bias is −½‖y‖², y = pixels/255 − centre, as ‖x − y‖² = ‖x‖² − 2 (x·y − ½‖y‖²). The centre
        is about the mean photo: smaller norms, less cancellation.
      size: photos, M.
      axis: mesh axis over which rows are sharded, inside `shard_map`; None: every device has all of them.
    """

    descriptors: Vectors
    pixels: Vectors
    size: int = flax.struct.field(pytree_node=False)
    axis: str | None = flax.struct.field(pytree_node=False)

    def layout(self) -> "References":
        """The layout of every array over the devices, in its place."""
        whole = jax.tree.map(lambda _: WHOLE, self)
        if self.axis is None:
            return whole
        rows: Any = ROWS
        pixels = Vectors(rows, rows, whole.pixels.centre)
        return dataclasses.replace(whole, descriptors=Vectors(rows, rows), pixels=pixels)


class ReferenceSet(NamedTuple):
    """A group of the pool.

    Attributes:
      members: positions in the pool, ascending, int32 [M].
      arrays: of these photos.
    """

    members: np.ndarray
    arrays: References


@dataclasses.dataclass(frozen=True)
class Photos:
    """The photos of a pool on the host, read by position.

    Attributes:
      descriptors: positions -> float32 [N, D].
      pixels: positions -> uint8 [N, P].
    """

    descriptors: Callable[[np.ndarray], np.ndarray]
    pixels: Callable[[np.ndarray], np.ndarray]


def place_references(photos: Photos, members: np.ndarray, mesh: Mesh, sharded: bool) -> ReferenceSet:
    """A group of photos on the devices of a mesh. A process reads what its own devices hold, and no more.

    Args:
      photos: reads them.
      members: positions of the group, ascending.
      mesh: the devices.
      sharded: each device holds an equal share, in order; else each holds all.
    """
    shards, sharding = (mesh.size, NamedSharding(mesh, ROWS)) if sharded else (1, NamedSharding(mesh, WHOLE))
    some = photos.pixels(members[:_HOST_ROWS])
    centre = some.mean(0, dtype=np.float32) / 255
    width, pixels = photos.descriptors(members[:1]).shape[1], some.shape[1]

    def place(shape: tuple[int, ...], read: Callable[[np.ndarray], np.ndarray], padding: float = 0.0) -> jax.Array:
        """Each device's members from `read`, then padding."""

        def rows(index: Any) -> np.ndarray:
            positions = np.arange(shape[0])[index[0]]
            real = read(members[positions[positions < len(members)]])
            edges = ((0, len(positions) - len(real)), *((0, 0) for _ in shape[1:]))
            return np.pad(real, edges, constant_values=padding)

        return jax.make_array_from_callback(shape, sharding, rows)

    def zeros(positions: np.ndarray) -> np.ndarray:
        return np.zeros(len(positions), np.float32)

    def half_norms(positions: np.ndarray) -> np.ndarray:
        norms = zeros(positions)
        for start in range(0, len(positions), _HOST_ROWS):
            chosen = slice(start, start + _HOST_ROWS)
            y = photos.pixels(positions[chosen]).astype(np.float32) / 255 - centre
            norms[chosen] = -0.5 * np.square(y).sum(1)
        return norms

    rows, pixel_rows = (padded_rows(len(members), columns, shards) for columns in (width, pixels))
    descriptors = Vectors(place((rows, width), photos.descriptors), place((rows,), zeros, -np.inf))
    squares = place((pixel_rows,), half_norms, -np.inf)
    images = Vectors(place((pixel_rows, pixels), photos.pixels), squares, replicate(centre, mesh))
    return ReferenceSet(members, References(descriptors, images, len(members), "data" if sharded else None))


class Comparison(NamedTuple):
    """The matches of N images with one reference set.

    Attributes:
      scores: float32 [N, K], best first.
      indices: int32 [N, K], positions in the set; in the pool after `at_positions`.
      above: int32 [N], how many score at least the threshold: they are the first in the lists, if K is enough.
      distances: float32 [N, ≤ 50], ℓ₂ to the nearest by pixels, ascending; pixels in [0, 1].
      nearest: int32 [N], position of the nearest by pixels.
    """

    scores: Rows
    indices: Rows
    above: Rows
    distances: Rows
    nearest: Rows


def compare(
    images: UInt8[Array, "n h w c"],
    descriptors: Float[Array, "n *views d"],
    references: References,
    k: int,
    threshold: float,
) -> Comparison:
    """Images against one reference set. Pure; inside `shard_map` if the set is sharded.

    ℓ₂ is that of the images as they are, mirrored or not.

    Args:
      images: uint8 [N, H, W, C]; `gathered`, if the set is sharded.
      descriptors: theirs, float32 [N, D], or of several views of each [N, V, D].
      references: the set, of M photos.
      k: length of the lists, 1 … M.
      threshold: what `above` counts.

    Returns:
      For the images of this device.
    """
    found = search(descriptors, references.descriptors, k, threshold, references.axis)
    pixels, centre = images.reshape(images.shape[0], -1), references.pixels.centre
    assert centre is not None
    near = search(pixels, references.pixels, min(NEIGHBOURS, references.size), None, references.axis)
    x = own(pixels, references.axis).astype(jnp.float32) / 255 - centre[None]
    squared = jnp.square(x).sum(1, keepdims=True) - 2 * near.scores
    return Comparison(*found, jnp.sqrt(jnp.maximum(squared, 0)), near.indices[:, 0])


_compare_block = jax.jit(compare, static_argnames=("k", "threshold"))


def compare_photos(
    images: np.ndarray, descriptors: np.ndarray, references: ReferenceSet, top_k: int, threshold: float
) -> Comparison:
    """`compare` for any number of images on the host, lists as long as they need to be, `at_positions`.

    `references` must be replicated over `local_mesh`.
    """

    def compare_all(longest: int) -> Comparison:
        k = list_length(longest, references.arrays.size)

        def block(rows: tuple[np.ndarray, np.ndarray]) -> Comparison:
            return _compare_block(*replicate(rows, local_mesh()), references.arrays, k=k, threshold=threshold)

        return batched(block, (images, descriptors), _HOST_BATCH)

    found = compare_all(top_k)
    longest = int(found.above.max(initial=0))
    if longest > found.scores.shape[1]:
        found = compare_all(longest)
    return at_positions(found, references.members)


def at_positions(found: Comparison, members: Int[np.ndarray, " m"]) -> Comparison:
    """NumPy arrays, with positions in the pool instead of those in a group, whose `members` these are."""
    scores, indices, above, distances, nearest = (np.asarray(column) for column in found)
    return Comparison(scores, members[indices], above, distances, members[nearest])
