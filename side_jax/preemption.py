"""SIGTERM: the machine is wanted elsewhere. Loops stop between two batches; the same command goes on from there."""

import threading

_requested = threading.Event()


class Preempted(BaseException):
    """Raised where work can stop with nothing lost. Not an `Exception`: nothing on the way may swallow it."""


def requested() -> bool:
    """Has this process been asked to stop?"""
    return _requested.is_set()


def check() -> None:
    """Raises `Preempted` if this process has been asked to stop."""
    if requested():
        raise Preempted
