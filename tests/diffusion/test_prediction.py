import jax
import jax.numpy as jnp
import numpy as np
import pytest

from side_jax.diffusion.prediction import FROM, to_prediction
from side_jax.diffusion.process import Process
from side_jax.diffusion.schedule import Schedule

SHAPE = (3, 2, 2, 1)
PROCESS, T = Process(np.array([0.99, 0.36, 0.01], np.float32)), jnp.arange(3)


def one(value):
    return jnp.full((1, 1, 1, 1), value, jnp.float32)


@pytest.fixture
def noisy():
    x0, eps = (jax.random.normal(jax.random.key(i), SHAPE) for i in range(2))
    return x0, eps, PROCESS.add_noise(x0, eps, T)


@pytest.mark.parametrize(
    ("prediction_type", "output", "x0", "eps"),
    [
        ("epsilon", 0.5, 1.0, 0.5),  # x̂₀ = (1 − .8 · .5) / .6
        ("sample", 0.5, 0.5, 0.875),  # ε̂ = (1 − .6 · .5) / .8
        ("v_prediction", 0.5, 0.2, 1.1),  # x̂₀ = .6 − .8 · .5, ε̂ = .6 · .5 + .8
    ],
)
def test_prediction_by_hand(prediction_type, output, x0, eps):
    """x_t = 1, α = .6, σ = .8, and .6 x̂₀ + .8 ε̂ = 1 each time."""
    found = to_prediction(one(output), one(1), one(0.6), one(0.8), prediction_type)
    np.testing.assert_allclose([found.x0.item(), found.eps.item()], [x0, eps], rtol=1e-6)
    np.testing.assert_allclose(0.6 * found.x0.item() + 0.8 * found.eps.item(), 1, rtol=1e-6)


def test_every_prediction_of_the_same_image_is_the_same_image_and_noise(noisy):
    x0, eps, x_t = noisy
    alpha, sigma = PROCESS.at(T)
    outputs = {"epsilon": eps, "v_prediction": alpha * eps - sigma * x0, "sample": x0}
    assert outputs.keys() == FROM.keys()
    for prediction_type, output in outputs.items():
        found = to_prediction(output, x_t, alpha, sigma, prediction_type)
        np.testing.assert_allclose(found.x0, x0, atol=2e-5)
        np.testing.assert_allclose(found.eps, eps, atol=1e-5)


def test_every_schedule_names_a_known_prediction():
    for prediction_type in FROM:
        assert Schedule(prediction_type=prediction_type).prediction_type == prediction_type


def test_learned_variance_is_left_out(noisy):
    _, eps, x_t = noisy
    output = jnp.concatenate([eps, jnp.full(SHAPE, 7.0)], axis=-1)
    found = to_prediction(output, x_t, *PROCESS.at(T), "epsilon")
    np.testing.assert_array_equal(found.eps, eps)
    assert found.x0.shape == SHAPE


@pytest.mark.parametrize(("prediction_type", "sign"), [("v_prediction", -1), ("sample", 1)])
def test_zero_terminal_snr_is_exact(prediction_type, sign):
    """ᾱ = 0: x_t is the noise, x̂₀ = −v or what was predicted outright, ε̂ = x_t; to the last bit."""
    output, x_t = (jax.random.normal(jax.random.key(i), SHAPE) for i in range(2))
    process = Process(np.zeros(1, np.float32))
    found = to_prediction(output, x_t, *process.at(jnp.zeros(3, jnp.int32)), prediction_type)
    np.testing.assert_array_equal(found.x0, sign * output)
    np.testing.assert_array_equal(found.eps, x_t)
