import os
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Subprocesses (the command line, killed runs) compile the same programs again and again.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(tempfile.gettempdir(), "side_jax_test_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")

import jax
import numpy as np
import pytest
from jaxtyping import install_import_hook

# Shapes and types of every call in the mathematics are checked.
install_import_hook(
    [
        *("side_jax.diffusion", "side_jax.extraction", "side_jax.evidence", "side_jax.surrogate.distill"),
        *("side_jax.representation.membership", "side_jax.representation.spikiness"),
        *("side_jax.theory.informative_labels", "side_jax.theory.memorization", "side_jax.theory.relu_dae"),
        "side_jax.theory.relu_dae_solutions",
    ],
    "beartype.beartype",
)

from side_jax.images import ImageSet, content_hash


@pytest.fixture(autouse=True)
def strict(request):
    """What would silently widen a dtype or broadcast a rank is an error (DESIGN §9).

    Tests that run an optimizer are marked `optax`: its Adam raises a float to an integer power.
    """
    promotion = "standard" if request.node.get_closest_marker("optax") else "strict"
    with jax.numpy_dtype_promotion(promotion), jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture
def image_set():
    """Makes an ImageSet of random images: (count, classes, size, channels)."""

    def make(count=12, classes=3, size=8, channels=1, seed=0):
        images = np.random.default_rng(seed).integers(0, 256, (count, size, size, channels), np.uint8)
        ids = tuple(f"c{i % classes}/{i}.png" for i in range(count))
        hashes = tuple(content_hash(image) for image in images)
        labels = np.arange(count, dtype=np.int32) % classes
        return ImageSet(images, labels, ids, hashes, tuple(f"c{k}" for k in range(classes)))

    return make
