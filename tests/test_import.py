import subprocess
import sys

import pytest

import side_jax


def test_import_is_light():
    """No TensorFlow, matplotlib, sklearn or Orbax before they are used."""
    script = "import side_jax, sys; from side_jax import sample, match, run; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "jax" in loaded
    assert not loaded & {
        "tensorflow",
        "tensorflow_datasets",
        "matplotlib",
        "sklearn",
        "orbax",
        "clu",
        "pandas",
        "torch",
    }


def test_every_public_name_is_documented():
    for name in side_jax.__all__:
        assert getattr(side_jax, name).__doc__, name


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'sampel'"):
        side_jax.sampel  # noqa: B018


@pytest.mark.given(kind=13, input="`dir(side_jax)`", before="shows no public name", now="shows every one")
def test_public_names_are_listed():
    assert set(side_jax.__all__) <= set(dir(side_jax))
