"""What a network predicts, as the noise ε̂ that everything else in this package speaks of."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def to_eps(
    output: Float[Array, "n h w c_out"],
    x_t: Float[Array, "n h w c"],
    alpha_bar_t: Float[Array, " n"],
    prediction_type: str,
) -> Float[Array, "n h w c"]:
    """ε̂ from the output of a network.

    Args:
      output: [N, H, W, C], or [N, H, W, 2C] of a network that also predicts a variance (Nichol & Dhariwal 2021), which
        DDIM does not use: the second half is left out.
      x_t: what the network saw, [N, H, W, C].
      alpha_bar_t: ᾱ_t of each image, [N].
      prediction_type: "epsilon" | "v_prediction" | "sample".
    """
    output = output[..., : x_t.shape[-1]]
    if prediction_type == "epsilon":
        return output
    a = alpha_bar_t.reshape(-1, 1, 1, 1)
    if prediction_type == "v_prediction":
        return jnp.sqrt(a) * output + jnp.sqrt(1 - a) * x_t  # v = √ᾱ ε − √(1−ᾱ) x₀: Salimans & Ho 2022, App. D
    return (x_t - jnp.sqrt(a) * output) / jnp.sqrt(1 - a)  # x_t = √ᾱ x₀ + √(1−ᾱ) ε: Ho et al. 2020, Eq. 4
