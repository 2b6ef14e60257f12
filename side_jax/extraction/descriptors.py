"""Copy-detection descriptors: images in, unit vectors out, so that a dot product is the score γ."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

Descriptor = Callable[[np.ndarray], np.ndarray]  # uint8 [N, H, W, C] -> float32 [N, D], rows of norm 1
_BATCH = 1024


def pixel_descriptor(images: UInt8[Array, "n h w c"]) -> Float[Array, "n d"]:
    """Mean-centred pixels of norm 1: the cosine of two is their correlation. A constant image becomes 0."""
    flat = images.reshape(images.shape[0], -1).astype(jnp.float32)
    flat = flat - flat.mean(-1, keepdims=True)
    return flat / jnp.maximum(jnp.linalg.norm(flat, axis=-1, keepdims=True), 1e-6)


def load_descriptor(name: str, weights: str | None = None) -> Descriptor:
    """A descriptor by name.

    Args:
      name: "pixel".
      weights: path of its weights; "pixel" takes none.

    Returns:
      A function from uint8 images [N, H, W, C] to float32 [N, D] with rows of norm 1.

    Raises:
      ValueError: for an unknown name, or weights given to a descriptor that has none.
    """
    if name != "pixel":
        raise ValueError(f"descriptor must be 'pixel', got {name!r}")
    if weights:
        raise ValueError(f"the pixel descriptor has no weights, got {weights!r}; leave extract.weights empty")
    compiled = jax.jit(pixel_descriptor)

    def embed(images: np.ndarray) -> np.ndarray:
        if images.ndim != 4 or images.dtype != np.uint8:
            raise ValueError(f"images must be uint8 [N, H, W, C], got {images.dtype} {images.shape}")
        parts = [np.asarray(compiled(images[i : i + _BATCH])) for i in range(0, len(images), _BATCH)]
        return np.concatenate(parts) if parts else np.zeros((0, int(np.prod(images.shape[1:]))), np.float32)

    return embed
