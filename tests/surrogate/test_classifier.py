import jax
import numpy as np
import pytest
from etils import epath
from orbax.checkpoint import multihost
from safetensors.numpy import load_file

from side_jax.runtime import distributed
from side_jax.runtime.files import AuditError
from side_jax.surrogate import classifier
from side_jax.surrogate.classifier import load_variables, save_variables
from side_jax.surrogate.stored import load_classifier

VARIABLES = {
    "params": {"conv1": {"kernel": np.arange(6, dtype=np.float32).reshape(3, 2)}, "bias": np.float32(0.5)},
    "batch_stats": {"bn1": {"mean": np.zeros(2, np.float32)}},
}


@pytest.fixture
def folder(tmp_path):
    save_variables(epath.Path(tmp_path) / "classifier", VARIABLES)
    return epath.Path(tmp_path) / "classifier"


def never(*arguments, **options):
    raise AssertionError("waits for the other processes")


@pytest.fixture
def one_of_two(monkeypatch):
    """The primary of two processes, of which the other never comes."""
    monkeypatch.setattr(jax, "process_count", lambda *_: 2)
    monkeypatch.setattr(multihost, "sync_global_processes", never)


def test_variables_are_read_back_as_they_were(folder):
    found = load_variables(folder)
    assert jax.tree.structure(found) == jax.tree.structure(VARIABLES)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(VARIABLES), strict=True):
        np.testing.assert_array_equal(ours, theirs, strict=True)


def test_variables_are_one_safetensors_file_named_by_their_paths(folder):
    assert [path.name for path in folder.iterdir()] == ["variables.safetensors"]
    arrays = load_file(folder / "variables.safetensors")
    assert arrays.keys() == {"params/conv1/kernel", "params/bias", "batch_stats/bn1/mean"}


def test_one_process_reads_variables_without_the_others(folder, one_of_two):
    assert load_variables(folder)["params"]["bias"] == np.float32(0.5)


@pytest.mark.parametrize(("process", "writes"), [(0, 1), (1, 0)])
def test_one_process_writes_variables_and_all_wait_for_it(tmp_path, monkeypatch, process, writes):
    written, waited = [], []
    monkeypatch.setattr(jax, "process_index", lambda *_: process)
    monkeypatch.setattr(classifier, "write_bytes", lambda path, _: written.append(path))
    monkeypatch.setattr(distributed, "barrier", waited.append)
    save_variables(epath.Path(tmp_path) / "teacher", VARIABLES)
    assert (len(written), waited) == (writes, ["teacher: variables"])


@pytest.mark.parametrize("damage", ["missing", "truncated", "not safetensors"])
def test_variables_that_cannot_be_read_are_one_line(folder, damage):
    file = folder / "variables.safetensors"
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-4] if damage == "truncated" else b"x" * 100)
    with pytest.raises(AuditError, match=r"variables.safetensors cannot be read \(.*\); remove its folder") as error:
        load_variables(folder)
    assert "\n" not in str(error.value)


def test_workdir_without_a_classifier_is_named(tmp_path):
    with pytest.raises(ValueError, match="holds no finished classifier; run the stages up to distill first"):
        load_classifier(tmp_path)
