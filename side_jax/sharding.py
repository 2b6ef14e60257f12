"""Where arrays live: one mesh over "data", whole batches split along it, everything else replicated."""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec


def data_mesh() -> jax.sharding.Mesh:
    """All devices along one axis, "data"."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def shard_batch(tree: Any) -> Any:
    """Splits leading axes over the mesh. A batch that the device count does not divide is replicated instead."""
    mesh = data_mesh()
    size = len(jax.tree.leaves(tree)[0])
    spec = PartitionSpec("data") if size % mesh.size == 0 else PartitionSpec()
    return jax.device_put(tree, NamedSharding(mesh, spec))


def replicate(tree: Any) -> Any:
    """A copy on every device."""
    return jax.device_put(tree, NamedSharding(data_mesh(), PartitionSpec()))


def stage_key(seed: int, stage: str) -> jax.Array:
    """The key of one stage: every stage of a run draws from its own stream."""
    number = int.from_bytes(stage.encode()[:4].ljust(4, b"\0"), "big") & 0x7FFFFFFF
    return jax.random.fold_in(jax.random.key(seed), number)


def index_keys(key: jax.Array, indices: np.ndarray) -> jax.Array:
    """fold_in(key, index) for each image index: the image's own key, whatever batch it lands in. [N]."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, np.asarray(indices, np.uint32))
