import jax.numpy as jnp
import numpy as np
import pytest

from side_jax.diffusion.prediction import Prediction, from_eps
from side_jax.diffusion.process import Level
from side_jax.diffusion.solvers import Solver
from side_jax.diffusion.solvers.ddim import DDIM

T, S = Level(np.int32(2), np.float32(0.36)), Level(np.int32(1), np.float32(0.64))


def one(value):
    return jnp.full((1, 1, 1, 1), value, jnp.float32)


def step(prediction, t=T, s=S, eta=0.0, z=None):
    """x_s; x_t itself is not used."""
    x_s, state = DDIM(eta).step(None, one(np.nan), prediction, t, s, z)
    assert state is None
    return x_s.item()


def test_ddim_is_a_solver_and_hashable():
    assert isinstance(DDIM(), Solver)
    assert len({DDIM(), DDIM(0.0), DDIM(1.0)}) == 2


def test_one_step_by_hand():
    """ᾱ_t = .36, ᾱ_s = .64, x_t = 1, ε̂ = .5: x̂₀ = (1 − .8 · .5)/.6 = 1, x_s = .8 · 1 + .6 · .5 = 1.1."""
    x_t = one(1)
    np.testing.assert_allclose(step(from_eps(one(0.5), x_t, T.alpha, T.sigma)), 1.1, rtol=1e-6)


def test_step_takes_x0_and_eps_as_they_are():
    """Also where they do not add up to x_t, as after clipping: .8 · 2 + .6 · .5."""
    np.testing.assert_allclose(step(Prediction(one(2), one(0.5))), 1.9, rtol=1e-6)


def test_last_step_gives_x0():
    assert step(Prediction(one(0.3), one(5)), s=Level(np.int32(-1), np.float32(1))) == np.float32(0.3)


def test_eta_one_has_the_ancestral_variance_by_hand():
    """σ² = (1 − .64)/(1 − .36) · (1 − .36/.64) = .24609."""
    found = step(Prediction(one(1), one(0.5)), eta=1.0, z=one(2))
    variance = 0.36 / 0.64 * (1 - 0.36 / 0.64)
    np.testing.assert_allclose(found, 0.8 + np.sqrt(0.36 - variance) * 0.5 + np.sqrt(variance) * 2, rtol=1e-5)


@pytest.mark.parametrize(("eta", "draws"), [(0.0, False), (0.1, True), (1.0, True)])
def test_noise_is_drawn_with_eta_above_zero(eta, draws):
    assert DDIM(eta).draws_noise == draws


@pytest.mark.parametrize("alpha_bar", [1e-8, 0.0])
def test_ancestral_noise_stays_finite_when_alpha_bar_is_nothing_or_next_to_it(alpha_bar):
    """With ᾱ_t = 1e-8 rounding leaves 1 − ᾱ_s − σ² below 0."""
    t = Level(np.int32(999), np.float32(alpha_bar))
    for after in np.linspace(0.01, 0.999, 200, dtype=np.float32):
        assert np.isfinite(step(Prediction(one(1), one(1)), t, Level(np.int32(998), after), eta=1.0, z=one(1)))


def test_step_from_noise_alone_by_hand():
    """Zero terminal SNR, v = −.5: x̂₀ = .5, ε̂ = x_t = 2, x_s = .8 · .5 + .6 · 2."""
    found = step(Prediction(one(0.5), one(2)), Level(np.int32(999), np.float32(0)))
    np.testing.assert_allclose(found, 1.6, rtol=1e-6)
