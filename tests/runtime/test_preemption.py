"""SIGTERM, in processes of their own."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from side_jax.runtime import preemption
from tests.test_main import ROOT


def start(script):
    """A process that watches for SIGTERM, and prints when it does."""
    script = f"import signal, sys, threading, time\nfrom side_jax.runtime import preemption\n{script}"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def terminate(process, times=1):
    """Sends SIGTERM when the process says that it is ready; its status, and the lines that it printed since."""
    try:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        for _ in range(times):
            process.send_signal(signal.SIGTERM)
        out, error = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, out.split(), error.split("\n")


def test_main_thread_deep_in_xla_is_abandoned():
    """A loop of matrix products that takes hours, and returns to Python only at its end."""
    script = """
import jax, jax.numpy as jnp
preemption.GRACE_SECONDS = 1.0
product = jax.jit(lambda x: jax.lax.fori_loop(0, 10**9, lambda _, x: jnp.tanh(x @ x), x)).lower(jnp.ones((256, 256)))
product = product.compile()
with preemption.watch():
    print("ready")
    product(jnp.ones((256, 256))).block_until_ready()
"""
    status, out, error = terminate(start(script))
    assert (status, out) == (75, [])
    assert error.count(preemption.STOPPED) == 1


LOOP = """
try:
    with preemption.watch():
        print("ready")
        try:
            while True:
                time.sleep(0.01)
                preemption.check()
        finally:
            print("stopped")
finally:
    print("never")
"""


def test_loop_stops_between_two_batches_and_its_blocks_are_left_in_order():
    status, out, error = terminate(start(LOOP), times=3)
    assert (status, out) == (75, ["stopped"])
    assert error.count(preemption.STOPPED) == 1


def test_thread_that_never_ends_keeps_no_process_alive():
    status, out, error = terminate(start(f"threading.Thread(target=threading.Event().wait).start()\n{LOOP}"))
    assert (status, out) == (75, ["stopped"])
    assert error.count(preemption.STOPPED) == 1


def test_second_sigterm_changes_nothing_for_a_run_that_ends_by_itself_after_the_first():
    script = """
with preemption.watch():
    print("ready")
    while not preemption.requested():
        time.sleep(0.01)
signal.raise_signal(signal.SIGTERM)
print("done")
sys.exit(1)
"""
    status, out, error = terminate(start(script))
    assert (status, out) == (1, ["done"])
    assert preemption.STOPPED not in error


def test_run_that_has_ended_but_for_a_thread_is_abandoned_too():
    script = """
preemption.GRACE_SECONDS = 1.0
threading.Thread(target=threading.Event().wait).start()
with preemption.watch():
    print("ready")
    while not preemption.requested():
        time.sleep(0.01)
print("done")
"""
    status, out, error = terminate(start(script))
    assert (status, out) == (75, ["done"])
    assert error.count(preemption.STOPPED) == 1


def test_process_that_stops_because_another_was_asked_says_so_too():
    script = """
threading.Thread(target=threading.Event().wait).start()
with preemption.watch():
    print("ready")
    raise preemption.Preempted
"""
    process = start(script)
    try:
        out, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out.split()) == (75, ["ready"])
    assert error.split("\n").count(preemption.STOPPED) == 1


def test_ctrl_c_is_as_ever():
    script = """
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    with preemption.watch():
        print("ready", flush=True)
        signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print(preemption.requested(), signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
"""
    process = start(script)
    out, _ = process.communicate(timeout=60)
    assert out.split() == ["ready", "False", "True"]


def test_everything_is_as_before_without_a_signal():
    def handler(*_):
        raise AssertionError

    before = signal.signal(signal.SIGTERM, handler)
    try:
        with preemption.watch():
            assert signal.getsignal(signal.SIGTERM) != handler
            (watcher,) = (thread for thread in threading.enumerate() if thread.name == "preemption")
        assert signal.getsignal(signal.SIGTERM) == handler
        assert signal.set_wakeup_fd(-1) == -1
        watcher.join(timeout=60)
        assert not watcher.is_alive()
        assert not preemption.requested()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_nothing_is_watched_outside_the_main_thread():
    handlers = []

    def watch():
        with preemption.watch():
            handlers.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=watch)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGTERM)]


def test_check_raises_what_no_handler_of_exceptions_swallows(monkeypatch):
    preemption.check()
    monkeypatch.setattr(preemption, "requested", lambda: True)
    with pytest.raises(preemption.Preempted) as stop:
        preemption.check()
    assert not isinstance(stop.value, Exception)
