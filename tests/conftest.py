import os
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# For subprocesses (the command line, killed runs), which compile the same programs again and again.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(tempfile.gettempdir(), "side_jax_test_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
# Most of the suite's time is compilation. `make test-all` compiles as users do.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax
import numpy as np
import pytest

# What would silently broadcast a rank is an error (DESIGN §9). For fixtures too: a program is compiled anew for another
# value of this.
jax.config.update("jax_numpy_rank_promotion", "raise")
# Not here: XLA's CPU backend has crashed, and hung, while it loaded what another process had compiled.
jax.config.update("jax_enable_compilation_cache", False)

from jaxtyping import install_import_hook

# Shapes and types of every call in the mathematics are checked.
install_import_hook(
    [
        *("side_jax.diffusion", "side_jax.matching", "side_jax.evidence", "side_jax.surrogate.distill"),
        *("side_jax.inside.membership", "side_jax.inside.spikiness"),
        *("side_jax.theory.informative_labels", "side_jax.theory.memorization", "side_jax.theory.relu_dae"),
        "side_jax.theory.relu_dae_solutions",
    ],
    "beartype.beartype",
)

from side_jax.data.images import ImageSet


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items):
    """Tests of a file run in one process; those that read the smoke run all in one, so that it is made once."""
    for item in items:
        group = "smoke" if "finished_smoke" in item.fixturenames else item.path.stem
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(autouse=True)
def strict(request):
    """What would silently widen a dtype is an error (DESIGN §9).

    Tests that run an optimizer are marked `optax`: its Adam raises a float to an integer power.
    """
    promotion = "standard" if request.node.get_closest_marker("optax") else "strict"
    with jax.numpy_dtype_promotion(promotion):
        yield


@pytest.fixture
def image_set():
    """Makes an ImageSet of random images: (count, classes, size, channels)."""

    def make(count=12, classes=3, size=8, channels=1, seed=0):
        images = np.random.default_rng(seed).integers(0, 256, (count, size, size, channels), np.uint8)
        ids = tuple(f"c{i % classes}/{i}.png" for i in range(count))
        labels = np.arange(count, dtype=np.int32) % classes
        return ImageSet(images, labels, ids, tuple(f"c{k}" for k in range(classes)))

    return make


@pytest.fixture(scope="session")
def finished_smoke(tmp_path_factory):
    """The workdir of a finished run of configs/smoke.py. Read only."""
    from configs import smoke
    from side_jax.audit import pipeline

    return pipeline.run(smoke.get_config(), tmp_path_factory.mktemp("runs") / "smoke")
