"""The DDPM training loss and its averaged weights."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from side_jax.diffusion.process import Process

EpsFn = Callable[[jax.Array, jax.Array], jax.Array]  # (x_t [N, H, W, C], t [N]) -> eps_hat [N, H, W, C]


def sample_timesteps(key: jax.Array, num: int, num_train_timesteps: int) -> Int[Array, " n"]:
    """t uniform on 0 … T−1: int32 [num]."""
    return jax.random.randint(key, (num,), 0, num_train_timesteps)


def ddpm_loss(eps_fn: EpsFn, key: jax.Array, x0: Float[Array, "n h w c"], process: Process) -> Float[Array, ""]:
    """E‖ε − ε_θ(x_t, t)‖², averaged over pixels (Ho et al. 2020, Eq. 14): scalar.

    Args:
      eps_fn: the network.
      key: for t and ε.
      x0: clean images in [−1, 1], [N, H, W, C].
      process: α and σ.
    """
    t_key, eps_key = jax.random.split(key)
    t = sample_timesteps(t_key, x0.shape[0], len(process.alpha_bar))
    eps = jax.random.normal(eps_key, x0.shape)
    return jnp.square(eps - eps_fn(process.add_noise(x0, eps, t), t)).mean()
