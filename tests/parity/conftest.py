"""Live comparison with torch and diffusers, `make parity`: in one process, with other seeds than the golden files'."""

import importlib.util
import warnings
from collections import defaultdict

import pytest

from tests.golden.ours import difference

MISSING = [name for name in ("torch", "diffusers") if importlib.util.find_spec(name) is None]
ROWS = pytest.StashKey()

if not MISSING:
    with warnings.catch_warnings():  # of their own imports
        warnings.simplefilter("ignore")
        import diffusers  # noqa: F401
        import torch  # noqa: F401


def pytest_ignore_collect(collection_path, config):
    """Without torch there is nothing here to run, nor even to import."""
    if MISSING and config.option.markexpr == "parity":
        raise pytest.UsageError(f"{' and '.join(MISSING)} not installed; run `make parity`")
    return True if MISSING else None


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/parity/" in item.nodeid:
            item.add_marker("parity")
            item.add_marker(pytest.mark.filterwarnings("ignore:::(torch|diffusers|huggingface_hub)"))


def pytest_configure(config):
    config.stash[ROWS] = defaultdict(list)


@pytest.fixture
def compare(request):
    """compare(what, configuration, ours, theirs, bound): asserts the bound, and leaves a row for the table."""

    def check(what, configuration, ours, theirs, bound):
        found = difference(ours, theirs)
        request.config.stash[ROWS][what, bound].append((configuration, found))
        assert found <= bound, f"{what}, {configuration}: {found:.2g} is above {bound:g}"

    return check


def pytest_terminal_summary(terminalreporter, config):
    rows = config.stash[ROWS]
    if not rows:
        return
    terminalreporter.section("parity: largest absolute difference")
    width = max(len(what) for what, _ in rows)
    for (what, bound), found in rows.items():
        names = ", ".join(dict.fromkeys(configuration for configuration, _ in found))
        largest = max(value for _, value in found)
        terminalreporter.write_line(f"{what:<{width}}  {largest:8.1e}  <= {bound:7.0e}  {len(found):2d}: {names}")
