"""The examples in the docstrings of the public API, run from the checkout as users would."""

import doctest
import inspect
from pathlib import Path

import pytest

import side_jax

ROOT = Path(__file__).parents[1]
FUNCTIONS = [name for name in side_jax.__all__ if inspect.isfunction(getattr(side_jax, name))]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_example_runs_and_prints_what_it_says(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    (example,) = doctest.DocTestFinder(recurse=False).find(getattr(side_jax, name), name, globs={})
    assert example.examples, f"{name} has no example"
    output = []
    failed, _ = doctest.DocTestRunner(verbose=False).run(example, out=output.append)
    assert not failed, "".join(output)
