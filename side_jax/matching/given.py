"""Images that are given, in the place of a sampler: the sweep embeds and matches them block by block."""

from collections.abc import Hashable
from typing import Any

import flax.struct
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from side_jax.runtime.batching import ROWS
from side_jax.runtime.mapped import copied
from side_jax.runtime.sharding import OverMesh, place


@flax.struct.dataclass
class GivenBatch:
    """A batch of images in the place of a `Generator`: a pytree, and a function of the same arguments.

    Attributes:
      images: uint8 [N, H, W, C], split over the devices; or in their place their layout, or their shape.
    """

    images: Any

    def layout(self) -> "GivenBatch":
        """The layout of the images over the devices."""
        return GivenBatch(ROWS)

    def __call__(self, indices: jax.Array, labels: jax.Array, lam: jax.Array) -> jax.Array:  # noqa: ARG002
        """The images of these indices: those of the batch, uint8 [N, H, W, C]."""
        images: jax.Array = self.images
        return images


class GivenImages(OverMesh):
    """Images by scale and index, as `Sampler` gives them. They are read batch by batch, and belong to no class.

    Args:
      images: scale -> uint8 [N, H, W, C], in memory or mapped.
      mesh: the devices that match them.

    Attributes:
      mesh: the devices.
    """

    def __init__(self, images: dict[float, np.ndarray], mesh: Mesh) -> None:
        self.mesh, self._images = mesh, images
        self.batch_size = 1

    def batch(self, indices: np.ndarray, scale: float) -> GivenBatch:
        """The images of one batch on the devices; behind the last image stands the last again."""
        images = self._images[scale]
        rows = copied(images, np.minimum(np.asarray(indices, np.int64), len(images) - 1))
        return GivenBatch(place(rows, ROWS, self.mesh))

    def abstract_batch(self, batch_size: int, scale: float) -> GivenBatch:
        """`batch` of so many images, without values."""
        shape = (batch_size, *self._images[scale].shape[1:])
        images = jax.ShapeDtypeStruct(shape, np.uint8, sharding=NamedSharding(self.mesh, ROWS))
        return GivenBatch(images)

    def signature(self, scale: float) -> Hashable:
        """Everything that the compiled program depends on, except the batch."""
        return self._images[scale].shape[1:]

    def draw(self, indices: np.ndarray, scale: float) -> np.ndarray:  # noqa: ARG002
        """No class: −1, int32 [N]."""
        return np.full(len(indices), -1, np.int32)
