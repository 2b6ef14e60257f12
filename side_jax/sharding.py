"""Where arrays live: one axis, "data", over the devices of one process or of all."""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def data_mesh() -> Mesh:
    """All devices of all processes along one axis, "data"."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def local_mesh() -> Mesh:
    """The devices of this process along one axis, "data". A program over it never waits for another process."""
    return Mesh(np.array(jax.local_devices()), ("data",), axis_types=(AxisType.Auto,))


def place(tree: Any, spec: PartitionSpec, mesh: Mesh | None = None) -> Any:
    """Host arrays, the same on every process of the mesh (default `data_mesh`), as arrays laid out by `spec`.

    What is laid out so already stays as it is.
    """
    sharding = NamedSharding(mesh or data_mesh(), spec)

    def put(leaf: Any) -> jax.Array:
        if isinstance(leaf, jax.Array) and leaf.sharding == sharding:
            return leaf
        if isinstance(leaf, jax.Array) and sharding.is_fully_addressable:
            return jax.device_put(leaf, sharding)
        array = np.asarray(leaf)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(put, tree)


def shard_batch(tree: Any, mesh: Mesh | None = None) -> Any:
    """Splits leading axes over the mesh. A batch that the device count does not divide is replicated instead."""
    mesh = mesh or data_mesh()
    size = len(jax.tree.leaves(tree)[0])
    return place(tree, PartitionSpec("data") if size % mesh.size == 0 else PartitionSpec(), mesh)


def replicate(tree: Any, mesh: Mesh | None = None) -> Any:
    """A copy on every device."""
    return place(tree, PartitionSpec(), mesh)


def stage_key(seed: int, stage: str) -> jax.Array:
    """The key of one stage: every stage of a run draws from its own stream."""
    number = int.from_bytes(stage.encode()[:4].ljust(4, b"\0"), "big") & 0x7FFFFFFF
    return jax.random.fold_in(jax.random.key(seed), number)


def index_keys(key: jax.Array, indices: jax.typing.ArrayLike) -> jax.Array:
    """fold_in(key, index) for each image index: the image's own key, whatever batch it lands in. [N]."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jax.numpy.asarray(indices, np.uint32))
