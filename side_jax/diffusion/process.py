"""The forward process: x_t = α_t x₀ + σ_t ε with α_t = √ᾱ_t and σ_t = √(1−ᾱ_t) (DESIGN §3)."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


class Process(NamedTuple):
    """α and σ of every timestep.

    Attributes:
      alpha_bar: ᾱ_t, float32 [T]. 0 at the end of a schedule with zero terminal SNR: x_T is noise alone.
    """

    alpha_bar: Float[np.ndarray | Array, " T"]

    def at(self, t: Int[Array, " n"]) -> tuple[Float[Array, "n 1 1 1"], Float[Array, "n 1 1 1"]]:
        """α_t and σ_t of each image, ready to be multiplied with images: t int [N] -> float32 [N, 1, 1, 1] each."""
        level = Level(t, jnp.asarray(self.alpha_bar)[t].reshape(-1, 1, 1, 1))
        return level.alpha, level.sigma

    def add_noise(
        self, x0: Float[Array, "n h w c"], eps: Float[Array, "n h w c"], t: Int[Array, " n"]
    ) -> Float[Array, "n h w c"]:
        """x_t = α_t x₀ + σ_t ε (Ho et al. 2020, Eq. 4): images [N, H, W, C], t int [N]."""
        alpha, sigma = self.at(t)
        return alpha * x0 + sigma * eps


class Level(NamedTuple):
    """A noise level, or several.

    Attributes:
      t: timestep, int32.
      alpha_bar: ᾱ_t, float32.
    """

    t: Int[np.ndarray | Array, "*s"]
    alpha_bar: Float[np.ndarray | Array, "*s"]

    @property
    def alpha(self) -> Float[Array, "*s"]:
        """α_t = √ᾱ_t."""
        return jnp.sqrt(self.alpha_bar)

    @property
    def sigma(self) -> Float[Array, "*s"]:
        """σ_t = √(1−ᾱ_t)."""
        return jnp.sqrt(1 - self.alpha_bar)


class Steps(NamedTuple):
    """The steps of one trajectory, noisiest first: each leads from the level `t` to the level `s`."""

    t: Level
    s: Level
