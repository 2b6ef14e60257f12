"""Several processes on one audit: JAX's own distributed runtime, and nothing beside it."""

import jax


def is_primary() -> bool:
    """Is this the one process that writes what is written once, and prints? True without `jax.distributed`."""
    return jax.process_index() == 0


def barrier(name: str) -> None:
    """Waits until every process is here. Nothing without `jax.distributed`."""
    if jax.process_count() > 1:
        from orbax.checkpoint import multihost

        multihost.sync_global_processes(name)
