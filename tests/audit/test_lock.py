import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import tensorstore as ts
from etils import epath

from side_jax.audit.lock import LOCK, Lock, Owner, WorkdirLocked, workdir_lock
from side_jax.runtime.files import kvstore
from tests.servers import gcs_server, s3_server

ROOT = Path(__file__).parents[2]
FOREVER = 3600  # no test lives to see it: nobody waited
HOLD = """
import sys, time
from etils import epath
from side_jax.audit.lock import workdir_lock
with workdir_lock(epath.Path(sys.argv[1]), heartbeat=float(sys.argv[2]), patience=3600):
    print("locked", flush=True)
    time.sleep(3600)
"""


@pytest.fixture(params=["local", "gs"])
def workdir(request, tmp_path, monkeypatch):
    if request.param == "local":
        yield epath.Path(tmp_path)
        return
    with gcs_server() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield epath.Path("gs://audits/run")


@pytest.fixture
def holder(workdir):
    """Starts processes that take the lock and keep it; ends them."""
    processes = []

    def start(heartbeat=0.1):
        command = [sys.executable, "-c", HOLD, str(workdir), str(heartbeat)]
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ.copy()
        )
        processes.append(process)
        assert process.stdout.readline() == "locked\n", process.communicate()[1]
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def write_lock(workdir, **changes):
    """A lock such as a process of another machine leaves."""
    owner = dataclasses.replace(Owner.this_process(), host="node7", machine="other boot", **changes)
    (workdir / LOCK).write_text(json.dumps(dataclasses.asdict(owner)))
    return owner


def test_second_run_is_refused_and_told_who_has_it(workdir, holder):
    process = holder()
    since = json.loads((workdir / LOCK).read_text())["since"]
    expected = (
        rf"{workdir} is in use by another run \(host .+, pid {process.pid}, since {re.escape(since)}\); wait for it"
    )
    with pytest.raises(WorkdirLocked, match=expected), workdir_lock(workdir, patience=FOREVER):
        pass
    assert process.poll() is None


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt, SystemExit, BaseException])
def test_lock_is_released_however_the_run_ends(tmp_path, error):
    def run():
        with workdir_lock(epath.Path(tmp_path)):
            assert (tmp_path / LOCK).exists()
            if error:
                raise error

    if error:
        with pytest.raises(error):
            run()
    else:
        run()
    assert not (tmp_path / LOCK).exists()


def test_killed_run_is_replaced_at_once(workdir, holder):
    process = holder()
    process.send_signal(signal.SIGKILL)  # and nobody waits for it: it stays a zombie until the test ends
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    with workdir_lock(workdir, patience=FOREVER):
        assert json.loads((workdir / LOCK).read_text())["pid"] == os.getpid()
    process.wait()
    assert not (workdir / LOCK).exists()


def test_process_with_the_same_pid_is_another(tmp_path):
    dead = dataclasses.replace(Owner.this_process(), started="1")
    (tmp_path / LOCK).write_text(json.dumps(dataclasses.asdict(dead)))
    with workdir_lock(epath.Path(tmp_path), patience=FOREVER):
        pass


def test_owner_on_another_machine_without_a_heartbeat_is_replaced(workdir, caplog):
    owner = write_lock(workdir)
    with workdir_lock(workdir, heartbeat=0.1, patience=0.5):
        assert json.loads((workdir / LOCK).read_text())["token"] != owner.token
    assert caplog.messages == [
        f"{workdir} is locked by another run ({owner}); watching up to 0.5 s for a sign of life",
        f"{workdir}: taken over from a run that is gone ({owner})",
    ]


def test_owner_on_another_machine_with_a_heartbeat_is_not(workdir):
    owner = write_lock(workdir)
    store = ts.KvStore.open(kvstore(workdir)).result()
    ended = threading.Event()

    def renew():
        while not ended.wait(0.05):  # whole, as the other machine's run would: a reader never sees half of it
            store.write(LOCK, json.dumps(dataclasses.asdict(owner) | {"beats": time.monotonic()}).encode()).result()

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        with pytest.raises(WorkdirLocked, match="host node7"), workdir_lock(workdir, 0.1, FOREVER):
            pass
    finally:
        ended.set()
        thread.join()


