"""SIGTERM at every stage of the command line: exit status 75 within 10 s, and the same command finishes the run."""

import signal
import subprocess
import time

import pytest

from side_jax.runtime import preemption
from tests.audit.test_pipeline import assert_same_results
from tests.test_killed import finish, start

pytestmark = [pytest.mark.slow, pytest.mark.optax]
# Stage, and seconds from its begin to the signal: while it loads and compiles, and, on most machines, in its batches.
MOMENTS = (
    *(("target", 5), ("synthesize", 0), ("label", 3), ("distill", 0)),
    *(("extract", 0), ("extract", 4), ("detect", 0)),
)


def test_preempted_runs_exit_75_in_time_and_resume_to_the_same_results(tmp_path):
    """10 s is what the contract promises, on whatever machine."""
    finish(tmp_path / "whole")
    stop_and_resume(tmp_path / "stopped")
    assert_same_results(tmp_path / "stopped", tmp_path / "whole")


def stop_and_resume(workdir):
    for stage, delay in MOMENTS:
        process = start(workdir)
        lines = []
        while f"{stage}: running\n" not in lines and process.poll() is None:
            lines.append(process.stderr.readline())
        time.sleep(delay)
        process.send_signal(signal.SIGTERM)
        try:
            _, error = process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            pytest.fail(f"{stage}: not ended after 10 s; {process.communicate()[1]}")
        assert process.returncode == preemption.EXIT_STATUS, (stage, error)
        assert error.split("\n").count(preemption.STOPPED) == 1, (stage, error)
        assert "Traceback" not in error
    finish(workdir)
