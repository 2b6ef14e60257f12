"""Transforms of a prediction: Denoise -> Denoise, folded in one visible order (DESIGN §3).

    target.denoise ─► clip ─► guide ─► solver          the default order, "before_guide"

Guidance moves x̂₀ and ε̂ together. If clipping comes after it, x̂₀ cannot follow the guide in a clipped pixel, and the
guide's share of ε̂ alone pushes x_{t−1} away from the class.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from side_jax.diffusion.prediction import Denoise, Prediction, from_x0
from side_jax.diffusion.process import Process

CLIP_ORDERS = ("before_guide", "after_guide", "consistent", "none")
Transform = Callable[[Denoise], Denoise]
Gradient = Callable[[jax.Array, jax.Array], jax.Array]  # (x_t, t) -> ∇_{x_t} log p^t(y = c | x_t), like x_t


def clip(denoise: Denoise, limit: float) -> Denoise:
    """x̂₀ clipped to [−limit, limit]; ε̂ stays as it is, as in diffusers."""

    def clipped(x_t: jax.Array, t: jax.Array) -> Prediction:
        prediction = denoise(x_t, t)
        return prediction._replace(x0=jnp.clip(prediction.x0, -limit, limit))

    return clipped


def consistent(denoise: Denoise, process: Process) -> Denoise:
    """ε̂ recomputed from x̂₀, so that α_t x̂₀ + σ_t ε̂ = x_t again (guided-diffusion's `_predict_eps_from_xstart`)."""

    def recomputed(x_t: jax.Array, t: jax.Array) -> Prediction:
        return from_x0(denoise(x_t, t).x0, x_t, *process.at(t))

    return recomputed


def guide(denoise: Denoise, gradient: Gradient, process: Process, lam: jax.Array) -> Denoise:
    """Eq. (10) as a shift of the score, g = ∇_{x_t} log p^t(y = c | x_t):

        x̂₀ += λ (σ_t² / α_t) g        ε̂ −= λ σ_t g        so that α_t x̂₀ + σ_t ε̂ stays as it is.

    Where α_t = 0 (zero terminal SNR) x_t is noise and says nothing of y: there is no guidance.

    Args:
      denoise: of the target. The gradient is taken at x_t, not through it.
      gradient: of a guide, for the classes of these images.
      process: α and σ.
      lam: λ, a scalar. Traced: one compilation serves every λ.
    """

    def guided(x_t: jax.Array, t: jax.Array) -> Prediction:
        x0, eps = denoise(x_t, t)
        alpha, sigma = process.at(t)
        seen = alpha > 0
        g = jnp.where(seen, gradient(x_t, t), 0)
        x0 = x0 + lam * (sigma**2 / jnp.where(seen, alpha, 1)) * g  # Eq. (10)
        return Prediction(x0, eps - lam * sigma * g)  # Eq. (10)

    return guided


def within(gradient: Gradient, first: jax.Array, last: jax.Array) -> Gradient:
    """The gradient in a window of steps, and 0 outside: from the timestep `first` down to `last`, int32 scalars."""

    def windowed(x_t: jax.Array, t: jax.Array) -> jax.Array:
        inside = (t <= first) & (t >= last)
        return jnp.where(inside.reshape(-1, *(1,) * (x_t.ndim - 1)), gradient(x_t, t), 0)

    return windowed


def fold(denoise: Denoise, order: str, limit: float | None, process: Process, guidance: Transform) -> Denoise:
    """Clipping and guidance in one of `CLIP_ORDERS`.

    Args:
      denoise: of the target.
      order: before_guide: clip x̂₀, then guide. after_guide: guide, then clip x̂₀ alone, as a guided ε̂ passed to
        diffusers' `DDIMScheduler.step` does. consistent: clip x̂₀, recompute ε̂ from it, then guide, as OpenAI's
        guided-diffusion does. none: guide.
      limit: x̂₀ is clipped to [−limit, limit]; None: the target's scheduler does not clip, and every order is "none".
      process: α and σ.
      guidance: `guide` but for its first argument; for unguided images the identity.
    """
    if limit is None or order == "none":
        return guidance(denoise)
    if order == "before_guide":
        return guidance(clip(denoise, limit))
    if order == "after_guide":
        return clip(guidance(denoise), limit)
    return guidance(consistent(clip(denoise, limit), process))
