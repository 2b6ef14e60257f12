import jax
import jax.numpy as jnp
import numpy as np
import pytest
from side_jax.diffusion.ddim import ddim_sample, ddim_step, to_float, to_uint8

from side_jax.diffusion.schedule import MIN_ALPHA_BAR, Schedule
from side_jax.sharding import index_keys

SHAPE = (4, 4, 1)


def test_one_step_by_hand():
    """a_t = .36, a_prev = .64, x_t = 1, ε̂ = .5: x̂₀ = (1 − .8·.5)/.6 = 1, x_prev = .8·1 + .6·.5 = 1.1."""
    x = jnp.ones((1, 1, 1, 1))
    step = ddim_step(x, 0.5 * x, jnp.float32(0.36), jnp.float32(0.64), clip_x0=None)
    np.testing.assert_allclose(step.item(), 1.1, rtol=1e-6)


def test_clipping_changes_x0_and_not_eps_by_hand():
    """x_t = 2: x̂₀ = (2 − .4)/.6 = 2.67, clipped to 1; the same ε̂ = .5 again."""
    x = jnp.full((1, 1, 1, 1), 2.0)
    step = ddim_step(x, jnp.full_like(x, 0.5), jnp.float32(0.36), jnp.float32(0.64))
    np.testing.assert_allclose(step.item(), 0.8 * 1 + 0.6 * 0.5, rtol=1e-6)


def test_clipping_range_by_hand():
    """The same x̂₀ = 2.67, clipped to 2."""
    x = jnp.full((1, 1, 1, 1), 2.0)
    step = ddim_step(x, jnp.full_like(x, 0.5), jnp.float32(0.36), jnp.float32(0.64), clip_x0=2.0)
    np.testing.assert_allclose(step.item(), 0.8 * 2 + 0.6 * 0.5, rtol=1e-6)


def test_eta_one_has_the_ancestral_variance_by_hand():
    """σ² = (1 − .64)/(1 − .36) · (1 − .36/.64) = .24609."""
    x, z = jnp.ones((1, 1, 1, 1)), jnp.full((1, 1, 1, 1), 2.0)
    step = ddim_step(x, 0.5 * x, jnp.float32(0.36), jnp.float32(0.64), eta=1.0, z=z, clip_x0=None)
    variance = 0.36 / 0.64 * (1 - 0.36 / 0.64)
    np.testing.assert_allclose(step.item(), 0.8 + np.sqrt(0.36 - variance) * 0.5 + np.sqrt(variance) * 2, rtol=1e-5)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_perfect_denoiser_gives_the_only_image_there_is(eta):
    """With one training image x*, ε(x_t, t) = (x_t − √ᾱ x*)/√(1−ᾱ) is exact, and every sample is x*."""
    alpha_bar = jnp.asarray(Schedule().alpha_bar())
    image = jnp.linspace(-0.9, 0.9, 16).reshape(1, *SHAPE)

    def eps_fn(x_t, t):
        a = alpha_bar[t].reshape(-1, 1, 1, 1)
        return (x_t - jnp.sqrt(a) * image) / jnp.sqrt(1 - a)

    keys = index_keys(jax.random.key(0), np.arange(1))
    x = ddim_sample(eps_fn, keys, SHAPE, Schedule().ddim_steps(20), eta)
    np.testing.assert_allclose(x, image, atol=1e-4)


def test_ancestral_noise_stays_finite_when_alpha_bar_is_next_to_nothing():
    """With ᾱ_t = 1e-8 rounding leaves 1 − ᾱ_{t−1} − σ² below 0."""
    x = jnp.ones((1, 1, 1, 1))
    for a_prev in np.linspace(0.01, 0.999, 200, dtype=np.float32):
        assert jnp.isfinite(ddim_step(x, x, jnp.float32(MIN_ALPHA_BAR), a_prev, eta=1.0, z=x)).all()


def test_one_program_serves_every_schedule():
    traced = []

    def eps_fn(x_t, t):
        traced.append(t)
        return x_t

    sample = jax.jit(lambda keys, steps: ddim_sample(eps_fn, keys, SHAPE, steps))
    keys = index_keys(jax.random.key(0), np.arange(1))
    sample(keys, Schedule().ddim_steps(5))
    once = len(traced)
    sample(keys, Schedule(timestep_spacing="trailing", beta_schedule="scaled_linear").ddim_steps(5))
    assert len(traced) == once


def test_noise_of_an_image_is_its_keys():
    """With zero predicted noise and no clipping one step only rescales the initial noise."""
    alpha_bar = jnp.asarray(Schedule().alpha_bar())
    keys = index_keys(jax.random.key(7), np.array([5, 3]))
    steps = Schedule().ddim_steps(1)
    x = ddim_sample(lambda x, t: jnp.zeros_like(x), keys, SHAPE, steps, clip_x0=None)
    for i, index in enumerate((5, 3)):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(7), index), 0)
        np.testing.assert_allclose(x[i], jax.random.normal(key, SHAPE) / jnp.sqrt(alpha_bar[0]), rtol=1e-5)


def test_uint8_and_back():
    levels = jnp.arange(256, dtype=jnp.uint8)
    np.testing.assert_array_equal(to_uint8(to_float(levels)), levels)
    np.testing.assert_array_equal(to_uint8(jnp.array([-3.0, 3.0])), [0, 255])
