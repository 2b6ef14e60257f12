"""Several processes on one audit: JAX's own distributed runtime, and nothing beside it."""

from typing import Any

import jax


def is_primary() -> bool:
    """Is this the one process that writes what is written once, and prints? True without `jax.distributed`."""
    return jax.process_index() == 0


def barrier(name: str) -> None:
    """Waits until every process is here. Nothing without `jax.distributed`."""
    if jax.process_count() > 1:
        from orbax.checkpoint import multihost

        multihost.sync_global_processes(name)


def broadcast(tree: Any) -> Any:
    """NumPy arrays as the primary process has them, on every process."""
    if jax.process_count() == 1:
        return tree
    from jax.experimental import multihost_utils

    return multihost_utils.broadcast_one_to_all(tree)
