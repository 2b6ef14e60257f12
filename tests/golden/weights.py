"""Weights that both sides of a comparison can make for themselves, so that none need be committed.

Every tensor depends on its name, its shape and the seed alone. NumPy's RandomState stream is frozen for ever.
"""

import math
import zlib
from collections.abc import Mapping

import numpy as np


def make_weights(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """A torch state dict, name -> float32, that keeps activations near unit scale and every option visible."""
    return {name: _tensor(name, tuple(shape), seed) for name, shape in shapes.items()}


def _tensor(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    draw = np.random.RandomState(zlib.crc32(f"{seed} {name}".encode())).standard_normal(shape)
    if name.endswith("running_var"):
        value = 1 + 0.5 * np.tanh(draw)
    elif name.endswith(("bias", "running_mean")):
        value = 0.1 * draw
    elif len(shape) < 2:  # scale of a normalisation
        value = 1 + 0.1 * draw
    else:
        value = draw / math.sqrt(math.prod(shape[1:]))
    return np.asarray(value, np.float32)
