"""The folders are the flow, and an arrow points down it only (DESIGN §2)."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# theory stands above what it tests: it takes intervals from evidence, and networks from targets.
FOLDERS = ("audit", "report", "theory", "evidence", "inside", "matching", "surrogate", "targets", "diffusion", "data")
FOLDERS += ("runtime",)


def modules():
    files = {file.relative_to(ROOT).with_suffix("") for file in (ROOT / "side_jax").rglob("*.py")}
    return {".".join(file.parts).removesuffix(".__init__"): ROOT / file.with_suffix(".py") for file in files}


def imports(file):
    """What a module imports when it is imported or used, but not what only a type checker reads."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    guarded = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    unread = {id(inner) for node in guarded for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in unread and (node.module or "").startswith("side_jax"):
            for alias in node.names:
                longer = f"{node.module}.{alias.name}"
                yield longer if longer in modules() else node.module


@pytest.fixture(scope="module")
def arrows():
    return {name: set(imports(file)) for name, file in modules().items()}


def test_no_module_lies_loose():
    loose = {file.name for file in (ROOT / "side_jax").glob("*.py")}
    assert loose == {"__init__.py", "__main__.py"}  # the second is `python -m side_jax`
    assert {file.parent.name for file in (ROOT / "side_jax").glob("*/*.py")} == set(FOLDERS)


def test_arrows_point_down(arrows):
    height = {folder: -i for i, folder in enumerate(FOLDERS)}
    loose = ("side_jax", "side_jax.__main__")
    folders = [(a, b) for a, found in arrows.items() for b in found if a not in loose and b not in loose]
    assert not [(a, b) for a, b in folders if height[a.split(".")[1]] < height[b.split(".")[1]]]


def test_no_arrows_form_a_cycle(arrows):
    done = set()

    def visit(name, path):
        assert name not in path, (*path, name)
        if name not in done:
            for other in arrows.get(name, ()):
                visit(other, (*path, name))
            done.add(name)

    for name in arrows:
        visit(name, ())
