"""The release gate on the command line, on a finished workdir."""

import shutil
import sys
from xml.etree import ElementTree

import pytest
from absl.testing import flagsaver

import main
from side_jax.report.gate_metrics import descriptions


@pytest.fixture(scope="module")
def copy(finished_smoke, tmp_path_factory):
    return shutil.copytree(finished_smoke, tmp_path_factory.mktemp("gate") / "copy")


def status(monkeypatch, *flags):
    arguments = ["main.py", *flags]
    monkeypatch.setattr(sys, "argv", arguments)
    with flagsaver.flagsaver():
        return main.main(arguments)


@pytest.mark.parametrize(
    ("condition", "expected", "said"),
    [
        ("cannot_tell == 1 or p < 0.01", 3, "gate FAILED: --fail_if='cannot_tell == 1 or p < 0.01': cannot_tell == 1"),
        ("images == 12 and not heldout_photos < 200", 3, "images == 12 and heldout_photos = 200 is not < 200"),
        ("p < 0", 2, "gate UNDECIDED: --fail_if='p < 0': the verdict is withheld"),
        ("guidance_ratio > 2", 2, "guidance_ratio was not measured: guidance was not compared with Random"),
    ],
)
def test_exit_status_and_one_line_on_a_finished_workdir(copy, monkeypatch, capsys, condition, expected, said):
    report = (copy / "report.html").read_bytes()
    assert status(monkeypatch, f"--workdir={copy}", f"--fail_if={condition}") == expected
    (line,) = [line for line in "".join(capsys.readouterr()).splitlines() if "gate " in line]
    assert said in line
    (case,) = ElementTree.parse(copy / "audit.junit.xml").getroot().iter("testcase")
    assert case.attrib["name"] == condition
    assert (copy / "report.html").read_bytes() == report


def test_audit_json_of_another_version_is_one_line_and_leaves_no_old_junit_file(copy, tmp_path, monkeypatch, capsys):
    other = shutil.copytree(copy, tmp_path / "other")
    (other / "audit.json").write_text('{"schema_version": 99}')
    (other / "audit.junit.xml").write_text("<testsuites/>")
    assert status(monkeypatch, f"--workdir={other}", "--fail_if=p < 0.01") == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "has schema_version 99, and this side_jax reads 1" in line
    assert not (other / "audit.junit.xml").exists()


def test_help_needs_no_workdir(monkeypatch, capsys):
    assert status(monkeypatch, "--fail_if=help") == 0
    said = capsys.readouterr().out
    assert all(f"\n  {name} " in said for name, _ in descriptions())
