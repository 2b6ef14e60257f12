"""SIGTERM: the machine is wanted elsewhere. Loops stop between two batches; the same command resumes there.

A batch or a compilation can take minutes, and Python runs no signal handler while the main thread is inside XLA. So a
thread of its own learns of the signal, and ends the process itself if the loops have not done so in time: everything
on disk is written atomically, and only the current batch is lost.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import NoReturn

GRACE_SECONDS = 8.0  # from SIGTERM to the end, in any case; the contract of the command line is 10
STOPPED = "stopped by SIGTERM; resume with the same command"
EXIT_STATUS = 75  # EX_TEMPFAIL of sysexits.h: try again

_requested = threading.Event()
_ending = threading.Lock()


class Preempted(BaseException):
    """Raised where work can stop with nothing lost. Not an `Exception`: nothing on the way may swallow it."""


def requested() -> bool:
    """True once this process has been asked to stop."""
    return _requested.is_set()


def check() -> None:
    """Raises `Preempted` if this process has been asked to stop."""
    if requested():
        raise Preempted


@contextlib.contextmanager
def watch() -> Iterator[None]:
    """Within, SIGTERM makes `requested` true. Then `Preempted`, or 8 seconds later, end the process with status 75.

    A block that ends in another way after a SIGTERM leaves the rest of the 8 seconds to end the process. Without a
    SIGTERM the block restores everything. Outside the main thread Python allows no signal handlers: nothing happens.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    # The interpreter's C handler writes each signal's number to the pipe at once, whatever the main thread does. It
    # does so only for signals that have a Python handler, which has nothing left to do.
    previous = signal.signal(signal.SIGTERM, lambda *_: None)
    previous_end = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    threading.Thread(target=_wait, args=(read_end,), name="preemption", daemon=True).start()
    try:
        yield
    except Preempted:
        sys.stdout.flush()
        _end()
    finally:
        if not requested():  # a second SIGTERM while the process ends is nothing new
            signal.set_wakeup_fd(previous_end)
            # None: not set from Python, so Python cannot set it again.
            signal.signal(signal.SIGTERM, signal.SIG_DFL if previous is None else previous)
            os.close(write_end)


def _wait(read_end: int) -> None:
    """Waits for SIGTERM, and ends a process that still runs after its time; or returns when the pipe is closed."""
    while (signals := os.read(read_end, 64)) and signal.SIGTERM not in signals:
        pass
    if not signals:
        os.close(read_end)
        return
    _requested.set()
    time.sleep(GRACE_SECONDS)
    _end()


def _end() -> NoReturn:
    """Prints the line, once, and ends the process at once.

    `sys.exit` would wait for threads of TensorFlow, Orbax and XLA, for seconds or for ever; and another thread may hold
    the lock of `sys.stderr`.
    """
    try:
        if _ending.acquire(timeout=1):  # never released
            os.write(2, f"\n{STOPPED}\n".encode())
    finally:
        os._exit(EXIT_STATUS)
