"""Layout of arrays: one axis, "data", over the devices of one process or of all."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jax.typing import DTypeLike
from jaxtyping import PyTree

from side_jax.runtime.batching import ROWS, WHOLE


def data_mesh() -> Mesh:
    """All devices of all processes along one axis, "data"."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def local_mesh() -> Mesh:
    """The devices of this process along one axis, "data". A program over it never waits for another process."""
    return Mesh(np.array(jax.local_devices()), ("data",), axis_types=(AxisType.Auto,))


def place(tree: PyTree, spec: PartitionSpec, mesh: Mesh) -> PyTree:
    """Host arrays, which every process of the mesh has, as arrays laid out by `spec`.

    An array that is laid out so already stays as it is.
    """
    sharding = NamedSharding(mesh, spec)

    def put(leaf: jax.typing.ArrayLike) -> jax.Array:
        if isinstance(leaf, jax.Array) and leaf.sharding == sharding:
            return leaf
        if isinstance(leaf, jax.Array) and sharding.is_fully_addressable:
            return jax.device_put(leaf, sharding)
        array = np.asarray(leaf)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(put, tree)


def shard_batch(batch: PyTree, mesh: Mesh) -> PyTree:
    """Splits leading axes over the mesh. A batch that the device count does not divide is replicated instead."""
    size = len(jax.tree.leaves(batch)[0])
    return place(batch, WHOLE if size % mesh.size else ROWS, mesh)


def replicate(tree: PyTree, mesh: Mesh) -> PyTree:
    """A copy on every device."""
    return place(tree, WHOLE, mesh)


def stage_key(seed: int, stage: str) -> jax.Array:
    """The key of one stage: every stage of a run draws from its own stream.

    Raises:
      ValueError: for a seed outside [0, 2³²), of which JAX would take the last 32 bits.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be in [0, 2^32), got {seed}")
    number = int.from_bytes(stage.encode()[:4].ljust(4, b"\0"), "big") & 0x7FFFFFFF
    return jax.random.fold_in(jax.random.key(seed), number)


def index_keys(key: jax.Array, indices: jax.typing.ArrayLike) -> jax.Array:
    """fold_in(key, index) for each image index: the image's own key, whatever batch it lands in. [N]."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jax.numpy.asarray(indices, np.uint32))


class OverMesh:
    """What is made or read batch by batch, a batch split over the devices of a mesh.

    Attributes:
      mesh: the devices.
    """

    mesh: Mesh
    _batch_size: int

    @property
    def batch_size(self) -> int:
        """Images per batch, rounded up to the devices; may be set at any time."""
        return self._batch_size

    @batch_size.setter
    def batch_size(self, size: int) -> None:
        self._batch_size = -(-size // self.mesh.size) * self.mesh.size

    def place(self, rows: np.ndarray) -> jax.Array:
        """One batch of per-image values, split over the devices."""
        return place(rows, ROWS, self.mesh)

    def abstract(self, batch_size: int, dtype: DTypeLike) -> jax.ShapeDtypeStruct:
        """The abstract array of one value per image, laid out as by `place`."""
        return jax.ShapeDtypeStruct((batch_size,), dtype, sharding=NamedSharding(self.mesh, ROWS))
