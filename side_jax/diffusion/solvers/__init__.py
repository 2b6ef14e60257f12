"""Solvers: how a prediction at one noise level leads to the next; one file each."""

from typing import Any, Protocol, runtime_checkable

import jax

from side_jax.diffusion.prediction import Prediction
from side_jax.diffusion.process import Level


@runtime_checkable
class Solver(Protocol):
    """A way from x_t to x_s. Hashable, for it is static in the compiled program."""

    @property
    def draws_noise(self) -> bool:
        """Does a step need fresh noise z?"""

    def init(self, x_t: jax.Array) -> Any:
        """What the solver carries from step to step, before the first: a pytree."""

    def step(
        self, state: Any, x_t: jax.Array, prediction: Prediction, t: Level, s: Level, z: jax.Array | None
    ) -> tuple[jax.Array, Any]:
        """One step: (x_s, what it carries on).

        Args:
          state: from `init` or the step before.
          x_t: [N, H, W, C].
          prediction: of x_t.
          t: the level of x_t, scalars.
          s: the level that the step leads to, less noisy.
          z: standard normal noise like x_t; None unless `draws_noise`.
        """
