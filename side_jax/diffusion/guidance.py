"""Classifier guidance: a function from eps_fn to eps_fn (DESIGN §5)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from side_jax.diffusion.objective import EpsFn
from side_jax.diffusion.schedule import MIN_ALPHA_BAR

LogProbFn = Callable[[jax.Array, jax.Array], jax.Array]  # (x_t [N, H, W, C], t [N]) -> log p^t(y | x_t) [N, K]


def classifier_gradient(
    log_prob: LogProbFn, x_t: Float[Array, "n h w c"], t: Int[Array, " n"], labels: Int[Array, " n"]
) -> Float[Array, "n h w c"]:
    """g = ∇_{x_t} log p^t(y = c | x_t) = −∇ CE(c, p^t(y | x_t)): [N, H, W, C].

    The gradient of the batch sum; images do not interact, so each row is its own image's gradient.
    """

    def cross_entropy(x: jax.Array) -> jax.Array:
        return -jnp.take_along_axis(log_prob(x, t), labels[:, None], axis=-1).sum()

    return -jax.grad(cross_entropy)(x_t)


def guide(
    eps_fn: EpsFn,
    log_prob: LogProbFn,
    alpha_bar: Float[Array, " T"],
    labels: Int[Array, " n"],
    lam: Float[Array, ""],
) -> EpsFn:
    """ε̂ = ε_θ(x_t, t) − λ √(1−ᾱ_t) g, SIDE's Eq. (10) as a DDIM update.

    Where ᾱ_t is at most MIN_ALPHA_BAR (zero terminal SNR) there is no guidance: x_t is noise and says nothing of y, and
    x̂₀ would carry the guide's share of ε̂ divided by √ᾱ_t.

    Args:
      eps_fn: the unguided target. The gradient is taken at x_t, not through it.
      log_prob: the time-conditioned classifier p^t(y | x_t).
      alpha_bar: [T].
      labels: int [N], the class c of each image.
      lam: scalar λ; 0 gives eps_fn back. Traced: one compilation serves every λ.
    """

    def guided(x_t: jax.Array, t: jax.Array) -> jax.Array:
        g = classifier_gradient(log_prob, x_t, t, labels)
        a_t = alpha_bar[t]
        sigma_t = jnp.where(a_t > MIN_ALPHA_BAR, jnp.sqrt(1 - a_t), 0).reshape(-1, *([1] * (x_t.ndim - 1)))
        return eps_fn(x_t, t) - lam * sigma_t * g  # Eq. (10)

    return guided
