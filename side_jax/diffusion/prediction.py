"""What a network says of x_t: x̂₀ and ε̂ together, whatever it was trained to predict (DESIGN §3).

    x_t = α_t x̂₀ + σ_t ε̂

A transform that changes one of the two says what becomes of the other;
nothing else in the package solves this equation.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
from jaxtyping import Array, Float


class Prediction(NamedTuple):
    """The clean image and the noise that a network sees in x_t, each [N, H, W, C]."""

    x0: jax.Array
    eps: jax.Array


Denoise = Callable[[jax.Array, jax.Array], Prediction]  # (x_t [N, H, W, C], t int [N]) -> Prediction


def from_eps(eps: jax.Array, x_t: jax.Array, alpha: jax.Array, sigma: jax.Array) -> Prediction:
    """x̂₀ = (x_t − σ_t ε̂) / α_t (DDIM, Eq. 9). α_t must not be 0: pure noise does not determine x₀."""
    return Prediction((x_t - sigma * eps) / alpha, eps)


def from_x0(x0: jax.Array, x_t: jax.Array, alpha: jax.Array, sigma: jax.Array) -> Prediction:
    """ε̂ = (x_t − α_t x̂₀) / σ_t."""
    return Prediction(x0, (x_t - alpha * x0) / sigma)


def from_v(v: jax.Array, x_t: jax.Array, alpha: jax.Array, sigma: jax.Array) -> Prediction:
    """x̂₀ = α_t x_t − σ_t v, ε̂ = α_t v + σ_t x_t, for v = α_t ε − σ_t x₀ (Salimans & Ho 2022, Appendix D)."""
    return Prediction(alpha * x_t - sigma * v, alpha * v + sigma * x_t)


FROM = {"epsilon": from_eps, "sample": from_x0, "v_prediction": from_v}  # by diffusers' prediction_type


def to_prediction(
    output: Float[Array, "n h w c_out"],
    x_t: Float[Array, "n h w c"],
    alpha: Float[Array, "n 1 1 1"],
    sigma: Float[Array, "n 1 1 1"],
    prediction_type: str,
) -> Prediction:
    """The output of a network as a prediction.

    Args:
      output: [N, H, W, C], or [N, H, W, 2C] of a network that also predicts a variance (Nichol & Dhariwal 2021), which
        DDIM does not use: the second half is left out.
      x_t: what the network saw, [N, H, W, C].
      alpha: α_t of each image.
      sigma: σ_t of each image.
      prediction_type: "epsilon" | "v_prediction" | "sample".
    """
    return FROM[prediction_type](output[..., : x_t.shape[-1]], x_t, alpha, sigma)
