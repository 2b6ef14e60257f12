import os
import subprocess
import sys

import pytest

from side_jax.runtime.distributed import Cluster, cluster_from_environment
from tests.servers import free_port
from tests.test_main import ROOT, command


def environment(coordinator="10.0.0.2:8476", num_processes="4", process_id="3", **more):
    named = {"COORDINATOR": coordinator, "NUM_PROCESSES": num_processes, "PROCESS_ID": process_id} | more
    return {f"SIDE_JAX_{name}": value for name, value in named.items() if value is not None}


@pytest.mark.parametrize(
    ("environ", "cluster"),
    [
        ({}, None),
        ({"SIDE_JAX_COORDINATOR": "", "SIDE_JAX_DISTRIBUTED": ""}, None),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}, None),
        ({"SIDE_JAX_DISTRIBUTED": "auto"}, Cluster()),
        (environment(), Cluster("10.0.0.2:8476", 4, 3)),
        (environment(PEER_TIMEOUT="7", START_TIMEOUT="9"), Cluster("10.0.0.2:8476", 4, 3, 7, 9)),
        (environment("[fd00::1]:80", "1", "0"), Cluster("[fd00::1]:80", 1, 0)),
        (environment("orl-hosts-0-0.orl:8476", "2", "0"), Cluster("orl-hosts-0-0.orl:8476", 2, 0)),
    ],
)
def test_environment_says_which_process_of_how_many_this_is(environ, cluster):
    assert cluster_from_environment(environ) == cluster


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"SIDE_JAX_DISTRIBUTED": "yes"}, "SIDE_JAX_DISTRIBUTED must be auto, got 'yes'"),
        (environment(DISTRIBUTED="auto"), "SIDE_JAX_COORDINATOR='10.0.0.2:8476' contradicts SIDE_JAX_DISTRIBUTED=auto"),
        (environment(coordinator=None), r"SIDE_JAX_COORDINATOR is not set, but SIDE_JAX_NUM_PROCESSES is \('4'\)"),
        (environment(num_processes=""), "SIDE_JAX_NUM_PROCESSES is not set, but SIDE_JAX_COORDINATOR is"),
        (environment(process_id=None), "SIDE_JAX_PROCESS_ID is not set, but SIDE_JAX_COORDINATOR is"),
        (environment("10.0.0.2"), "SIDE_JAX_COORDINATOR must be host:port of process 0, got '10.0.0.2'"),
        (environment(":8476"), "SIDE_JAX_COORDINATOR must be host:port of process 0, got ':8476'"),
        (environment("host:port"), "got 'host:port'"),
        (environment("host:70000"), "got 'host:70000'"),
        (environment(num_processes="0"), "SIDE_JAX_NUM_PROCESSES must be a whole number, 1 or more, got '0'"),
        (environment(num_processes="four"), "got 'four'"),
        (environment(process_id="4"), r"SIDE_JAX_PROCESS_ID must be a whole number, in 0 … 3 .*, got '4'"),
        (environment(process_id="-1"), "SIDE_JAX_PROCESS_ID must be .*, got '-1'"),
        (environment(PEER_TIMEOUT="0"), "SIDE_JAX_PEER_TIMEOUT must be a whole number, 1 or more, got '0'"),
        (environment(START_TIMEOUT="soon"), "SIDE_JAX_START_TIMEOUT must be a whole number, 1 or more, got 'soon'"),
    ],
)
def test_senseless_environment_is_named(environ, message):
    with pytest.raises(ValueError, match=message) as error:
        cluster_from_environment(environ)
    assert "\n" not in str(error.value)


def test_command_line_refuses_an_environment_without_a_cluster(tmp_path):
    """In a process of its own: JAX joins a cluster only before it has looked for devices."""
    detected = ("SLURM_", "OMPI_", "KUBERNETES_", "TPU_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(detected)}
    done = subprocess.run(
        command("--config=configs/smoke.py", f"--workdir={tmp_path / 'run'}"),
        env=inherited | {"PYTHONPATH": ".", "SIDE_JAX_DISTRIBUTED": "auto"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "SIDE_JAX_DISTRIBUTED=auto, but JAX detects no cluster here" in error
    assert list(tmp_path.iterdir()) == []


def start(program, port, count, process, **more):
    """One process of a cluster on loopback."""
    given = environment(f"127.0.0.1:{port}", str(count), str(process), **more) | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", program]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ | given)


_LATE = """
import logging, os, sys, time
from side_jax.runtime import distributed
logging.basicConfig(format="%(message)s")
distributed._PATIENCE = 1.0
distributed.initialize(distributed.cluster_from_environment(os.environ))
if not distributed.is_primary():
    time.sleep(4)
distributed.barrier("the door")
distributed.leave()
"""


@pytest.mark.given(
    kind=11,
    input="a process that is alive and stuck",
    before="waited for without a word",
    now="the first process says \"process 0 waits at 'the door' for 1, 2\"",
)
@pytest.mark.slow
def test_process_that_waits_says_for_whom():
    port = free_port()
    runs = [start(_LATE, port, 3, process) for process in range(3)]
    errors = [run.communicate(timeout=120)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0]
    assert "process 0 waits at 'the door' for 1, 2" in errors[0]
    assert "waits" not in errors[1]


_START = """
import logging, os
from side_jax.runtime import distributed
logging.basicConfig(format="%(message)s")
distributed._PATIENCE = {patience}
distributed.initialize(distributed.cluster_from_environment(os.environ))
distributed.barrier("the door")
distributed.leave()
"""
_LATENESS = 25  # seconds; a process that dies counts as dead after 5


@pytest.mark.given(
    kind=11,
    input="a process that comes late: within `SIDE_JAX_START_TIMEOUT`, or after it",
    before="after 308 s an abort with a C++ stack, not configurable",
    now='within it the audit starts, and the first says "waiting for all processes of 2 to start"; after it that ends',
)
@pytest.mark.slow
def test_late_process_is_waited_for_as_long_as_the_start_timeout_says():
    """Whichever is late: the first, to which the others connect, or another."""
    for timeout, first, patience in (("600", 0, 5.0), ("600", 1, 5.0), ("8", 0, 60.0), ("8", 1, 60.0)):
        port, limits = free_port(), {"START_TIMEOUT": timeout, "PEER_TIMEOUT": "5"}
        program = _START.format(patience=patience)
        processes = [start(program, port, 2, first, **limits)]
        try:
            processes[0].wait(timeout=_LATENESS)
        except subprocess.TimeoutExpired:
            processes.append(start(program, port, 2, 1 - first, **limits))
        errors = [process.communicate(timeout=120)[1] for process in processes]
        assert f"waiting for all processes of 2 to start at 127.0.0.1:{port}, for {timeout} s at most" in errors[0]
        succeeded = [process.returncode == 0 for process in processes]
        assert succeeded == ([True, True] if timeout == "600" else [False]), errors
