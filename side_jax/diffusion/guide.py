"""The interface of a guide: log p^t(y | x_t) and its gradient at x_t (DESIGN §4)."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

LogProb = Callable[[jax.Array, jax.Array], jax.Array]  # (x_t [N, H, W, C], t [N]) -> log p^t(y | x_t) [N, K]


@runtime_checkable
class Guide(Protocol):
    """A pytree, so that a compiled program takes its arrays as arguments; its static part is hashable."""

    @property
    def num_classes(self) -> int:
        """Number of classes K."""

    def log_prob(self, x_t: jax.Array, t: jax.Array) -> jax.Array:
        """log p^t(y | x_t): float32 [N, H, W, C] in about [−1, 1], int32 [N] -> float32 [N, K]."""

    def gradient(self, x_t: jax.Array, t: jax.Array, labels: jax.Array) -> jax.Array:
        """g = ∇_{x_t} log p^t(y = c | x_t) for the class c of each image, int32 [N]: float32 like x_t."""

    def in_dtype(self, dtype: DTypeLike) -> "Guide":
        """The guide with its network, if any, running in `dtype`."""

    def layout(self) -> "Guide":
        """The guide with a `PartitionSpec` for every array: its layout over the devices."""


def autodiff_gradient(
    log_prob: LogProb, x_t: Float[Array, "n h w c"], t: Int[Array, " n"], labels: Int[Array, " n"]
) -> Float[Array, "n h w c"]:
    """g = ∇_{x_t} log p^t(y = c | x_t) = −∇ CE(c, p^t(y | x_t)) by reverse mode: [N, H, W, C].

    The gradient of the batch sum; images do not interact, so each row is its own image's gradient.
    """

    def cross_entropy(x: jax.Array) -> jax.Array:
        return -jnp.take_along_axis(log_prob(x, t), labels[:, None], axis=-1).sum()

    return -jax.grad(cross_entropy)(x_t)
