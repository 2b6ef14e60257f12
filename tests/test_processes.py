"""Real processes on loopback, started as a user does: the same answer as one, and nothing lost when they are killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from etils import epath

from side_jax.runtime import preemption
from side_jax.runtime.arrays import load_array
from tests.audit.test_pipeline import results

pytestmark = [pytest.mark.slow, pytest.mark.optax]
ROOT = Path(__file__).parents[1]
PEER_TIMEOUT = 20
# The smoke configuration on 8 x 8 pixels and the smallest UNet there is: it is compilation that takes the time.
TINY = (
    "--config=configs/smoke.py",
    "--config.dataset.image_size=8",
    "--config.target.unet.block_out_channels=(8,)",
    "--config.target.unet.layers_per_block=1",
    "--config.target.unet.down_block_types=('DownBlock2D',)",
    "--config.target.unet.up_block_types=('UpBlock2D',)",
    "--config.labels.source=clusters",
    "--config.labels.num_clusters=3",
    "--config.labels.cohesion=-1.0",
)


class Run:
    """launch/local_processes.sh in a process group of its own, which is ended whatever happens."""

    def __init__(self, count, workdir, *overrides):
        self._log = (workdir.parent / f"{workdir.name}.log").open("a+")
        environ = os.environ | {
            "PYTHON": sys.executable,
            "PYTHONPATH": str(ROOT),
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": "1",
            "SIDE_JAX_PEER_TIMEOUT": str(PEER_TIMEOUT),
            "XLA_FLAGS": "--xla_backend_optimization_level=0",
        }
        arguments = [ROOT / "launch" / "local_processes.sh", str(count), *TINY, f"--workdir={workdir}", *overrides]
        self.process = subprocess.Popen(
            arguments, cwd=ROOT, env=environ, stdout=self._log, stderr=self._log, start_new_session=True
        )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for pid in (*self.children(), self.process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()
        self._log.close()

    def children(self):
        """The audit's processes, in order of their number."""
        try:
            return [
                int(pid)
                for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            ]
        except FileNotFoundError:
            return []

    def wait_for(self, workdir, pattern):
        while not any(workdir.glob(pattern)):
            assert self.process.poll() is None, self.log()
            time.sleep(0.05)

    def log(self):
        self._log.seek(0)
        return self._log.read()

    def finish(self, timeout=1800):
        """Its exit status."""
        return self.process.wait(timeout=timeout)


def ended(pid):
    """Is a process gone, or dead and not yet waited for? Waits a moment, as its signal takes one."""
    for _ in range(100):
        stat = Path(f"/proc/{pid}/stat")
        try:
            if stat.read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


