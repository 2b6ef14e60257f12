import jax
import jax.numpy as jnp
import numpy as np
import pytest

from side_jax.diffusion.prediction import from_eps, from_x0
from side_jax.diffusion.process import Process
from side_jax.diffusion.schedule import Schedule
from side_jax.inside.membership import Attack, loss_score, pia_score, secmi_score

PROCESS = Process(jnp.array([1.0, 0.64, 0.36, 0.04], jnp.float32))  # α: 1, .8, .6, .2 and σ: 0, .6, .8, .98
T = jnp.array([2], jnp.int32)


def image(*values):
    return jnp.array(values, jnp.float32).reshape(1, 1, -1, 1)


def by_eps(eps_fn, process=PROCESS):
    """The target that predicts this noise."""
    return lambda x_t, t: from_eps(eps_fn(x_t, t), x_t, *process.at(t))


half = by_eps(lambda x_t, t: x_t / 2)


def test_loss_is_the_squared_error_of_the_noise():
    """x_t = .6 (1, −1) + .8 (.5, 0) = (1, −.6); ε − ε̂ = (0, .3); mean square .045."""
    score = loss_score(half, image(1, -1), image(0.5, 0), T, PROCESS)
    assert score == pytest.approx(-0.045, abs=1e-6)


def test_pia_compares_the_noise_seen_at_zero_with_that_at_t():
    """ε₀ = (.5, −.5); x_t = .6 (1, −1) + .8 ε₀ = (1, −1); difference ε₀ − x_t / 2 = 0. With ε̂ = x_t: ε₀ = (1, −1),
    x_t = (1.4, −1.4), difference (.4, −.4), 4-norm .4 · 2^¼."""
    assert pia_score(half, image(1, -1), T, PROCESS) == pytest.approx(0, abs=1e-6)
    score = pia_score(by_eps(lambda x_t, t: x_t), image(1, -1), T, PROCESS)
    assert score == pytest.approx(-0.4 * 2**0.25, abs=1e-6)


def test_secmi_goes_one_step_on_and_back():
    """ε̂ = .5 at t = 1 and at t = 2 the number .7, from x₀ = 1, stride 1, t = 1.

    Step 0 → 1 with ε̂(0) = .5: x̃₁ = .8 · 1 + .6 · .5 = 1.1. On with ε̂(1) = .5: x̂₀ = (1.1 − .3) / .8 = 1, x₂ = 1.
    Back with ε̂(2) = .7: x̂₀ = (1 − .56) / .6 = .7333, .8 · .7333 + .6 · .7 = 1.00667; error −.09333.
    """

    def eps_fn(x_t, t):
        return jnp.broadcast_to(jnp.where(t == 2, 0.7, 0.5)[:, None, None, None], x_t.shape)

    score = secmi_score(by_eps(eps_fn), image(1, 1), jnp.int32(1), PROCESS, 1)
    assert score == pytest.approx(-2 * 0.0933333**2, abs=1e-6)


def test_secmi_reaches_t_by_equal_steps():
    """With noise that does not depend on x the way there does not matter, and the error is 0."""
    seen = []

    def eps_fn(x_t, t):
        jax.debug.callback(lambda t: seen.append(int(t[0])), t)
        return jnp.full_like(x_t, 0.5)

    process = Schedule().process()
    score = secmi_score(by_eps(eps_fn, process), image(1, -1), jnp.int32(25), process, 10)
    jax.effects_barrier()
    assert seen == [0, 8, 16, 25, 35]
    assert score == pytest.approx(0, abs=1e-5)


def test_loss_of_the_best_denoiser_of_a_gaussian_is_known():
    """x₀ ~ N(0, s²): the best ε̂ = √(1−ᾱ) x_t / v, v = ᾱ s² + 1 − ᾱ, leaves E(ε − ε̂)² = ᾱ s² / v; over 4·10⁵ pixels."""
    a, s2 = 0.36, 0.5
    v = a * s2 + 1 - a
    x0, eps = (
        scale * jax.random.normal(key, (4, 400, 250, 1)) for scale, key in zip((s2**0.5, 1), keys(), strict=True)
    )
    best = by_eps(lambda x_t, t: (1 - a) ** 0.5 * x_t / v)
    score = loss_score(best, x0, eps, jnp.full(4, 2), PROCESS)
    np.testing.assert_allclose(-score.mean(), a * s2 / v, rtol=0.01)


def keys():
    return jax.random.split(jax.random.key(0))


def test_an_image_that_the_network_denoises_better_scores_higher_in_every_attack():
    """A denoiser that knows the image x₀ = .5, and guesses one for any darker, another at every t."""
    process = Schedule().process()

    def knows(x_t, t):
        guess = -0.2 - t[:, None, None, None] / 1000
        x0_hat = jnp.where(x_t.mean((1, 2, 3), keepdims=True) > 0, 0.5, guess)
        return from_x0(jnp.broadcast_to(x0_hat, x_t.shape), x_t, *process.at(t))

    x0 = jnp.concatenate([jnp.full((1, 4, 4, 1), 0.5), jnp.full((1, 4, 4, 1), -0.5)])
    eps, t = jax.random.normal(jax.random.key(0), x0.shape), jnp.full(2, 200)
    for name in ("loss", "secmi", "pia"):
        member, other = Attack(name, 1000)(knows, x0, eps, t, process)["score"]
        assert member > other
        assert member <= 0


def test_secmi_needs_room_for_one_step_more():
    assert Attack("secmi", 1000).last_timestep == 989
    assert Attack("loss", 1000).last_timestep == Attack("pia", 1000).last_timestep == 999
