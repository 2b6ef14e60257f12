"""Any number of rows by one compiled program: in batches of one size, and over the devices."""

from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import PyTree

from side_jax.runtime import preemption

ROWS, WHOLE = PartitionSpec("data"), PartitionSpec()  # split along the first axis; a copy on every device


def over_devices(
    function: Callable[..., PyTree], mesh: Mesh, in_layouts: PyTree, out_layouts: PyTree = ROWS
) -> Callable[..., PyTree]:
    """`function` on every device of a mesh, each with its own rows: the one `shard_map` of the package.

    Args:
      function: of arrays, as one device has them.
      mesh: the devices.
      in_layouts: the layout of each argument over the devices, or a pytree of layouts.
      out_layouts: the same for the result.
    """
    return jax.shard_map(function, mesh=mesh, in_specs=in_layouts, out_specs=out_layouts, check_vma=False)


def in_batches(count: int, size: int) -> Iterator[np.ndarray]:
    """Positions of every batch, int [size]; the last is filled up with the last row, so that one program serves all.

    Raises:
      Preempted: between two batches, if this process has been asked to stop.
    """
    for start in range(0, count, size):
        preemption.check()
        yield np.minimum(np.arange(start, start + size), count - 1)


def batched(function: Callable[[PyTree], PyTree], rows: PyTree, size: int) -> PyTree:
    """`function` of any number of rows, `size` at a time.

    Args:
      function: a pytree of [size, …] -> a pytree of [size, …]; a row of the result depends on its own row alone.
      rows: a pytree of arrays [N, …] on the host, N at least 1.
      size: rows of a batch.

    Returns:
      The results of the N rows, as NumPy arrays.

    Raises:
      Preempted: between two batches, if this process has been asked to stop.
    """
    count = len(jax.tree.leaves(rows)[0])
    results = []
    for positions in in_batches(count, size):
        result = function(jax.tree.map(lambda leaf, chosen=positions: leaf[chosen], rows))
        results.append(jax.tree.map(np.asarray, result))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *results)
