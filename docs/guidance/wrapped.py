"""A guide inside another, which changes its gradient."""

import dataclasses
from typing import Any, Self

import flax.struct
import jax


@flax.struct.dataclass
class Wrapped:
    """Everything as the guide inside has it.

    Attributes:
      guide: the one inside.
    """

    guide: Any

    @property
    def num_classes(self) -> int:
        classes: int = self.guide.num_classes
        return classes

    def log_prob(self, x_t: jax.Array, t: jax.Array) -> jax.Array:
        log_prob: jax.Array = self.guide.log_prob(x_t, t)
        return log_prob

    def gradient(self, x_t: jax.Array, t: jax.Array, labels: jax.Array) -> jax.Array:
        gradient: jax.Array = self.guide.gradient(x_t, t, labels)
        return gradient

    def in_dtype(self, dtype: Any) -> Self:
        return dataclasses.replace(self, guide=self.guide.in_dtype(dtype))

    def layout(self) -> Self:
        return dataclasses.replace(self, guide=self.guide.layout())
