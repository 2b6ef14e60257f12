"""The dtype of networks at inference: the target and the guide in sampling, and descriptors.

In bfloat16 the convolutions and the attention of their blocks have bfloat16 inputs and outputs. Parameters, ᾱ, the
DDIM state and its arithmetic, the guided sum, timestep embeddings, normalisation, softmax, pooling, the UNet's first
and last layer, the last of classifiers and descriptors, and scores stay float32. Training is float32 throughout.
"""

import jax
import jax.numpy as jnp
import numpy as np

PRECISIONS = ("auto", "float32", "bfloat16")


def compute_dtype(precision: str) -> np.dtype:
    """The dtype of a `precision`: "auto" is bfloat16 on GPU and TPU, and float32 on CPU, where bfloat16 gains nothing.

    Raises:
      ValueError: for an unknown precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if precision == "auto":
        precision = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return jnp.dtype(precision)
