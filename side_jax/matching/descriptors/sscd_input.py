"""SSCD's input: images resized as by PIL, bit for bit, and normalised by ImageNet's mean and deviation."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, UInt8

from side_jax.surrogate.resnet import imagenet_normalize

PREPROCESSING = ("small_edge_288", "square_320")  # the two that SSCD's authors recommend; the first is the default
_BITS = 22  # binary places of PIL's filter weights
_LOW_BITS = 11


def output_size(preprocessing: str, height: int, width: int) -> tuple[int, int]:
    """Height and width after resizing, as by torchvision's Resize(288) or Resize([320, 320])."""
    if preprocessing == "square_320":
        return 320, 320
    short, long = min(height, width), max(height, width)
    longer = int(288 * long / short)
    return (288, longer) if height <= width else (longer, 288)


def filter_weights(size: int, new_size: int) -> Int[np.ndarray, "new old"]:
    """PIL's antialiased bilinear filter along one axis, in units of 2^-22: int32 [new_size, size].

    A triangle one pixel wide to each side, of the larger pixels of the two images.
    """
    scale = size / new_size
    centres = (np.arange(new_size) + 0.5) * scale
    distance = np.abs(np.arange(size) + 0.5 - centres[:, None]) / max(scale, 1.0)
    triangle = np.maximum(1 - distance, 0)
    return (triangle / triangle.sum(1, keepdims=True) * 2**_BITS + 0.5).astype(np.int32)


def resize(images: UInt8[Array, "n h w c"], height: int, width: int) -> UInt8[Array, "n h2 w2 c"]:
    """`PIL.Image.resize(…, BILINEAR)` of every image: along rows, rounded to 8 bits, then along columns.

    If the height shrinks more than the width, Pillow 13 begins with the columns, and differs by one level in some
    pixels. Here the order is always that of earlier versions, with which SSCD's published results were made.
    """
    images = _apply("vw,nhwc->nhvc", filter_weights(images.shape[2], width), images)
    return _apply("uh,nhwc->nuwc", filter_weights(images.shape[1], height), images)


def _apply(product: str, weights: np.ndarray, images: jax.Array) -> jax.Array:
    """A matrix product of PIL's integers in float32, exact because each half of a weight has few enough bits."""
    pixels = images.astype(jnp.float32)
    high, low = (
        jnp.einsum(product, part.astype(np.float32), pixels, precision=lax.Precision.HIGHEST).astype(jnp.int32)
        for part in (weights >> _LOW_BITS, weights & (2**_LOW_BITS - 1))
    )
    rounded = ((high << _LOW_BITS) + low + (1 << (_BITS - 1))) >> _BITS
    return jnp.clip(rounded, 0, 255).astype(jnp.uint8)


def sscd_input(images: UInt8[Array, "n h w c"], preprocessing: str) -> Float[Array, "n h2 w2 3"]:
    """uint8 images, gray or RGB -> SSCD's input."""
    height, width = output_size(preprocessing, *images.shape[1:3])
    return imagenet_normalize(resize(images, height, width).astype(jnp.float32) / 255)
