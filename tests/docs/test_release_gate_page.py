import re
from pathlib import Path

import pytest
import yaml

from side_jax.audit.options import AuditOptions
from side_jax.report.gate import Gate
from side_jax.runtime.declare import build

PAGE = (Path(__file__).parents[2] / "docs" / "release_gate.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("condition", sorted(set(re.findall(r'--fail_if="([^"]+)"', PAGE))))
def test_every_gate_of_the_page_is_a_condition(condition):
    assert Gate.of(condition).text == condition


@pytest.mark.parametrize("condition", sorted(set(re.findall(r"`([^`]*\w+ (?:<|==) [\d.]+)`", PAGE))))
def test_every_condition_in_the_text_is_one(condition):
    assert Gate.of(condition)


def test_workflow_is_yaml_that_fails_on_the_gate_and_uploads_the_page():
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    steps = yaml.safe_load(block)["jobs"]["audit"]["steps"]
    (audit,) = [step for step in steps if "--fail_if" in step.get("run", "")]
    assert "${{" not in audit["run"]  # an input would be run as shell
    fields = re.findall(r"--config\.([\w.]+)=", audit["run"])
    known = build(AuditOptions, {})
    for field in fields:
        group, name = field.split(".")
        assert hasattr(getattr(known, group), name), field
    (upload,) = [step for step in steps if step.get("uses", "").startswith("actions/upload-artifact")]
    assert "audit/report.html" in upload["with"]["path"] and upload["if"] == "always()"


def test_page_never_says_safe():
    assert "safe" not in PAGE.replace("never safe", "").lower()
