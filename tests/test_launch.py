import json
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from side_jax.runtime import preemption
from side_jax.runtime.distributed import Cluster, cluster_from_environment

LAUNCH = Path(__file__).parents[1] / "launch"
SCRIPTS = ("local_processes.sh", "slurm.sbatch", "tpu_pod.sh")


def jobset():
    return yaml.safe_load((LAUNCH / "gke_jobset.yaml").read_text())


def hosts():
    """The Job, and its one container."""
    (replicated,) = jobset()["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    return job, container


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_is_bash_that_shellcheck_finds_nothing_in(name):
    subprocess.run(["bash", "-n", LAUNCH / name], check=True)
    shellcheck = shutil.which("shellcheck", path=Path(sys.executable).parent) or "shellcheck"
    done = subprocess.run([shellcheck, LAUNCH / name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_jobset_has_the_fields_of_its_schema():
    schema = json.loads((Path(__file__).parent / "jobset_schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(jobset())


def test_jobset_tells_every_process_which_it_is():
    """The variables as Kubernetes fills them in, read by the function that reads them."""
    job, container = hosts()
    spec = jobset()["spec"]
    assert job["completions"] == job["parallelism"]
    assert spec["coordinator"]["replicatedJob"] == spec["replicatedJobs"][0]["name"]
    for index in range(job["completions"]):
        annotations = {
            "jobset.sigs.k8s.io/coordinator": "side-jax-hosts-0-0.side-jax",
            "batch.kubernetes.io/job-completion-index": str(index),
        }
        environ = {}
        for variable in container["env"]:
            if "valueFrom" in variable:
                path = variable["valueFrom"]["fieldRef"]["fieldPath"]
                value = annotations[path.removeprefix("metadata.annotations['").removesuffix("']")]
            else:
                value = variable["value"]
                for name, earlier in environ.items():
                    value = value.replace(f"$({name})", earlier)
            environ[variable["name"]] = value
        expected = Cluster("side-jax-hosts-0-0.side-jax:8476", job["completions"], index)
        assert cluster_from_environment(environ) == expected


def test_jobset_starts_an_audit_again_that_was_asked_to_stop():
    """With the status of such an audit, which the container has as its own."""
    job, container = hosts()
    assert container["command"] == ["python", "main.py"]
    codes = [rule["onExitCodes"]["values"] for rule in job["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
    assert codes == [[preemption.EXIT_STATUS]]


@pytest.mark.parametrize("count", ["0", "-1", "two", ""])
def test_senseless_number_of_processes_is_named(count):
    done = subprocess.run([LAUNCH / "local_processes.sh", count], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"got '{count}'" in done.stderr


def test_tpu_script_names_what_is_not_set():
    done = subprocess.run([LAUNCH / "tpu_pod.sh"], capture_output=True, text=True, check=False, env={"TPU": "audit"})
    assert done.returncode == 2
    assert "error: ZONE is not set" in done.stderr
