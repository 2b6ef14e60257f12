import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from absl.testing import flagsaver

import main

ROOT = Path(__file__).parents[1]


def command(*arguments):
    return [sys.executable, str(ROOT / "main.py"), *map(str, arguments)]


@pytest.mark.filterwarnings("ignore:.*load_module:DeprecationWarning")  # ml_collections loads a config with it
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
        (
            ("--config=configs/smoke.py", "--workdir={}/run", "--fail_if=ums_exces > 0"),
            "--fail_if='ums_exces > 0', position 1: no metric 'ums_exces'; near it: ums_excess",
        ),
        (
            ("--config=configs/smoke.py", "--workdir={}/run", "--fail_if=p <"),
            "position 4: wanted a number, got the end",
        ),
        (
            ("--config=configs/smoke.py", "--workdir={}/run", "--fail_if=recall_p < 1", "--config.recall.num_photos=0"),
            "this audit will not measure recall_p (photos were not asked for one by one (recall.num_photos, or no",
        ),
        (
            ("--config=configs/smoke.py", "--workdir={}/run", "--fail_if=p < 1", "--stages=target"),
            "--fail_if needs the stage report, and --stages has target",
        ),
    ],
)
def test_bad_input_is_one_line_exit_2_and_nothing_written(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["main.py", *(a.format(tmp_path) for a in arguments)])  # overrides come from there
    with flagsaver.flagsaver():
        assert main.main(sys.argv) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert message in error
    assert list(tmp_path.iterdir()) == []


def test_process_prints_its_error_and_exits_with_the_status(tmp_path):
    done = subprocess.run(
        command("--config=configs/smoke.py", f"--workdir={tmp_path / 'run'}", "--stages=sample"),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        env=os.environ | {"PYTHONPATH": "."},
    )
    assert done.returncode == 2
    assert "got sample" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.given(kind=13, input="`--workdir=X` alone", before="resuming needs all flags again", now="resumes")
@pytest.mark.filterwarnings("ignore:.*load_module:DeprecationWarning")
def test_workdir_alone_resumes(tmp_path, monkeypatch):
    """Config, overrides and stages are those of the first command; the model is loaded, which takes no time."""
    monkeypatch.chdir(ROOT)
    workdir, manifest = tmp_path / "run", tmp_path / "run" / "target" / "manifest.json"

    def command_line(*flags):
        arguments = ["main.py", *flags, f"--workdir={workdir}"]
        monkeypatch.setattr(sys, "argv", arguments)
        with flagsaver.flagsaver():
            assert main.main(arguments) == 0

    command_line("--config=configs/orl.py", "--config.seed=7", "--stages=target")
    before = json.loads(manifest.read_text())
    manifest.unlink()
    command_line("--stages=target")
    assert json.loads(manifest.read_text())["fingerprint"] == before["fingerprint"]
    assert json.loads((workdir / "config.json").read_text())["config"]["seed"] == 7


@pytest.mark.given(
    kind=13,
    input="`python -m side_jax --config=smoke` in any folder",
    before="works only in the repository's root",
    now="the config is found",
)
@pytest.mark.parametrize("config", ["smoke", "smoke.py", "configs/smoke.py"])
def test_configs_of_the_package_are_known_in_every_folder(tmp_path, config):
    done = subprocess.run(
        [sys.executable, "-m", "side_jax", f"--config={config}", "--workdir=run", "--stages=sample"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 2
    assert "got sample" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.given(
    kind=13,
    input="an installed wheel, outside the repository",
    before="works only in the repository's root",
    now="it has the configs",
)
@pytest.mark.slow
def test_wheel_holds_the_configs_and_runs_them(tmp_path):
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", tmp_path, ROOT], check=True)
    (wheel,) = tmp_path.glob("side_jax-*.whl")
    subprocess.run([*pip, "install", "-q", "--no-deps", "--target", tmp_path / "installed", wheel], check=True)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "side_jax",
            "--config=celeba_hq_sweep",
            "--workdir=run",
            "--config.extract.num_images=0",
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "installed")},
    )
    assert "extract.num_images must be at least 1, got 0" in done.stderr


@pytest.mark.given(kind=13, input="`--help`", before='"Unknown command line flag"', now="lists the flags")
def test_help_lists_the_flags():
    done = subprocess.run(command("--help"), capture_output=True, text=True, cwd=ROOT, check=False)
    for flag in ("--config", "--workdir", "--[no]dry_run", "--stages", "--fail_if"):
        assert f"\n  {flag}: " in done.stdout
