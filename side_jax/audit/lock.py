"""One run at a time on a workdir.

The lock is an object in the workdir, taken and kept by compare-and-swap: TensorStore writes it only if it has not
changed since it was read, on local and network file systems and in buckets alike. Its owner renews it (the heartbeat).
So nobody needs a common clock: an owner is gone if this machine's kernel says so, or if the heartbeat stops while
somebody watches.
"""

import contextlib
import dataclasses
import datetime
import json
import logging
import os
import re
import secrets
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import tensorstore as ts
from etils import epath

from side_jax.runtime.distributed import barrier, is_primary
from side_jax.runtime.files import AuditError, is_local, kvstore

_log = logging.getLogger(__name__)
LOCK = "lock.json"
# Names of unfinished files: of `files.open_atomic`, of TensorStore's file driver, and of Orbax.
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp|.+\.__lock|.+\.orbax-checkpoint-tmp.*")


class WorkdirLocked(AuditError):
    """Another run works in this workdir."""


@dataclasses.dataclass(frozen=True)
class Owner:
    """The holder of a lock.

    Attributes:
      host: its name, to be read by people.
      pid: process id.
      since: when it took the lock, UTC.
      machine: where `pid` means this process; "" if that cannot be said.
      started: start time of the process, as a PID is used again.
      token: tells two locks of one process apart.
    """

    host: str
    pid: int
    since: str
    machine: str
    started: str
    token: str

    @classmethod
    def this_process(cls) -> Self:
        """A new owner."""
        since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        pid, machine = os.getpid(), _machine()
        started = _start_time(pid) if machine else ""
        return cls(socket.gethostname(), pid, since, machine, started, secrets.token_hex(8))

    @classmethod
    def read(cls, content: bytes) -> Self | None:
        """The owner that a lock names; None if the lock is damaged."""
        try:
            fields = json.loads(content)
            owner = cls(**{field.name: fields[field.name] for field in dataclasses.fields(cls)})
        except (ValueError, TypeError, KeyError):
            return None
        return owner if isinstance(owner.pid, int) else None

    def alive(self) -> bool | None:
        """True if its process runs, False if it has ended, None if this machine cannot know."""
        if not self.machine or self.machine != _machine():
            return None
        with contextlib.suppress(OSError):  # gone, or hidden from this user
            return _start_time(self.pid) == self.started
        try:
            os.getpgid(self.pid)
        except ProcessLookupError:
            return False
        return None

    def __str__(self) -> str:
        return f"host {self.host}, pid {self.pid}, since {self.since}"


def _machine() -> str:
    """Boot of the kernel and PID namespace: two containers may share PIDs, and often the host name too."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not on Linux: only the heartbeat tells
        return ""


def _start_time(pid: int) -> str:
    """Clock ticks from boot to the start of a process; "" for one that has ended, but not for its parent (a zombie)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return "" if fields[0] in ("Z", "X") else fields[19]


