import jax
import jax.numpy as jnp
import numpy as np

from side_jax.diffusion.process import Level, Process

PROCESS = Process(np.array([1.0, 0.64, 0.36, 0.0], np.float32))  # α: 1, .8, .6, 0; σ: 0, .6, .8, 1


def test_alpha_and_sigma_of_each_image_are_ready_to_be_multiplied_with_images():
    alpha, sigma = PROCESS.at(jnp.array([1, 2, 1]))
    assert alpha.shape == sigma.shape == (3, 1, 1, 1)
    np.testing.assert_allclose(alpha.ravel(), [0.8, 0.6, 0.8], rtol=1e-6)
    np.testing.assert_allclose(sigma.ravel(), [0.6, 0.8, 0.6], rtol=1e-6)


def test_ends_of_the_process_are_exact():
    alpha, sigma = PROCESS.at(jnp.array([0, 3]))
    np.testing.assert_array_equal(alpha.ravel(), [1, 0])
    np.testing.assert_array_equal(sigma.ravel(), [0, 1])


def test_added_noise_by_hand():
    """.6 · 2 − .8 = .4; with ᾱ = 1 the image itself, with ᾱ = 0 the noise itself."""
    x0, eps = jnp.full((3, 1, 1, 1), 2.0), jnp.full((3, 1, 1, 1), -1.0)
    x_t = PROCESS.add_noise(x0, eps, jnp.array([2, 0, 3]))
    np.testing.assert_allclose(x_t.ravel(), [0.4, 2, -1], rtol=1e-6)


def test_level_has_alpha_and_sigma_of_its_alpha_bar():
    level = Level(np.int32(2), np.float32(0.36))
    np.testing.assert_allclose([level.alpha, level.sigma], [0.6, 0.8], rtol=1e-6)
    many = Level(np.arange(2), np.array([0.64, 0.36], np.float32))
    np.testing.assert_allclose(many.alpha**2 + many.sigma**2, 1, rtol=1e-6)


def test_process_may_be_traced():
    x0, eps, t = jnp.ones((1, 1, 1, 1)), jnp.ones((1, 1, 1, 1)), jnp.array([1])
    x_t = jax.jit(lambda process: process.add_noise(x0, eps, t))(PROCESS)
    np.testing.assert_allclose(x_t.item(), 1.4, rtol=1e-6)
