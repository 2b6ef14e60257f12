"""README.md and the pages of docs/: what they say of the program is so."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml
from absl.testing import flagsaver

from docs.site import with_links
from side_jax.audit import command_line
from side_jax.audit.at_risk import COLUMNS, RECALL_COLUMNS
from side_jax.audit.options import AuditOptions
from side_jax.audit.stages import STAGES
from side_jax.report.answers import QUESTIONS
from side_jax.report.sections import SECTIONS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), ROOT / "launch" / "README.md"])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def without_code(text):
    return re.sub(r"```.*?```|^ {4}[^\n]*$|`[^`\n]*`", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(text):
    """Of the headings, as code hosts and mkdocs make them."""
    titles = re.findall(r"^#+ (.*)$", without_code(text.replace("`", "")), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title.lower())).strip("-") for title in titles}


def python_of(name):
    return re.findall(r"```python\n(.*?)```", read(name), re.DOTALL)


def test_python_of_the_quickstart_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    namespace = {}
    for block in python_of("docs/quickstart.md"):
        exec(block, namespace)
    assert namespace["images"].shape == namespace["steered"].shape == (16, 32, 32, 1)
    assert "(16, 8, 1, 1)" in capsys.readouterr().out


def test_python_of_the_artifacts_reads_the_best_matches_of_a_finished_audit(finished_smoke, capsys):
    (block,) = python_of("docs/artifacts.md")
    exec(block, {"workdir": finished_smoke})
    scores = [float(line.split()[3]) for line in capsys.readouterr().out.splitlines()]
    assert len(scores) == 5 and scores == sorted(scores, reverse=True)


def test_readme_is_short_and_has_one_table_of_results():
    assert len(read("README.md").splitlines()) <= 150
    assert len(re.findall(r"^\| λ \|", read("README.md"), re.MULTILINE)) == 1


@pytest.mark.parametrize("name", NAMES)
def test_every_link_and_picture_of_a_page_leads_somewhere(name):
    for path, anchor in re.findall(r"\]\((?![a-z]+:)([^()\s#]*)(?:#([^()\s]*))?\)", without_code(read(name))):
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.exists(), path
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), f"{path}#{anchor}"


def test_site_has_every_page_once():
    def pages(entries):
        for entry in entries:
            (value,) = entry.values()
            yield from [value] if isinstance(value, str) else pages(value)

    named = list(pages(yaml.safe_load(read("mkdocs.yml"))["nav"]))
    assert sorted(named) == sorted([*(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")), "index.md"])


def test_links_of_a_page_lead_to_pages_of_the_site_or_to_the_repository():
    readme = "[a](docs/x.md#y) [b](CONTRIBUTING.md) ![c](docs/figures/d.svg) [e](https://e.org) [f](#g)"
    kept = "![c](figures/d.svg) [e](https://e.org) [f](#g)"
    assert with_links(readme, "README.md", None) == f"[a](x.md#y) b {kept}"
    assert with_links(readme, "README.md", "https://h/r/") == (
        f"[a](x.md#y) [b](https://h/r/blob/main/CONTRIBUTING.md) {kept}"
    )
    page = "[a](../x.md) [b](../../README.md#c) [d](../../tests/d.py)"
    assert with_links(page, "docs/questions/q.md", None) == "[a](../x.md) [b](../index.md#c) d"


def commands():
    """(page, arguments) of every call of the program that stands in a block of code."""
    for name in NAMES:
        joined = read(name).replace("\\\n", " ")
        for line in re.findall(r"^(?: {4,}|```\w*\n)(?:\$ )?python (main\.py .*)$", joined, re.MULTILINE):
            yield pytest.param(shlex.split(line, comments=True), id=f"{name}: {line[8:60]}")


@pytest.mark.filterwarnings("ignore:.*load_module:DeprecationWarning")
@pytest.mark.parametrize("arguments", list(commands()))
def test_command_of_a_page_is_one_that_the_program_takes(arguments, monkeypatch):
    """Its flags, its config, the fields that it sets, and their values; files are not looked for.

    A dry run takes a config that still lacks a path.
    """
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", arguments)
    with flagsaver.flagsaver():
        command_line._parse(arguments)
        assert command_line._WORKDIR.value
        if any(argument.startswith("--config=") for argument in arguments) and "--dry_run" not in arguments:
            AuditOptions.from_config(command_line._CONFIG.value)


def test_every_section_and_question_of_the_report_is_explained():
    text = read("docs/report.md")
    assert [section.name for section in SECTIONS if f"(`{section.name}`)" not in text] == []
    assert [question for question in QUESTIONS.values() if f"| {question} |" not in text] == []


def test_every_stage_table_and_field_is_among_the_artifacts(finished_smoke):
    text = read("docs/artifacts.md")
    assert [stage.name for stage in STAGES if f"| {stage.name} |" not in text] == []
    for columns in (COLUMNS, RECALL_COLUMNS):
        assert ", ".join(f"`{column}`" for column in columns) in text
    metrics = json.loads((finished_smoke / "metrics.json").read_text())
    assert [field for field in metrics if f"`{field}`" not in text] == []
    made = {path.name for path in finished_smoke.iterdir() if path.is_file()} - {"lock.json"}
    assert [name for name in made if f"`{name}`" not in text] == []
