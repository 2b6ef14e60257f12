"""notebooks/quickstart.ipynb: executed where it lies, in the full suite; and kept with what it showed then."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "quickstart.ipynb"


def code_cells(path):
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def shown(cells, kind):
    """What the cells show of one MIME type, each as text."""
    outputs = [output for cell in cells for output in cell["outputs"] if kind in output.get("data", {})]
    return ["".join(output["data"][kind]) for output in outputs]


def check(cells):
    """It ran to the end, and shows pairs and the verdict of either audit."""
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"]
    assert len(shown(cells, "image/png")) == 1
    samples, model = shown(cells, "text/html")
    for page in (samples, model):
        assert "Are training images given back?" in page and 'alt="training photo"' in page
    for text in shown(cells, "text/plain")[-2:]:
        assert "Are training images given back?: yes: p < 0.001" in text


@pytest.mark.slow
def test_notebook_runs_where_it_lies(tmp_path):
    command = [sys.executable, "-m", "nbconvert", "--execute", "--to", "notebook", f"--output-dir={tmp_path}"]
    subprocess.run([*command, NOTEBOOK.name], cwd=NOTEBOOK.parent, check=True)
    check(code_cells(tmp_path / NOTEBOOK.name))


def test_notebook_is_kept_with_its_outputs():
    check(code_cells(NOTEBOOK))


def first_cell(repository=""):
    source = "".join(code_cells(NOTEBOOK)[0]["source"])
    assert 'REPOSITORY = ""' in source
    return source.replace('REPOSITORY = ""', f'REPOSITORY = "{repository}"')


@pytest.mark.parametrize("folder", [ROOT, ROOT / "notebooks"])
def test_first_cell_finds_the_checkout_that_it_lies_in(folder, monkeypatch):
    monkeypatch.chdir(folder)
    exec(first_cell(), {})
    assert Path.cwd() == ROOT


def test_first_cell_clones_where_there_is_no_checkout(tmp_path, monkeypatch):
    repository = tmp_path / "origin"
    (repository / "assets" / "orl_target").mkdir(parents=True)
    (repository / "assets" / "orl_target" / "model_index.json").touch()
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["add", "."], [*author, "commit", "-q", "-m", "all"]):
        subprocess.run(["git", *arguments], cwd=repository, check=True)
    (tmp_path / "content").mkdir()
    monkeypatch.chdir(tmp_path / "content")
    with pytest.raises(AssertionError, match="set REPOSITORY"):
        exec(first_cell(), {})
    exec(first_cell(f"file://{repository}"), {})
    assert (Path.cwd() / "assets" / "orl_target" / "model_index.json").exists()
    assert Path.cwd() == tmp_path / "content" / "side_jax"
