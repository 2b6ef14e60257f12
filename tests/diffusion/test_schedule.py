import jax.numpy as jnp
import numpy as np
import pytest

from side_jax.diffusion.schedule import Schedule, add_noise


def test_alpha_bar_by_hand():
    alpha_bar = Schedule(num_train_timesteps=3, beta_start=0.1, beta_end=0.3).alpha_bar()
    np.testing.assert_allclose(alpha_bar, [0.9, 0.9 * 0.8, 0.9 * 0.8 * 0.7], rtol=1e-6)
    assert alpha_bar.dtype == np.float32


def test_default_is_the_papers_schedule():
    alpha_bar = Schedule().alpha_bar()
    assert alpha_bar[0] == pytest.approx(0.9999, abs=1e-7)
    assert alpha_bar[-1] == pytest.approx(4.0358e-5, rel=1e-4)


def test_leading_timesteps():
    np.testing.assert_array_equal(Schedule().ddim_timesteps(50), np.arange(980, -1, -20))
    np.testing.assert_array_equal(Schedule(num_train_timesteps=10).ddim_timesteps(3), [6, 3, 0])
    np.testing.assert_array_equal(Schedule(num_train_timesteps=10, steps_offset=1).ddim_timesteps(2), [6, 1])


def test_noise_keeps_the_variance_by_hand():
    x0, eps = jnp.full((2, 1, 1, 1), 2.0), jnp.full((2, 1, 1, 1), -1.0)
    x_t = add_noise(x0, eps, jnp.array([0.36, 1.0]))
    np.testing.assert_allclose(x_t.ravel(), [0.6 * 2 - 0.8, 2.0], rtol=1e-6)


@pytest.mark.parametrize("num_steps", [0, 1001])
def test_num_steps_out_of_range_is_named(num_steps):
    with pytest.raises(ValueError, match=f"num_steps must be 1 to 1000, got {num_steps}"):
        Schedule().ddim_timesteps(num_steps)


def test_unordered_betas_are_refused():
    with pytest.raises(ValueError, match="beta_start <= beta_end"):
        Schedule(beta_start=0.1, beta_end=0.01)
