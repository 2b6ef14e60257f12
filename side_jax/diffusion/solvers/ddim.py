"""DDIM (Song et al. 2021), with diffusers' conventions."""

import dataclasses

import jax
import jax.numpy as jnp

from side_jax.diffusion.prediction import Prediction
from side_jax.diffusion.process import Level


@dataclasses.dataclass(frozen=True)
class DDIM:
    """x_s = α_s x̂₀ + √(σ_s² − σ²) ε̂ + σ z (DDIM, Eq. 12).

    Attributes:
      eta: σ is η times the ancestral sampler's: 0 is deterministic, 1 is ancestral.
    """

    eta: float = 0.0

    @property
    def draws_noise(self) -> bool:
        """True for η above 0."""
        return self.eta > 0

    def init(self, x_t: jax.Array) -> None:
        """The empty state: every step stands alone."""

    def step(
        self,
        state: None,  # noqa: ARG002
        x_t: jax.Array,  # noqa: ARG002
        prediction: Prediction,
        t: Level,
        s: Level,
        z: jax.Array | None,
    ) -> tuple[jax.Array, None]:
        """As `Solver.step`."""
        a_t, a_s = t.alpha_bar, s.alpha_bar
        sigma = self.eta * jnp.sqrt((1 - a_s) / (1 - a_t) * (1 - a_t / a_s))  # DDIM, Eq. 16
        # With η = 1 and ᾱ_t near 0 the weight of ε̂ is 0, and rounding may make it negative.
        direction = jnp.sqrt(jnp.maximum(1 - a_s - sigma**2, 0))
        x_s = s.alpha * prediction.x0 + direction * prediction.eps
        return (x_s if z is None else x_s + sigma * z), None
