import numpy as np
import pytest

from side_jax.diffusion.sample import initial_noise, to_uint8
from side_jax.diffusion.solvers.ddim import DDIM
from side_jax.runtime.sharding import index_keys, stage_key
from side_jax.surrogate.exact import exact_guide
from side_jax.targets.path import denoising_path
from side_jax.targets.sampling import Sampler, Sampling
from tests.targets.test_steering import small_target

KEY = stage_key(0, "extract")
STEPS = 4


@pytest.fixture(scope="module")
def target():
    return small_target()


@pytest.fixture(scope="module")
def guide(target):
    images = np.random.default_rng(1).integers(0, 256, (6, *target.image_shape), np.uint8)
    return exact_guide(target, images, np.arange(6, dtype=np.int32) % 3)


@pytest.mark.parametrize("eta", [0.0, 0.5])
@pytest.mark.parametrize("scale", [0.0, 2.0])
def test_path_ends_with_the_image_of_the_sampler_from_its_noise(target, guide, scale, eta):
    def sampler(size):
        return Sampler(target, KEY, Sampling(STEPS, DDIM(eta), precision="float32", batch_size=size), guide)

    path = denoising_path(sampler(1), 5, scale)
    images = np.concatenate([images for _, images in sampler(4)(np.arange(8), scale)])
    assert np.abs(path.image.astype(int) - images[5]).max() <= 1
    assert path.label == sampler(1).draw(np.array([5]), scale)[0]
    noise = to_uint8(initial_noise(index_keys(KEY, [5]), target.image_shape))[0]
    np.testing.assert_array_equal(path.x_t[0], noise)
    assert path.x_t.shape == path.x0.shape == (STEPS, *target.image_shape)
    np.testing.assert_array_equal(path.timesteps, target.schedule.ddim_timesteps(STEPS))
    if eta == 0:  # the last step leads to x̂₀ itself
        assert np.abs(path.x0[-1].astype(int) - path.image).max() <= 1


def test_program_of_the_sweep_does_not_know_of_the_path(target):
    """What is kept of each step is not in the sampler's program: it has one result of one image's size."""
    sampler = Sampler(target, KEY, Sampling(STEPS, precision="float32", batch_size=2))
    text = sampler.lower(2, 0.0).compile().as_text()
    height, width, channels = target.image_shape
    assert f"f32[2,{height},{width},{channels}]" in text
    assert f"f32[{STEPS},2,{height},{width},{channels}]" not in text
