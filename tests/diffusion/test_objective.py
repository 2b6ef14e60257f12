import jax
import jax.numpy as jnp
import numpy as np
import pytest

from side_jax.diffusion.objective import ddpm_loss, sample_timesteps
from side_jax.diffusion.schedule import Schedule
from side_jax.runtime.training import ema_decay
from tests.golden.ours import GOLDEN, difference


def test_predicting_nothing_costs_the_variance_of_the_noise():
    loss = ddpm_loss(
        lambda x, t: jnp.zeros_like(x),
        jax.random.key(0),
        jnp.zeros((64, 16, 16, 1)),
        Schedule().process(),
    )
    assert float(loss) == pytest.approx(1, abs=0.03)


def test_perfect_prediction_costs_nothing():
    process = Schedule().process()
    x0 = jnp.full((8, 4, 4, 1), 0.3)

    def eps_fn(x_t, t):
        alpha, sigma = process.at(t)
        return (x_t - alpha * x0) / sigma

    assert float(ddpm_loss(eps_fn, jax.random.key(1), x0, process)) < 1e-6


def test_timesteps_cover_the_whole_schedule():
    t = np.asarray(sample_timesteps(jax.random.key(0), 20_000, 10))
    np.testing.assert_array_equal(np.unique(t), np.arange(10))
    assert np.bincount(t).std() < 100


def test_ema_decay_as_diffusers_has_it():
    """1 − (1 + step)^−0.75: 0, .40539, .83 …, up to the maximum."""
    steps = jnp.array([0, 1, 10, 10**7])
    np.testing.assert_allclose(ema_decay(steps, 0.75, 0.9999), [0, 1 - 2**-0.75, 1 - 11**-0.75, 0.9999], rtol=1e-6)


def test_ema_decay_equals_diffusers_ema_model():
    golden = np.load(GOLDEN / "train.npz")
    steps = jnp.arange(len(golden["decays"])) * int(golden["every"])
    assert difference(ema_decay(steps, 0.75, 0.9999), golden["decays"]) <= 1e-6
