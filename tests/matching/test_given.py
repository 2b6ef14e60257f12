"""Given images in the place of a sampler."""

import numpy as np

from side_jax.data.generated import load_generated
from side_jax.data.preparation import Recipe
from side_jax.matching.given import GivenImages
from side_jax.runtime.sharding import local_mesh


def test_batches_are_the_images_by_index_and_the_last_is_filled_up(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1), np.uint8)
    np.savez(tmp_path / "a.npz", images=images)
    mapped = load_generated("samples", tmp_path / "a.npz", 4, 1, Recipe()).images
    for source in (images, mapped):
        given = GivenImages({0.0: source}, local_mesh())
        given.batch_size = 4
        batch = given.batch(np.arange(4, 8, dtype=np.uint32), 0.0)
        np.testing.assert_array_equal(batch.images, images[[4, 4, 4, 4]])
        np.testing.assert_array_equal(given.batch(np.arange(4), 0.0).images, images[:4])
        assert (given.draw(np.arange(3), 0.0) == -1).all()


def test_abstract_batch_has_the_shape_of_a_batch():
    given = GivenImages({2.0: np.zeros((5, 4, 4, 3), np.uint8)}, local_mesh())
    abstract, real = given.abstract_batch(2, 2.0).images, given.batch(np.arange(2), 2.0).images
    assert (abstract.shape, abstract.dtype, abstract.sharding) == (real.shape, real.dtype, real.sharding)
