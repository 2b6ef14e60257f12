import jax
import jax.numpy as jnp
import numpy as np
import pytest

from side_jax.diffusion.prediction import Prediction, from_eps, from_x0
from side_jax.diffusion.sample import initial_noise, sample, to_float, to_uint8, trajectory
from side_jax.diffusion.schedule import Schedule
from side_jax.diffusion.solvers.ddim import DDIM
from side_jax.diffusion.transforms import clip
from side_jax.runtime.sharding import index_keys

SHAPE = (4, 4, 1)
PROCESS = Schedule().process()
IMAGE = jnp.linspace(-0.9, 0.9, 16).reshape(1, *SHAPE)


def keys(*indices, seed=0):
    return index_keys(jax.random.key(seed), np.array(indices or (0,)))


def knows(x_t, t):
    """The perfect denoiser of the only image there is."""
    return from_x0(jnp.broadcast_to(IMAGE, x_t.shape), x_t, *PROCESS.at(t))


def silent(x_t, t):
    """Predicts no noise."""
    return from_eps(jnp.zeros_like(x_t), x_t, *PROCESS.at(t))


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_perfect_denoiser_gives_the_only_image_there_is(eta):
    """With one training image x*, ε(x_t, t) = (x_t − √ᾱ x*)/√(1−ᾱ) is exact, and every sample is x*."""

    def by_eps(x_t, t):
        return from_eps(knows(x_t, t).eps, x_t, *PROCESS.at(t))

    for denoise in (by_eps, clip(by_eps, 1.0), knows):
        x = sample(denoise, DDIM(eta), keys(), SHAPE, Schedule().steps(20))
        np.testing.assert_allclose(x, IMAGE, atol=1e-4)


def test_one_program_serves_every_schedule():
    traced = []

    def denoise(x_t, t):
        traced.append(t)
        return Prediction(x_t, x_t)

    program = jax.jit(lambda keys, steps: sample(denoise, DDIM(), keys, SHAPE, steps))
    program(keys(), Schedule().steps(5))
    once = len(traced)
    program(keys(), Schedule(timestep_spacing="trailing", beta_schedule="scaled_linear").steps(5))
    assert len(traced) == once


def test_network_is_called_once_a_step_with_the_timestep_of_every_image():
    seen = []

    def denoise(x_t, t):
        jax.debug.callback(lambda t: seen.append(t.tolist()), t, ordered=True)
        return silent(x_t, t)

    sample(denoise, DDIM(), keys(0, 1), SHAPE, Schedule().steps(4))
    jax.effects_barrier()
    assert seen == [[750, 750], [500, 500], [250, 250], [0, 0]]


def test_noise_of_an_image_is_its_keys():
    """With zero predicted noise and no clipping one step only rescales the initial noise."""
    x = sample(silent, DDIM(), keys(5, 3, seed=7), SHAPE, Schedule().steps(1))
    for i, index in enumerate((5, 3)):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(7), index), 0)
        np.testing.assert_allclose(x[i], jax.random.normal(key, SHAPE) / jnp.sqrt(PROCESS.alpha_bar[0]), rtol=1e-5)


def test_ancestral_noise_is_fresh_in_every_step_and_from_the_images_own_key():
    """A target that says x̂₀ = ε̂ = 0 leaves the σ z of the last step alone: by hand from the keys."""
    steps = jax.tree.map(lambda level: level[:2], Schedule().steps(3))  # 666 -> 333 -> 0

    def nothing(x_t, t):
        return Prediction(jnp.zeros_like(x_t), jnp.zeros_like(x_t))

    for count in (1, 2):
        taken = jax.tree.map(lambda level: level[:count], steps)  # noqa: B023
        x = sample(nothing, DDIM(1.0), keys(5, 3, seed=7), SHAPE, taken)
        a_t, a_s = (np.float64(level.alpha_bar[count - 1]) for level in taken)
        sigma = np.sqrt((1 - a_s) / (1 - a_t) * (1 - a_t / a_s))
        for i, index in enumerate((5, 3)):
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(7), index), count)
            np.testing.assert_allclose(x[i], sigma * jax.random.normal(key, SHAPE), rtol=1e-4)


def test_trajectory_begins_with_the_noise_and_ends_with_the_sample():
    steps = Schedule().steps(10)
    path = trajectory(silent, DDIM(), initial_noise(keys(2, 4), SHAPE), steps)
    assert path.shape == (11, 2, *SHAPE)
    np.testing.assert_array_equal(path[0], initial_noise(keys(2, 4), SHAPE))
    np.testing.assert_allclose(path[-1], sample(silent, DDIM(), keys(2, 4), SHAPE, steps), rtol=1e-6)


def test_trajectory_of_a_solver_that_draws_noise_is_refused():
    with pytest.raises(ValueError, match=r"trajectory needs a deterministic solver, got DDIM\(eta=1.0\)"):
        trajectory(silent, DDIM(1.0), jnp.zeros((1, *SHAPE)), Schedule().steps(2))


def test_uint8_and_back():
    levels = jnp.arange(256, dtype=jnp.uint8)
    np.testing.assert_array_equal(to_uint8(to_float(levels)), levels)
    np.testing.assert_array_equal(to_uint8(jnp.array([-3.0, 3.0])), [0, 255])
