"""SIGTERM at every stage of the command line: exit status 0 within 10 s, and the same command finishes the run."""

import signal
import subprocess
import time

import pytest

from side_jax import preemption
from tests.test_killed import finish, start
from tests.test_pipeline import assert_same_results

pytestmark = [pytest.mark.slow, pytest.mark.optax]
# What is there when a stage has just begun (it loads and compiles), trains, or is in the middle of its batches.
MOMENTS = (
    "target/spec.json",
    "target/checkpoints/2",
    "synthetic/images.zarr",
    "labels/spec.json",
    "classifier/spec.json",
)
MOMENTS += ("extract/spec.json", "extract/scale=02.00/part-*")


def test_preempted_runs_exit_0_in_time_and_resume_to_the_same_results(tmp_path):
    """10 s is what the contract promises, on whatever machine."""
    finish(tmp_path / "whole")
    stopped = 0
    for moment in MOMENTS:
        process = start(tmp_path / "stopped")
        try:
            while process.poll() is None and not any((tmp_path / "stopped").glob(moment)):
                time.sleep(0.02)
            process.send_signal(signal.SIGTERM)
            _, error = process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            pytest.fail(f"{moment}: not ended after 10 s; {process.communicate()[1]}")
        assert process.returncode == 0, (moment, error)
        assert "Traceback" not in error
        stopped += error.split("\n").count(preemption.STOPPED)
    assert stopped >= len(MOMENTS) - 1  # the run may end before the signal comes
    finish(tmp_path / "stopped")
    assert_same_results(tmp_path / "stopped", tmp_path / "whole")
