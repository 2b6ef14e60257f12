"""Several processes on one audit: JAX's own distributed runtime, and nothing beside it."""

import concurrent.futures
import dataclasses
import threading
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from side_jax import preemption

DETECT = "SIDE_JAX_DISTRIBUTED"
COORDINATOR = "SIDE_JAX_COORDINATOR"
NUM_PROCESSES = "SIDE_JAX_NUM_PROCESSES"
PROCESS_ID = "SIDE_JAX_PROCESS_ID"
PEER_TIMEOUT = "SIDE_JAX_PEER_TIMEOUT"

_BARRIER_TIMEOUT = 10**6  # seconds; that a peer is gone is noticed by its heartbeat, not by how long it takes


@dataclasses.dataclass(frozen=True)
class Cluster:
    """What `jax.distributed.initialize` is told.

    Attributes:
      coordinator: host:port of process 0. None: JAX detects all three (SLURM, TPU VMs, Open MPI, Kubernetes).
      num_processes: how many processes there are.
      process_id: which one this is.
      peer_timeout: seconds after which a silent process counts as dead and the others end too.
    """

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    peer_timeout: int = 30


def cluster_from_environment(environ: Mapping[str, str]) -> Cluster | None:
    """The cluster that the environment describes; None for one process alone. An empty variable counts as unset.

    SIDE_JAX_DISTRIBUTED=auto leaves it to JAX. Else SIDE_JAX_COORDINATOR, SIDE_JAX_NUM_PROCESSES and
    SIDE_JAX_PROCESS_ID say it together. SIDE_JAX_PEER_TIMEOUT is in seconds.

    Raises:
      ValueError: for settings that are partial, contradict each other or make no sense, naming one.
    """
    given = {name: environ[name] for name in (COORDINATOR, NUM_PROCESSES, PROCESS_ID) if environ.get(name)}
    timeout = _integer(environ, PEER_TIMEOUT, 1, None) if environ.get(PEER_TIMEOUT) else Cluster.peer_timeout
    if detect := environ.get(DETECT):
        if detect != "auto":
            raise ValueError(f"{DETECT} must be auto, got {detect!r}; leave it out for one process")
        if given:
            name, value = next(iter(given.items()))
            raise ValueError(
                f"{name}={value!r} contradicts {DETECT}=auto, by which JAX finds it out; set one of the two"
            )
        return Cluster(peer_timeout=timeout)
    if not given:
        return None
    for name in (COORDINATOR, NUM_PROCESSES, PROCESS_ID):
        if name not in given:
            other, value = next(iter(given.items()))
            raise ValueError(f"{name} is not set, but {other} is ({value!r}); several processes need both")
    host, _, port = given[COORDINATOR].rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(f"{COORDINATOR} must be host:port of process 0, got {given[COORDINATOR]!r}")
    count = _integer(given, NUM_PROCESSES, 1, None)
    process = _integer(given, PROCESS_ID, 0, count - 1)
    return Cluster(given[COORDINATOR], count, process, timeout)


def _integer(environ: Mapping[str, str], name: str, low: int, high: int | None) -> int:
    value = environ[name]
    if not value.isdecimal() or int(value) < low or (high is not None and int(value) > high):
        bound = f"{low} or more" if high is None else f"in {low} … {high} ({NUM_PROCESSES} − 1)"
        raise ValueError(f"{name} must be a whole number, {bound}, got {value!r}")
    return int(value)


def initialize(cluster: Cluster | None) -> None:
    """Joins the other processes. To be called before anything asks JAX for a device; None does nothing.

    From then on a process that dies takes the others with it, by abort, within about `peer_timeout` seconds.

    Raises:
      ValueError: if JAX is to detect the cluster and there is none.
    """
    if cluster is None:
        return
    # JAX's preemption service would put a SIGTERM handler of its own in the place of side_jax.preemption's.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            cluster.coordinator,
            cluster.num_processes,
            cluster.process_id,
            # What is said needs no detection, which would also hide all local GPUs but one under SLURM.
            cluster_detection_method=None if cluster.coordinator is None else "deactivate",
            heartbeat_timeout_seconds=cluster.peer_timeout,
            shutdown_timeout_seconds=cluster.peer_timeout,
        )
    except ValueError as error:
        raise ValueError(
            f"{DETECT}=auto, but JAX detects no cluster here ({error}); set {COORDINATOR}, {NUM_PROCESSES} and"
            f" {PROCESS_ID}, or none of them for one process"
        ) from error


def is_primary() -> bool:
    """Is this the one process that writes what is written once, and prints? True without `jax.distributed`."""
    return jax.process_index() == 0


def barrier(name: str) -> None:
    """Waits until every process is here, however long that takes. Nothing without `jax.distributed`.

    On JAX's coordination service, not on the devices: a collective that waits for an hour would time out.

    Raises:
      Preempted: if this process is asked to stop while it waits.
    """
    if jax.process_count() == 1:
        return
    from orbax.checkpoint import multihost

    met: concurrent.futures.Future[None] = concurrent.futures.Future()

    def wait() -> None:
        try:
            everyone = set(range(jax.process_count()))
            multihost.sync_global_processes(name, timeout=_BARRIER_TIMEOUT, processes=everyone)
        except Exception as error:
            met.set_exception(error)
        else:
            met.set_result(None)

    # In a thread: Python runs no signal handler while its main thread waits inside JAX.
    waiting = threading.Thread(target=wait, name=f"barrier {name}", daemon=True)
    waiting.start()
    while not concurrent.futures.wait([met], timeout=0.2).done:
        if preemption.requested():
            leave()  # ends the wait: Python must not exit while a thread is inside JAX
            waiting.join()
            raise preemption.Preempted
    met.result()


def leave() -> None:
    """Waits until all processes are about to end. One that ends without this takes the others with it."""
    jax.distributed.shutdown()


def once(name: str, write: Callable[[], object]) -> None:
    """Calls `write` on the primary; the other processes wait until it has returned, and can read what it wrote."""
    if is_primary():
        write()
    barrier(name)


def agree(what: str, fingerprint: str) -> None:
    """Checks that all processes have the same fingerprint of `what`; none goes on before all have come here.

    Raises:
      ValueError: on every process, if they differ.
    """
    if jax.process_count() == 1:
        return
    from jax.experimental import multihost_utils

    gathered = multihost_utils.process_allgather(np.frombuffer(fingerprint.encode(), np.uint8))
    prints = [bytes(row).decode() for row in np.asarray(gathered)]
    if len(set(prints)) > 1:
        found = ", ".join(f"{process}: {text}" for process, text in enumerate(prints))
        raise ValueError(f"{what} differ between processes ({found}); start all with the same command and files")


def broadcast(tree: Any) -> Any:
    """NumPy arrays as the primary process has them, on every process."""
    if jax.process_count() == 1:
        return tree
    from jax.experimental import multihost_utils

    return multihost_utils.broadcast_one_to_all(tree)
