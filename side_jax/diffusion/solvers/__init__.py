"""Solvers take one step, from x_t and its prediction to x_s. A new one is a file here and a line in `SOLVERS`."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax
from jaxtyping import PyTree

from side_jax.diffusion.prediction import Prediction
from side_jax.diffusion.process import Level
from side_jax.diffusion.solvers.ddim import DDIM


@runtime_checkable
class Solver(Protocol):
    """Steps from x_t to x_s. Hashable, because it is static in the compiled program."""

    @property
    def draws_noise(self) -> bool:
        """True if a step needs fresh noise z."""

    def init(self, x_t: jax.Array) -> PyTree:
        """The state before the first step: a pytree that the solver carries from step to step."""

    def step(
        self, state: PyTree, x_t: jax.Array, prediction: Prediction, t: Level, s: Level, z: jax.Array | None
    ) -> tuple[jax.Array, PyTree]:
        """One step: (x_s, what it carries on).

        Args:
          state: from `init` or the step before.
          x_t: [N, H, W, C].
          prediction: of x_t.
          t: the level of x_t, scalars.
          s: the level that the step leads to, less noisy.
          z: standard normal noise like x_t; None unless `draws_noise`.
        """


SOLVERS: dict[str, Callable[[float], Solver]] = {"ddim": DDIM}  # name -> (η -> solver)
