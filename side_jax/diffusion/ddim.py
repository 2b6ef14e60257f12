"""The DDIM sampler (Song et al. 2021), one `lax.scan` over timestep pairs."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, UInt8

from side_jax.diffusion.objective import EpsFn


def ddim_step(
    x_t: Float[ArrayLike, "n h w c"],
    eps_hat: Float[ArrayLike, "n h w c"],
    a_t: Float[ArrayLike, ""],
    a_prev: Float[ArrayLike, ""],
    eta: float = 0.0,
    z: Float[ArrayLike, "n h w c"] | None = None,
    clip_x0: bool = True,
) -> Float[Array, "n h w c"]:
    """x_t -> x_{t−1} (DDIM, Eq. 12).

    Args:
      x_t: [N, H, W, C].
      eps_hat: the noise in x_t, same shape.
      a_t: scalar ᾱ_t.
      a_prev: scalar ᾱ_{t−1}.
      eta: 0 is deterministic, 1 is ancestral.
      z: standard normal noise like x_t, needed if eta > 0.
      clip_x0: clip x̂₀ to [−1, 1]. As in diffusers, ε̂ stays as it is: in a clipped pixel x̂₀ no longer follows a guide,
        and the guide's share of ε̂ alone moves x_{t−1} the other way.
    """
    x0_hat = (x_t - jnp.sqrt(1 - a_t) * eps_hat) / jnp.sqrt(a_t)
    if clip_x0:
        x0_hat = jnp.clip(x0_hat, -1, 1)
    sigma = eta * jnp.sqrt((1 - a_prev) / (1 - a_t) * (1 - a_t / a_prev))  # DDIM, Eq. 16
    x_prev = jnp.sqrt(a_prev) * x0_hat + jnp.sqrt(1 - a_prev - sigma**2) * eps_hat
    return x_prev if z is None else x_prev + sigma * z


def ddim_sample(
    eps_fn: EpsFn,
    keys: jax.Array,
    image_shape: tuple[int, int, int],
    alpha_bar: Float[Array, " T"],
    timesteps: Int[np.ndarray, " S"],
    eta: float = 0.0,
    clip_x0: bool = True,
) -> Float[Array, "n h w c"]:
    """Images from noise.

    Args:
      eps_fn: (x_t [N, H, W, C], t [N]) -> ε̂; guidance, if any, is already in it.
      keys: [N], one per image. Image n depends on keys[n] alone.
      image_shape: (H, W, C).
      alpha_bar: [T].
      timesteps: descending, [S] (`Schedule.ddim_timesteps`); after the last one ᾱ = 1.
      eta: DDIM's η.
      clip_x0: clip x̂₀ to [−1, 1] at every step.

    Returns:
      float32 [N, H, W, C], about [−1, 1].
    """

    def noise(step: jax.Array) -> jax.Array:
        return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, step), image_shape))(keys)

    a_t = alpha_bar[timesteps]
    a_prev = jnp.append(a_t[1:], jnp.ones((), a_t.dtype))

    def body(x_t: jax.Array, step: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        i, t, a, a_next = step
        eps_hat = eps_fn(x_t, jnp.full(x_t.shape[:1], t))
        z = noise(i + 1) if eta > 0 else None
        return ddim_step(x_t, eps_hat, a, a_next, eta, z, clip_x0), None

    count = len(timesteps)
    steps = (jnp.arange(count), jnp.asarray(timesteps), a_t, a_prev)
    x_0, _ = jax.lax.scan(body, noise(jnp.zeros((), jnp.int32)), steps)
    return x_0


def to_uint8(x: Float[Array, "..."]) -> UInt8[Array, "..."]:
    """[−1, 1] -> 0 … 255, rounded to the nearest level."""
    return jnp.round((jnp.clip(x, -1, 1) + 1) * 127.5).astype(jnp.uint8)


def to_float(images: UInt8[Array, "..."]) -> Float[Array, "..."]:
    """uint8 0 … 255 -> float32 [−1, 1]."""
    return images.astype(jnp.float32) / 127.5 - 1