class Lock:
    """A lock object with a heartbeat: `with Lock(store, "runs/orl"): ...`.

    If another run took the lock, which it does when this process was suspended for long, the process ends at once, with
    status 1: what it wrote from then on could be mixed with the other's. Like a kill, that loses nothing.

    Args:
      store: holds the object.
      name: of the locked workdir, in messages.
      heartbeat: seconds from one renewal to the next.
      patience: seconds to watch an owner of whom nothing is known before the lock is taken from it.

    Raises:
      WorkdirLocked: on entering, if another process holds it.
    """

    def __init__(self, store: ts.KvStore, name: str, heartbeat: float = 10, patience: float = 60) -> None:
        self._store = store
        self._name = name
        self._heartbeat = heartbeat
        self._patience = patience
        self._owner = Owner.this_process()
        self._beats = 0
        self._generation = b""
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="workdir lock", daemon=True)

    def __enter__(self) -> Self:
        self._generation = self._take()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()
        try:
            self._store.write(LOCK, None, if_equal=self._generation).result(timeout=self._patience)
        except Exception as failure:  # must not hide what ended the run; the lock goes stale
            _log.warning("%s: its lock could not be released (%s)", self._name, failure)

    def _take(self) -> bytes:
        """Writes the lock once nobody holds it. Returns its generation."""
        while True:
            stored = self._store.read(LOCK).result()
            gone = self._wait_until_gone(stored) if stored.state == "value" else None
            stamp = self._store.write(LOCK, self._content(), if_equal=stored.stamp.generation).result()
            if stamp.generation:  # else another run was faster
                if gone:
                    _log.warning("%s: taken over from a run that is gone (%s)", self._name, gone)
                return stamp.generation

    def _wait_until_gone(self, stored: ts.KvStore.ReadResult) -> str:
        """Returns the name of the lock's owner once it is gone. Raises `WorkdirLocked` if it is alive."""
        owner = Owner.read(stored.value)
        name, alive = (str(owner), owner.alive()) if owner else ("its lock is damaged", None)
        if alive is None:
            text = "%s is locked by another run (%s); watching up to %g s for a sign of life"
            _log.warning(text, self._name, name, self._patience)
            alive = self._is_renewed(stored.stamp.generation)
        if alive:
            raise WorkdirLocked(
                f"{self._name} is in use by another run ({name}); wait for it, or use another --workdir"
            )
        return name

    def _is_renewed(self, generation: bytes) -> bool:
        """Watches a lock: True when it is renewed, False when it is released or patience ends."""
        until = time.monotonic() + self._patience
        while time.monotonic() < until:
            time.sleep(self._heartbeat / 5)
            stored = self._store.read(LOCK).result()
            if stored.stamp.generation != generation:
                return stored.state == "value"
        return False

    def _content(self) -> bytes:
        self._beats += 1  # an object's generation may be a hash of its content
        return json.dumps(dataclasses.asdict(self._owner) | {"beats": self._beats}, indent=1).encode()

    def _beat(self) -> None:
        while not self._done.wait(self._heartbeat):
            try:
                self._renew()
            except Exception as error:  # a network that is down; the next beat tries again
                _log.warning("%s: its lock could not be renewed (%s)", self._name, str(error).splitlines()[:1])

    def _renew(self) -> None:
        stamp = self._store.write(LOCK, self._content(), if_equal=self._generation).result(timeout=self._patience)
        if stamp.generation:
            self._generation = stamp.generation
            return
        stored = self._store.read(LOCK).result(timeout=self._patience)
        owner = Owner.read(stored.value) if stored.state == "value" else self._owner
        if owner != self._owner:
            print(f"error: {self._name} was taken over by another run ({owner}); stopped", file=sys.stderr, flush=True)
            os._exit(1)
        # Removed by hand, or our own write, sent again by the client after its answer was lost: the next beat writes.
        self._generation = stored.stamp.generation


@contextlib.contextmanager
def workdir_lock(workdir: epath.Path, heartbeat: float = 10, patience: float = 60) -> Iterator[None]:
    """Keeps other runs out of a workdir, and removes the files that a killed run left unfinished.

    The primary process holds the lock for all processes of a run; the others wait until it has it.

    Args:
      workdir: local or in a bucket; made if it is missing.
      heartbeat: seconds from one renewal to the next.
      patience: seconds after which an owner on another machine that shows no sign of life counts as gone.

    Raises:
      WorkdirLocked: if another run works there.
    """
    with contextlib.ExitStack() as stack:
        if is_primary():
            store = ts.KvStore.open(kvstore(workdir)).result()
            stack.enter_context(Lock(store, str(workdir), heartbeat, patience))
            if is_local(workdir):  # in a bucket nothing is written under another name
                _sweep(Path(workdir))
        barrier("workdir_lock")
        yield


def _sweep(workdir: Path) -> None:
    """Removes temporary files and folders, but not those of another workdir below this one that is in use."""
    for folder, folders, files in os.walk(workdir):
        here = Path(folder)
        for name in filter(_TEMPORARY.fullmatch, files):
            if not name.startswith(LOCK):
                (here / name).unlink(missing_ok=True)
        for name in filter(_TEMPORARY.fullmatch, folders):
            shutil.rmtree(here / name)
        folders[:] = [name for name in folders if not _TEMPORARY.fullmatch(name) and not (here / name / LOCK).exists()]