def audit(count, workdir):
    with Run(count, workdir) as run:
        assert run.finish() == 0, run.log()
    return workdir


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The audit by one process. Read only."""
    return audit(1, tmp_path_factory.mktemp("runs") / "one")


def facts(workdir, stage):
    return json.loads((workdir / stage / "manifest.json").read_text())["facts"]


def assert_same_audit(workdir, expected):
    """Equal but for float rounding: losses, images, labels, scores; the same ids wherever scores are further apart."""
    for stage in ("target", "classifier"):
        np.testing.assert_allclose(facts(workdir, stage)["loss"], facts(expected, stage)["loss"], rtol=1e-4)
    ours, theirs = (
        load_array(epath.Path(path) / "synthetic" / "images.zarr").astype(int) for path in (workdir, expected)
    )
    assert np.abs(ours - theirs).max() <= 1
    ours, theirs = (np.load(path / "labels" / "labels.npz")["labels"] for path in (workdir, expected))
    np.testing.assert_array_equal(ours, theirs)
    (ours, metrics), (theirs, other_metrics) = results(workdir), results(expected)
    assert len(metrics["scales"]) == len(other_metrics["scales"])
    for name in ("scale", "index", "label"):
        np.testing.assert_array_equal(ours[name], theirs[name])
    for prefix in ("", "heldout_"):
        scores = np.array(theirs[prefix + "scores"].to_pylist())
        np.testing.assert_allclose(np.array(ours[prefix + "scores"].to_pylist()), scores, atol=1e-2)
        clear = scores[:, 0] - scores[:, 1] > 1e-2
        assert clear.any()
        best, expected_best = (
            np.array([ids[0] for ids in table[prefix + "ids"].to_pylist()]) for table in (ours, theirs)
        )
        np.testing.assert_array_equal(best[clear], expected_best[clear])


@pytest.mark.parametrize("count", [2, 4])
def test_several_processes_give_the_answer_of_one(tmp_path, one, count):
    workdir = audit(count, tmp_path / "several")
    assert_same_audit(workdir, one)
    assert len(list((workdir / "target" / "logs").iterdir())) == 1
    with Run(count, workdir) as again:
        assert again.finish() == 0
        assert again.log().count("complete, skipped") == 9


def test_stages_of_the_primary_end_where_guided_images_are_generated_again(tmp_path):
    """Detect and report read the guide on the primary alone, whom the others wait for."""
    workdir = tmp_path / "regenerated"
    with Run(2, workdir, "--config.extract.save_images=none") as run:
        assert run.finish(timeout=900) == 0, run.log()
    assert not list((workdir / "extract").rglob("images.zarr"))
    assert (workdir / "detect" / "manifest.json").exists()
    assert (workdir / "report.html").exists()
    _, metrics = results(workdir)
    assert [row["scale"] for row in metrics["scales"]] == [0, 2]


def test_references_split_over_processes_give_the_answer_of_one(tmp_path, one):
    """Every batch over both processes, descriptors and candidates exchanged; lists longer than the first attempt."""
    options = "--config.extract.references=sharded", "--config.extract.bands=(('all',-1.0,1.0),)"
    workdirs = [tmp_path / "several", tmp_path / "alone"]
    for count, workdir in zip((2, 1), workdirs, strict=True):
        with Run(count, workdir, *options) as run:
            assert run.finish() == 0, run.log()
    assert_same_audit(*workdirs)
    table, _ = results(workdirs[0])
    assert all(len(set(row)) == 200 for row in table["in_band"].to_pylist())


def test_exact_guide_split_over_processes_gives_the_answer_of_one(tmp_path):
    """Its set is shared out with the references: each process sums over its share for the images of both."""
    options = "--config.classifier.guide=exact", "--config.extract.equal_compute=True"
    tables = []
    for count, more in ((1, ()), (2, ("--config.extract.references=sharded",))):
        with Run(count, tmp_path / str(count), *options, *more) as run:
            assert run.finish(timeout=900) == 0, run.log()
        tables.append(results(tmp_path / str(count))[0])
    alone, shared = tables
    assert len(alone) > 24  # those for equal compute beside 12 of each λ
    assert shared["label"].equals(alone["label"])
    best = [np.array([scores[0] for scores in table["scores"].to_pylist()]) for table in tables]
    np.testing.assert_allclose(*best, atol=1e-3)


@pytest.mark.parametrize(
    ("when", "killed"), [("target/checkpoints/2", 0), ("synthetic/spec.json", 1), ("extract/scale=00.00/part-*", 0)]
)
def test_one_killed_ends_all_and_the_same_command_loses_and_doubles_nothing(tmp_path, one, when, killed):
    workdir = tmp_path / "killed"
    with Run(2, workdir) as run:
        run.wait_for(workdir, when)
        processes = run.children()
        os.kill(processes[killed], signal.SIGKILL)
        assert run.finish() == 128 + signal.SIGKILL
        assert all(ended(pid) for pid in processes)
    audit(2, workdir)
    assert_same_audit(workdir, one)
    table, _ = results(workdir)
    pairs = list(zip(table["scale"].to_pylist(), table["index"].to_pylist(), strict=True))
    assert sorted(pairs) == [(scale, index) for scale in (0.0, 2.0) for index in range(12)]


@pytest.mark.parametrize("when", ["target/checkpoints/2", "extract/scale=00.00/part-*"])
def test_sigterm_stops_all_with_status_75_and_the_same_command_resumes(tmp_path, one, when):
    workdir = tmp_path / "stopped"
    with Run(2, workdir) as run:
        run.wait_for(workdir, when)
        run.process.send_signal(signal.SIGTERM)
        assert run.finish() == preemption.EXIT_STATUS, run.log()
        assert not (workdir / "report.html").exists()
    audit(2, workdir)
    assert_same_audit(workdir, one)


def test_stopped_with_other_processes_resumes_with_any_number(tmp_path, one):
    """Two processes begin, four go on, one ends it."""
    workdir = tmp_path / "changing"
    for count, when in ((2, "target/checkpoints/2"), (4, "labels/spec.json")):
        with Run(count, workdir) as run:
            run.wait_for(workdir, when)
            for pid in run.children():
                os.kill(pid, signal.SIGKILL)
            assert run.finish() == 128 + signal.SIGKILL
    audit(1, workdir)
    assert_same_audit(workdir, one)


def test_processes_without_the_launcher_end_when_one_is_killed(tmp_path):
    """As on several machines: what ends the other is JAX's coordination service, and its status says so."""
    with Run(2, tmp_path / "alone") as run:
        run.wait_for(tmp_path / "alone", "target/spec.json")
        first, second = run.children()
        os.kill(run.process.pid, signal.SIGSTOP)  # the launcher looks away
        os.kill(second, signal.SIGKILL)
        deadline = time.monotonic() + 10 * PEER_TIMEOUT
        while Path(f"/proc/{first}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            assert time.monotonic() < deadline, run.log()
            time.sleep(0.2)


def train(count, folder, stop_process=-1, stop_step=0):
    """What each of `count` processes saw; see tests/runtime/train_process.py."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environ = os.environ | {
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "1",
        "SIDE_JAX_COORDINATOR": f"127.0.0.1:{port}",
        "SIDE_JAX_NUM_PROCESSES": str(count),
    }
    command = [sys.executable, "-m", "tests.runtime.train_process", str(folder), str(stop_process), str(stop_step)]
    processes = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=environ | {"SIDE_JAX_PROCESS_ID": str(process)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(count)
    ]
    try:
        ended = [(*process.communicate(timeout=600), process.returncode) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [status for *_, status in ended] == [0] * count, [error for _, error, _ in ended]
    return [json.loads(out.splitlines()[-1]) for out, *_ in ended]


@pytest.mark.parametrize("count", [2, 4])
def test_training_of_several_processes_sees_the_batches_and_losses_of_one(tmp_path, count):
    (alone,) = train(1, tmp_path / "one")
    processes = train(count, tmp_path / "several")
    for step, (whole,) in enumerate(alone["batches"]):
        assert [row for process in processes for row in process["batches"][step][0]] == whole
    for process in processes:
        np.testing.assert_allclose(process["losses"], alone["losses"], rtol=1e-5)
        np.testing.assert_allclose(process["ema"], alone["ema"], rtol=1e-5)


@pytest.mark.parametrize("asked", [0, 1])
def test_one_process_that_is_asked_to_stop_stops_all_at_the_same_step(tmp_path, asked):
    whole = train(2, tmp_path / "whole")
    stopped = train(2, tmp_path / "stopped", asked, 5)
    steps = [len(process["losses"]) for process in stopped]
    assert steps[0] == steps[1] <= 7
    assert all(process["stopped"] for process in stopped)
    assert (tmp_path / "stopped" / "checkpoints" / str(steps[0])).exists()
    resumed = train(2, tmp_path / "stopped")
    for first, second, uninterrupted in zip(stopped, resumed, whole, strict=True):
        assert first["losses"] + second["losses"] == uninterrupted["losses"]
        assert second["ema"] == uninterrupted["ema"]


def test_different_commands_are_refused_by_all_before_anything_is_written(tmp_path):
    workdir = tmp_path / "different"
    script = f"""
trap 'kill -9 $(jobs -p) 2>/dev/null' EXIT
port=$({sys.executable} -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export SIDE_JAX_COORDINATOR=127.0.0.1:$port SIDE_JAX_NUM_PROCESSES=2 JAX_PLATFORMS=cpu
for process in 0 1; do
  SIDE_JAX_PROCESS_ID=$process {sys.executable} main.py "$@" --workdir={workdir} --config.seed=$process &
done
status=0
for pid in $(jobs -p); do wait $pid || status=$?; done
exit $status
"""
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", script, "different", *TINY], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("error: config, data or workdir differ between processes (0: ") == 2
    assert not workdir.exists()
