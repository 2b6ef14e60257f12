import jax
import jax.numpy as jnp
import numpy as np
import pytest
from side_jax.diffusion.ddim import ddim_step

from side_jax.diffusion.prediction import to_eps
from side_jax.diffusion.schedule import MIN_ALPHA_BAR, add_noise

SHAPE = (3, 2, 2, 1)
ALPHA_BAR = jnp.array([0.99, 0.36, 0.01])


@pytest.fixture
def noisy():
    x0, eps = (jax.random.normal(jax.random.key(i), SHAPE) for i in range(2))
    return x0, eps, add_noise(x0, eps, ALPHA_BAR)


def test_every_prediction_of_the_same_image_is_the_same_noise(noisy):
    x0, eps, x_t = noisy
    a = ALPHA_BAR.reshape(-1, 1, 1, 1)
    outputs = {"epsilon": eps, "v_prediction": jnp.sqrt(a) * eps - jnp.sqrt(1 - a) * x0, "sample": x0}
    for prediction_type, output in outputs.items():
        np.testing.assert_allclose(to_eps(output, x_t, ALPHA_BAR, prediction_type), eps, atol=1e-5)


def test_learned_variance_is_left_out(noisy):
    _, eps, x_t = noisy
    output = jnp.concatenate([eps, jnp.full(SHAPE, 7.0)], axis=-1)
    np.testing.assert_array_equal(to_eps(output, x_t, ALPHA_BAR, "epsilon"), eps)


@pytest.mark.parametrize("prediction_type", ["v_prediction", "sample"])
def test_zero_terminal_snr_recovers_x0_through_eps(prediction_type):
    """With ᾱ_T = 0, v = −x₀. Flooring ᾱ_T costs this one step about 1e-3."""
    x0, x_t = (jax.random.normal(jax.random.key(i), SHAPE) for i in range(2))
    a_t = jnp.full((3,), MIN_ALPHA_BAR)
    eps_hat = to_eps(-x0 if prediction_type == "v_prediction" else x0, x_t, a_t, prediction_type)
    np.testing.assert_allclose(eps_hat, x_t, atol=1e-3)
    clean = ddim_step(x_t, eps_hat, a_t[0], jnp.float32(1), clip_x0=None)
    np.testing.assert_allclose(clean, x0, atol=2e-3)
