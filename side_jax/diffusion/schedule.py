"""The forward process: betas, alpha_bar, and which timesteps DDIM visits (DESIGN §5)."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A discrete noise schedule; field names are those of diffusers' scheduler config.

    `beta_schedule` "linear": beta_1 ... beta_T evenly spaced from `beta_start` to `beta_end`.
    `steps_offset` is added to every DDIM timestep.
    """

    num_train_timesteps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02
    beta_schedule: str = "linear"
    steps_offset: int = 0

    def __post_init__(self) -> None:
        if self.beta_schedule != "linear":
            raise ValueError(f"schedule.beta_schedule {self.beta_schedule!r} is not supported; known: linear")
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise ValueError(
                f"schedule needs 0 < beta_start <= beta_end < 1, got {self.beta_start} and {self.beta_end}"
            )

    def alpha_bar(self) -> Float[np.ndarray, " T"]:
        """ᾱ_t = Π_{s <= t} (1 − β_s), computed in float64: float32 [T]."""
        betas = np.linspace(self.beta_start, self.beta_end, self.num_train_timesteps, dtype=np.float64)
        return np.cumprod(1 - betas).astype(np.float32)

    def ddim_timesteps(self, num_steps: int) -> Int[np.ndarray, " S"]:
        """diffusers' "leading" spacing, noisiest first: 980, 960, …, 0 for 50 of 1000. int32 [num_steps]."""
        if not 1 <= num_steps <= self.num_train_timesteps:
            raise ValueError(f"num_steps must be 1 to {self.num_train_timesteps}, got {num_steps}")
        ratio = self.num_train_timesteps // num_steps
        return (np.arange(num_steps)[::-1] * ratio + self.steps_offset).astype(np.int32)


def add_noise(
    x0: Float[Array, "n h w c"], eps: Float[Array, "n h w c"], alpha_bar_t: Float[Array, " n"]
) -> Float[Array, "n h w c"]:
    """x_t = √ᾱ_t x₀ + √(1−ᾱ_t) ε; `alpha_bar_t` [N] for images [N, H, W, C]."""
    a = alpha_bar_t.reshape(-1, *([1] * (x0.ndim - 1)))
    return jnp.sqrt(a) * x0 + jnp.sqrt(1 - a) * eps
