"""Where a workdir may be."""

import os

import pytest
from etils import epath

from side_jax.runtime.files import check_workdir


@pytest.mark.given(
    kind=13,
    input="`--workdir=runs/orl` on a fresh clone",
    before="fails since runs/ is missing",
    now="missing parents inside the current folder are no error",
)
def test_missing_parents_below_the_current_folder_are_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_workdir(epath.Path("runs/orl"))
    check_workdir(epath.Path(tmp_path) / "runs" / "orl")
    assert list(tmp_path.iterdir()) == []


def test_missing_parents_elsewhere_are_a_mistake(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    check_workdir(epath.Path("../run"))
    for path in ("../runs/orl", tmp_path / "runs" / "orl"):
        with pytest.raises(ValueError, match=r"its parent folder does not exist; create it"):
            check_workdir(epath.Path(path))


def test_a_file_is_no_workdir_and_no_parent_of_one(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(ValueError, match="/file is a file"):
            check_workdir(epath.Path(path))


@pytest.mark.given(
    kind=9,
    input="a workdir that cannot be written",
    before="noticed after all images are read",
    now='refused: "cannot be written"',
)
def test_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(ValueError, match="cannot be written"):
        check_workdir(epath.Path(tmp_path) / "run")
