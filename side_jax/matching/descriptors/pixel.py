"""Mean-centred pixels: for images so small that a network has nothing to add."""

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from side_jax.matching.descriptor import Kind, unit_rows


def pixel_descriptor(variables: None, images: UInt8[Array, "n h w c"]) -> Float[Array, "n d"]:
    """Mean-centred pixels of norm 1: the cosine of two is their correlation. A constant image becomes 0."""
    flat = images.reshape(images.shape[0], -1).astype(jnp.float32)
    return unit_rows(flat - flat.mean(-1, keepdims=True))


PIXEL = Kind("mean-centred unit-norm pixels", lambda *_: (pixel_descriptor, None), lambda _: (pixel_descriptor, None))
