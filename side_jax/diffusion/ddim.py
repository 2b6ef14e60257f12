"""The DDIM sampler (Song et al. 2021), one `lax.scan` over timestep pairs."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, UInt8

from side_jax.diffusion.objective import EpsFn
from side_jax.diffusion.schedule import MIN_ALPHA_BAR, DDIMSteps


def ddim_step(
    x_t: Float[ArrayLike, "n h w c"],
    eps_hat: Float[ArrayLike, "n h w c"],
    a_t: Float[ArrayLike, ""],
    a_prev: Float[ArrayLike, ""],
    eta: float = 0.0,
    z: Float[ArrayLike, "n h w c"] | None = None,
    clip_x0: float | None = 1.0,
) -> Float[Array, "n h w c"]:
    """x_t -> x_{t−1} (DDIM, Eq. 12).

    Args:
      x_t: [N, H, W, C].
      eps_hat: the noise in x_t, same shape.
      a_t: scalar ᾱ_t.
      a_prev: scalar ᾱ_{t−1}.
      eta: 0 is deterministic, 1 is ancestral.
      z: standard normal noise like x_t, needed if eta > 0.
      clip_x0: clip x̂₀ to [−clip_x0, clip_x0]; None does not. As in diffusers, ε̂ stays as it is: in a clipped pixel x̂₀
        no longer follows a guide, and the guide's share of ε̂ alone moves x_{t−1} the other way.
    """
    x0_hat = (x_t - jnp.sqrt(1 - a_t) * eps_hat) / jnp.sqrt(a_t)
    if clip_x0 is not None:
        x0_hat = jnp.clip(x0_hat, -clip_x0, clip_x0)
    sigma = eta * jnp.sqrt((1 - a_prev) / (1 - a_t) * (1 - a_t / a_prev))  # DDIM, Eq. 16
    eps_hat = jnp.where(a_t == MIN_ALPHA_BAR, x_t, eps_hat)  # with zero SNR the noise is x_t itself
    # With η = 1 and ᾱ_t near 0 nothing is left for ε̂, and rounding may leave less than nothing.
    direction = jnp.sqrt(jnp.maximum(1 - a_prev - sigma**2, 0)) * eps_hat
    x_prev = jnp.sqrt(a_prev) * x0_hat + direction
    return x_prev if z is None else x_prev + sigma * z


def ddim_sample(
    eps_fn: EpsFn,
    keys: jax.Array,
    image_shape: tuple[int, int, int],
    steps: DDIMSteps,
    eta: float = 0.0,
    clip_x0: float | None = 1.0,
) -> Float[Array, "n h w c"]:
    """Images from noise.

    Args:
      eps_fn: (x_t [N, H, W, C], t [N]) -> ε̂; guidance, if any, is already in it.
      keys: [N], one per image. Image n depends on keys[n] alone.
      image_shape: (H, W, C).
      steps: from `Schedule.ddim_steps`. Traced: one compilation serves every schedule of as many steps.
      eta: DDIM's η.
      clip_x0: clip x̂₀ to [−clip_x0, clip_x0] at every step; None does not.

    Returns:
      float32 [N, H, W, C], about [−1, 1].
    """

    def noise(step: jax.Array) -> jax.Array:
        return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, step), image_shape))(keys)

    def body(x_t: jax.Array, step: tuple[jax.Array, DDIMSteps]) -> tuple[jax.Array, None]:
        i, (t, a_t, a_prev) = step
        eps_hat = eps_fn(x_t, jnp.full(x_t.shape[:1], t))
        z = noise(i + 1) if eta > 0 else None
        return ddim_step(x_t, eps_hat, a_t, a_prev, eta, z, clip_x0), None

    count = jnp.arange(len(steps.t))
    x_0, _ = jax.lax.scan(body, noise(jnp.zeros((), jnp.int32)), (count, steps))
    return x_0


def to_uint8(x: Float[Array, "..."]) -> UInt8[Array, "..."]:
    """[−1, 1] -> 0 … 255, rounded to the nearest level."""
    return jnp.round((jnp.clip(x, -1, 1) + 1) * 127.5).astype(jnp.uint8)


def to_float(images: UInt8[Array, "..."]) -> Float[Array, "..."]:
    """uint8 0 … 255 -> float32 [−1, 1]."""
    return images.astype(jnp.float32) / 127.5 - 1
