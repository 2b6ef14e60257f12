import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def command(*arguments):
    return [sys.executable, str(ROOT / "main.py"), *map(str, arguments)]


def run(*arguments):
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, cwd=ROOT, check=False, env=os.environ | {"PYTHONPATH": "."}
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--config and --workdir are needed"),
        (("--config=configs/nowhere.py", "--workdir={}/run"), "configs/nowhere.py"),
        (("--config=configs/smoke.py", "--workdir={}/no/parent/run"), "its parent folder does not exist"),
        (("--config=configs/smoke.py", "--workdir={}/run", "--config.extract.lamda=3"), "has no field 'lamda'"),
        (
            ("--config=configs/smoke.py", "--workdir={}/run", "--config.extract.num_images=0"),
            "must be at least 1, got 0",
        ),
        (("--config=configs/smoke.py", "--workdir={}/run", "--config.extract.num_images=many"), "many"),
        (("--config=configs/smoke.py", "--workdir={}/run", "--stages=extract"), "stage extract needs target"),
        (("--config=configs/smoke.py", "--workdir={}/run", "--stages=sample"), "got sample"),
        (("--config=configs/smoke.py", "--workdir={}/run", "--no_such_flag"), "no_such_flag"),
        (("--status",), "--config and --workdir are needed"),
        (("--workdir={}/run", "--status"), "/run' does not exist"),
        (("--workdir={}", "--status"), "is no workdir of an audit: it has no config.json"),
        (("--workdir=LICENSE", "--status"), "'LICENSE' is no workdir of an audit"),
        (
            ("--config=configs/smoke.py", "--workdir={}/run", "--config.extract.batch_size=much"),
            "or 'auto', got 'much'",
        ),
        (
            ("--config=configs/smoke.py", "--workdir={}/run", "--dry_run", "--config.extract.num_images=0"),
            "extract.num_images must be at least 1, got 0",
        ),
        (
            ("--config=configs/smoke.py", "--workdir={}/run", "--dry_run", "--utilisation=2"),
            "--utilisation must be above",
        ),
    ],
)
def test_bad_input_is_one_line_exit_2_and_nothing_written(tmp_path, arguments, message):
    done = run(*(a.format(tmp_path) for a in arguments))
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
