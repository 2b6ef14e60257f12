"""Copy-detection descriptors: images in, unit vectors out, so that a dot product is the score γ."""

import dataclasses
from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PyTree

from side_jax.runtime.batching import batched

_CPU_BATCH, _BATCH = 8, 64  # images a call: a large batch fills a GPU or TPU, and on a CPU wastes work on a few images

Apply = Callable[[PyTree, jax.Array], jax.Array]  # (variables, uint8 [N, H, W, C]) -> float32 [N, D], rows of norm 1


@dataclasses.dataclass(frozen=True)
class DescriptorFacts:
    """For the record; None if the descriptor has none.

    Attributes:
      name: in `DESCRIPTORS`.
      weights: name of their file.
      sha256: of the weights.
      preprocessing: of the images.
    """

    name: str
    weights: str | None = None
    sha256: str | None = None
    preprocessing: str | None = None


@flax.struct.dataclass
class Descriptor:
    """Unit vectors of images: a pytree of the network's variables.

    Attributes:
      variables: None without a network.
      apply: the same function for the same network and options, so that it is compiled once.
      facts: for the record.
      mirror: True if queries are matched as they are and mirrored, so that a mirrored copy is a copy.
    """

    variables: PyTree
    apply: Apply = flax.struct.field(pytree_node=False)
    facts: DescriptorFacts = flax.struct.field(pytree_node=False)
    mirror: bool = flax.struct.field(pytree_node=False, default=False)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 [N, H, W, C], C = 1 or 3 -> float32 [N, D], rows of norm 1."""
        if images.ndim != 4 or images.dtype != np.uint8 or images.shape[-1] not in (1, 3):
            raise ValueError(f"images must be uint8 [N, H, W, 1 or 3], got {images.dtype} {images.shape}")
        if not len(images):
            return np.zeros((0, self.dimensions(images.shape[1:])), np.float32)
        # One program for any number of images: a descriptor depends on its image alone, to the last bit.
        size = _CPU_BATCH if jax.default_backend() == "cpu" else _BATCH
        return batched(lambda batch: _apply(self, batch), images, size)

    def queries(self, images: jax.Array) -> jax.Array:
        """Descriptors of uint8 [N, H, W, C] for `search`: float32 [N, D]; with `mirror` [N, 2, D], mirrored last."""
        if not self.mirror:
            return self.apply(self.variables, images)
        views = jnp.stack([images, images[:, :, ::-1]], axis=1)
        rows = self.apply(self.variables, views.reshape(-1, *images.shape[1:]))
        return rows.reshape(images.shape[0], 2, -1)

    def host_queries(self, images: np.ndarray) -> np.ndarray:
        """`queries` of any number of images on the host, in batches as `__call__`."""
        one = self(images)
        return np.stack([one, self(images[:, :, ::-1])], axis=1) if self.mirror else one

    def dimensions(self, image_shape: tuple[int, ...]) -> int:
        """D, for images of (H, W, C). Nothing is run."""
        one = jax.ShapeDtypeStruct((1, *image_shape), np.uint8)
        return int(jax.eval_shape(self.apply, self.variables, one).shape[1])


@jax.jit
def _apply(descriptor: Descriptor, images: jax.Array) -> jax.Array:
    return descriptor.apply(descriptor.variables, images)


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of descriptor, as a config names it.

    Attributes:
      doc: for the table of options.
      load: (weights, preprocessing, dtype) -> the function and its variables.
      abstract: preprocessing -> the same without numbers, for the dry run.
      weights: address of its weights; empty: it has none, and always runs in float32.
      preprocessing: names of its kinds of preprocessing, the default first.
      bands: published (name, low, high) of its scores; empty: held-out photos measure them.
    """

    doc: str
    load: Callable[[str, str, DTypeLike], tuple[Apply, PyTree]]
    abstract: Callable[[str], tuple[Apply, PyTree]]
    weights: str = ""
    preprocessing: tuple[str, ...] = ()
    bands: tuple[tuple[str, float, float], ...] = ()


def unit_rows(rows: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """Rows scaled to norm 1; rows of norm 0 stay as they are."""
    return rows / jnp.maximum(jnp.linalg.norm(rows, axis=-1, keepdims=True), 1e-6)
