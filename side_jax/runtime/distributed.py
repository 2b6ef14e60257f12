"""Several processes on one audit, by JAX's own distributed runtime alone."""

import concurrent.futures
import dataclasses
import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

import jax
import numpy as np
from jax._src.distributed import global_state  # JAX has no public way to its store of keys and values
from jaxtyping import PyTree

from side_jax.runtime import preemption

DETECT = "SIDE_JAX_DISTRIBUTED"
COORDINATOR = "SIDE_JAX_COORDINATOR"
NUM_PROCESSES = "SIDE_JAX_NUM_PROCESSES"
PROCESS_ID = "SIDE_JAX_PROCESS_ID"
PEER_TIMEOUT = "SIDE_JAX_PEER_TIMEOUT"
START_TIMEOUT = "SIDE_JAX_START_TIMEOUT"

_log = logging.getLogger(__name__)
_PATIENCE = 60.0  # seconds after which a process says whom it waits for
_barriers = itertools.count()  # every process comes to the same barriers in the same order
_BARRIER_TIMEOUT = 10**6  # seconds; that a peer is gone is noticed by its heartbeat, not by how long it takes


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Arguments of `jax.distributed.initialize`.

    Attributes:
      coordinator: host:port of process 0. None: JAX detects it and the next two (SLURM, TPU VMs, Open MPI, Kubernetes).
      num_processes: of the cluster.
      process_id: number of this process.
      peer_timeout: seconds after which a silent process counts as dead and the others end too.
      start_timeout: seconds that the first process waits for the last one to start.
    """

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    peer_timeout: int = 30
    start_timeout: int = 1800


def cluster_from_environment(environ: Mapping[str, str]) -> Cluster | None:
    """The cluster that the environment describes; None for one process alone. An empty variable counts as unset.

    SIDE_JAX_DISTRIBUTED=auto leaves it to JAX. Else SIDE_JAX_COORDINATOR, SIDE_JAX_NUM_PROCESSES and
    SIDE_JAX_PROCESS_ID are needed together. SIDE_JAX_PEER_TIMEOUT and SIDE_JAX_START_TIMEOUT are in seconds.

    Raises:
      ValueError: for settings that are partial, contradict each other or make no sense, naming one.
    """
    given = {name: environ[name] for name in (COORDINATOR, NUM_PROCESSES, PROCESS_ID) if environ.get(name)}
    peer = _integer(environ, PEER_TIMEOUT, 1) if environ.get(PEER_TIMEOUT) else Cluster.peer_timeout
    start = _integer(environ, START_TIMEOUT, 1) if environ.get(START_TIMEOUT) else Cluster.start_timeout
    if detect := environ.get(DETECT):
        if detect != "auto":
            raise ValueError(f"{DETECT} must be auto, got {detect!r}; leave it out for one process")
        if given:
            name, value = next(iter(given.items()))
            raise ValueError(f"{name}={value!r} contradicts {DETECT}=auto, where JAX detects it; set one of the two")
        return Cluster(peer_timeout=peer, start_timeout=start)
    if not given:
        return None
    for name in (COORDINATOR, NUM_PROCESSES, PROCESS_ID):
        if name not in given:
            other, value = next(iter(given.items()))
            raise ValueError(f"{name} is not set, but {other} is ({value!r}); several processes need both")
    host, _, port = given[COORDINATOR].rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(f"{COORDINATOR} must be host:port of process 0, got {given[COORDINATOR]!r}")
    count = _integer(given, NUM_PROCESSES, 1)
    process = _integer(given, PROCESS_ID, 0, count - 1)
    return Cluster(given[COORDINATOR], count, process, peer, start)


def _integer(environ: Mapping[str, str], name: str, low: int, high: int | None = None) -> int:
    value = environ[name]
    if not value.isdecimal() or int(value) < low or (high is not None and int(value) > high):
        bound = f"{low} or more" if high is None else f"in {low} … {high} ({NUM_PROCESSES} − 1)"
        raise ValueError(f"{name} must be a whole number, {bound}, got {value!r}")
    return int(value)


def initialize(cluster: Cluster | None) -> None:
    """Joins the other processes; None does nothing. Call it before anything asks JAX for a device.

    From then on a process that dies takes the others with it, by abort, within about `peer_timeout` seconds.

    Raises:
      ValueError: if JAX shall detect the cluster and detects none.
    """
    if cluster is None:
        return
    # JAX's preemption service would replace the SIGTERM handler of side_jax.runtime.preemption.
    jax.config.update("jax_enable_preemption_service", False)
    # Said before the wait ends: JAX then aborts, with a stack and not a word of what was waited for.
    waiting = threading.Timer(min(_PATIENCE, cluster.start_timeout / 2), _tell_start, [cluster])
    waiting.daemon = True
    waiting.start()
    try:
        jax.distributed.initialize(
            cluster.coordinator,
            cluster.num_processes,
            cluster.process_id,
            # Without need no detection: under SLURM it would also hide all local GPUs but one.
            cluster_detection_method=None if cluster.coordinator is None else "deactivate",
            initialization_timeout=cluster.start_timeout,
            heartbeat_timeout_seconds=cluster.peer_timeout,
            shutdown_timeout_seconds=cluster.peer_timeout,
        )
    except ValueError as error:
        raise ValueError(
            f"{DETECT}=auto, but JAX detects no cluster here ({error}); set {COORDINATOR}, {NUM_PROCESSES} and"
            f" {PROCESS_ID}, or none of them for one process"
        ) from error
    finally:
        waiting.cancel()


def _tell_start(cluster: Cluster) -> None:
    of = f"of {cluster.num_processes} " if cluster.num_processes else ""
    at = f" at {cluster.coordinator}" if cluster.coordinator else ""
    _log.warning(
        "waiting for all processes %sto start%s, for %d s at most (%s)", of, at, cluster.start_timeout, START_TIMEOUT
    )


def is_primary() -> bool:
    """True on the one process that prints, and writes the files of all. True without `jax.distributed`."""
    return jax.process_index() == 0


def barrier(name: str) -> None:
    """Waits until every process has called it, however long that takes. Does nothing without `jax.distributed`.

    It uses JAX's coordination service, not the devices: a collective that waits for an hour would time out. After a
    minute it says which processes are missing.

    Raises:
      Preempted: if this process is asked to stop while it waits.
    """
    if jax.process_count() == 1:
        return
    from orbax.checkpoint import multihost

    count, store = next(_barriers), cast(Any, global_state.client)
    here = f"side_jax/barrier {count}"
    store.key_value_set(f"{here}/{jax.process_index()}", name)
    told, started = False, time.monotonic()
    met: concurrent.futures.Future[None] = concurrent.futures.Future()

    def wait() -> None:
        try:
            everyone = set(range(jax.process_count()))
            multihost.sync_global_processes(f"{name} {count}", timeout=_BARRIER_TIMEOUT, processes=everyone)
        except Exception as error:
            met.set_exception(error)
        else:
            met.set_result(None)

    # In a thread: Python runs no signal handler while its main thread waits inside JAX.
    waiting = threading.Thread(target=wait, name=f"barrier {name}", daemon=True)
    waiting.start()
    while not concurrent.futures.wait([met], timeout=0.2).done:
        if not told and time.monotonic() - started > _PATIENCE:
            told = True
            present = {int(key.rpartition("/")[2]) for key, _ in store.key_value_dir_get(here)}
            missing = sorted(set(range(jax.process_count())) - present)
            _log.warning("process %d waits at %r for %s", jax.process_index(), name, ", ".join(map(str, missing)))
        if preemption.requested():
            leave()  # ends the wait: Python must not exit while a thread is inside JAX
            waiting.join()
            raise preemption.Preempted
    met.result()


def leave() -> None:
    """Waits until all processes have called it. A process that ends without this takes the others with it."""
    jax.distributed.shutdown()


def once(name: str, write: Callable[[], object]) -> None:
    """Calls `write` on the primary. The other processes wait until it has returned, and can read the result then."""
    if is_primary():
        write()
    barrier(name)


def gather(array: np.ndarray | np.generic) -> np.ndarray:
    """The arrays of all processes, in order: [processes, …]."""
    if jax.process_count() == 1:
        return np.asarray(array)[None]
    from jax.experimental import multihost_utils

    barrier("gather")  # which says who is missing, and has no timeout
    return np.asarray(multihost_utils.process_allgather(array))


def agree(what: str, fingerprint: str) -> None:
    """Checks that all processes have the same fingerprint of `what`. None goes on before all have called it.

    Raises:
      ValueError: on every process, if they differ.
    """
    prints = [bytes(row).decode() for row in gather(np.frombuffer(fingerprint.encode(), np.uint8))]
    if len(set(prints)) > 1:
        listed = ", ".join(f"{process}: {text}" for process, text in enumerate(prints))
        raise ValueError(f"{what} differ between processes ({listed}); start all with the same command and files")


def broadcast(tree: PyTree) -> PyTree:
    """NumPy arrays as the primary process has them, on every process."""
    if jax.process_count() == 1:
        return tree
    from jax.experimental import multihost_utils

    barrier("broadcast")
    return multihost_utils.broadcast_one_to_all(tree)
