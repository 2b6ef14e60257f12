import jax
import jax.numpy as jnp
import numpy as np
from side_jax.diffusion.guidance import classifier_gradient, guide

import side_jax
from side_jax.diffusion.schedule import MIN_ALPHA_BAR
from tests.golden.ours import GOLDEN, difference, guided_noise, write_adm

ALPHA_BAR = jnp.array([0.75, 0.36])


def linear_log_prob(x, t):
    """Two classes, logits ± the sum of the pixels."""
    total = x.sum((1, 2, 3))
    return jax.nn.log_softmax(jnp.stack([total, -total], axis=1), axis=-1)


def test_gradient_is_that_of_log_probability_by_hand():
    """d/dx log σ(2 Σx) = 2 (1 − σ(2 Σx)) for class 0, −2 σ for class 1; at Σx = 0: +1 and −1."""
    x = jnp.zeros((2, 1, 2, 1))
    g = classifier_gradient(linear_log_prob, x, jnp.zeros(2, jnp.int32), jnp.array([0, 1]))
    np.testing.assert_allclose(g[:, 0, :, 0], [[1, 1], [-1, -1]], rtol=1e-6)


def test_sign_and_scale_by_hand():
    """ε̂ = ε − λ √(1−ᾱ_t) g with ε = .1, λ = 3, g = ±1: √(1−.75) = .5, √(1−.36) = .8."""
    x, t = jnp.zeros((2, 1, 1, 1)), jnp.array([0, 1])
    eps_fn = lambda x, t: jnp.full_like(x, 0.1)
    guided = guide(eps_fn, linear_log_prob, ALPHA_BAR, jnp.array([0, 1]), jnp.float32(3))(x, t)
    np.testing.assert_allclose(guided.ravel(), [0.1 - 3 * 0.5, 0.1 + 3 * 0.8], rtol=1e-5)


def test_guidance_moves_x0_towards_the_class():
    x, t = jnp.full((1, 2, 2, 1), -0.3), jnp.array([1])
    eps_fn = lambda x, t: jnp.zeros_like(x)
    eps = guide(eps_fn, linear_log_prob, ALPHA_BAR, jnp.array([0]), jnp.float32(1))(x, t)
    a = ALPHA_BAR[1]
    x0, x0_guided = x / jnp.sqrt(a), (x - jnp.sqrt(1 - a) * eps) / jnp.sqrt(a)
    assert linear_log_prob(x0_guided, t)[0, 0] > linear_log_prob(x0, t)[0, 0]


def test_lambda_zero_gives_the_target_back():
    x = jax.random.normal(jax.random.key(0), (2, 2, 2, 1))
    eps_fn = lambda x, t: jnp.sin(x)
    guided = guide(eps_fn, linear_log_prob, ALPHA_BAR, jnp.array([0, 1]), jnp.float32(0))
    np.testing.assert_array_equal(guided(x, jnp.array([0, 1])), eps_fn(x, None))


def test_gradient_is_taken_at_x_t_and_not_through_the_target():
    """A target whose own derivative is huge leaves the guidance term as it is."""
    x, t = jnp.zeros((1, 1, 1, 1)), jnp.array([0])
    steep = lambda x, t: 1e6 * x
    guided = guide(steep, linear_log_prob, ALPHA_BAR, jnp.array([0]), jnp.float32(1))(x, t)
    np.testing.assert_allclose(guided.item(), -0.5, rtol=1e-5)


def test_guided_noise_equals_torch_autograd_on_the_same_weights(tmp_path):
    golden = np.load(GOLDEN / "guidance.npz")
    target = side_jax.load_target(write_adm(tmp_path, "legacy"))
    log_prob, eps_hat = guided_noise(target, 0, golden["x"], golden["t"], golden["labels"], scale=9.0)
    assert difference(log_prob, jax.nn.log_softmax(golden["logits"])) <= 1e-4
    assert difference(eps_hat, golden["eps_hat"]) <= 1e-4
    assert np.abs(golden["guidance"]).max() > 0.1  # the guide's share is far above the bound


def test_no_guidance_where_there_is_no_signal():
    """At a terminal ᾱ of MIN_ALPHA_BAR (zero SNR) ε̂ is the target's; one step before it is guided."""
    alpha_bar = jnp.array([MIN_ALPHA_BAR, 1e-4], jnp.float32)
    x, t = jnp.zeros((2, 1, 1, 1)), jnp.array([0, 1])
    eps_fn = lambda x, t: jnp.full_like(x, 0.1)
    guided = guide(eps_fn, linear_log_prob, alpha_bar, jnp.array([0, 0]), jnp.float32(3))(x, t)
    np.testing.assert_allclose(guided.ravel(), [0.1, 0.1 - 3], rtol=1e-3)