PID_IN_WORDS = json.dumps(dataclasses.asdict(Owner.this_process()) | {"pid": "x"}).encode()


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\0", b"{", b"[]", b'{"pid": "x"}', pytest.param(PID_IN_WORDS, id="pid in words")],  # it has the time
)
def test_damaged_lock_is_watched_and_replaced(tmp_path, caplog, content):
    (tmp_path / LOCK).write_bytes(content)
    with workdir_lock(epath.Path(tmp_path), heartbeat=0.1, patience=0.3):
        pass
    assert caplog.messages[-1].endswith(": taken over from a run that is gone (its lock is damaged)")


@pytest.mark.parametrize("workdir", ["local"], indirect=True)  # fake-gcs-server lets every write through
def test_run_that_lost_its_lock_ends_and_says_so(workdir, holder):
    """It slept so long that another took over."""
    process = holder()
    process.send_signal(signal.SIGSTOP)
    owner = write_lock(workdir)
    process.send_signal(signal.SIGCONT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert error.splitlines()[-1] == f"error: {workdir} was taken over by another run ({owner}); stopped"
    assert json.loads((workdir / LOCK).read_text())["token"] == owner.token


@pytest.mark.parametrize("workdir", ["local"], indirect=True)
def test_lock_that_was_removed_by_hand_is_written_again(workdir):
    with workdir_lock(workdir, heartbeat=0.05):
        (workdir / LOCK).unlink()
        while not (workdir / LOCK).exists():
            time.sleep(0.01)
    assert not (workdir / LOCK).exists()


@pytest.mark.parametrize("kind", ["file", "s3"])
def test_of_many_that_come_at_once_one_is_let_in(tmp_path, monkeypatch, kind):
    """All have seen the same dead owner. S3, because the server knows its conditional writes."""
    with contextlib.ExitStack() as stack:
        spec = {"driver": "file", "path": f"{tmp_path}/"}
        if kind == "s3":
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                monkeypatch.setenv(name, "test")
            url = stack.enter_context(s3_server())
            spec = {"driver": "s3", "bucket": "audits", "path": "run/", "endpoint": url, "aws_region": "us-east-1"}
        store = ts.KvStore.open(spec).result()
        dead = dataclasses.replace(Owner.this_process(), started="1")
        store.write(LOCK, json.dumps(dataclasses.asdict(dead))).result()
        locks = [Lock(store, "run", heartbeat=0.05, patience=FOREVER) for _ in range(6)]
        start, refused, held = threading.Barrier(6), [], []

        def enter(lock):
            start.wait()
            try:
                held.append(lock.__enter__())
            except WorkdirLocked as error:
                refused.append(error)

        threads = [threading.Thread(target=enter, args=(lock,)) for lock in locks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(held), len(refused)) == (1, 5)
        before = store.read(LOCK).result().value
        while (now := store.read(LOCK).result().value) == before:  # its heartbeat goes on
            time.sleep(0.01)
        assert Owner.read(now) == Owner.read(before)
        held[0].__exit__(None, None, None)
        assert store.read(LOCK).result().state == "missing"


def test_file_that_a_kill_left_half_written_is_cleared_away(tmp_path):
    script = "import sys; from etils import epath; from side_jax.runtime.files import write_bytes\n"
    script += "while True: write_bytes(epath.Path(sys.argv[1]), bytes(1 << 24))"
    leftovers = []
    while not leftovers:
        process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "big")], cwd=ROOT)
        while not list(tmp_path.glob(".big.*.tmp")):
            assert process.poll() is None
            time.sleep(0.001)
        process.kill()
        process.wait()
        leftovers = list(tmp_path.glob(".big.*.tmp"))
    with workdir_lock(epath.Path(tmp_path)):
        assert not list(tmp_path.glob(".big.*"))


def test_nothing_but_temporary_files_is_cleared_away(tmp_path):
    """Not finished artifacts, nor what another run writes in a workdir below this one."""
    kept = ("metrics.json", "extract/part-0.parquet", "nested/lock.json", "nested/.metrics.json.0123abcd.tmp", ".x.tmp")
    swept = (
        ".metrics.json.0123abcd.tmp",
        "extract/scale=00.00/.part-0.parquet.89abcdef.tmp",
        "extract/.train_descriptors.zarr.01234567.tmp/0.0",  # a folder, as earlier versions left
        "synthetic/images.zarr/0.0.0.0.__lock",
        "target/checkpoints/2.orbax-checkpoint-tmp/d/x",
    )
    for name in kept + swept:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    with workdir_lock(epath.Path(tmp_path)):
        found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {*kept, LOCK}
    assert not (tmp_path / "target" / "checkpoints" / "2.orbax-checkpoint-tmp").exists()
