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


def away_from_kinks(tensors: dict[str, np.ndarray], margin: float, gain: float, fc_bias: np.ndarray | float) -> None:
    """Changes a student's weights so that every channel stays on one side of its ReLU, about `margin` deviations away.

    At a kink the gradient jumps, and a guided trajectory that rounding puts on the other side of one is another
    trajectory. Signals shrink by `margin` in every block; `gain` multiplies the last layer, whose bias is `fc_bias`.
    """
    for name, value in tensors.items():
        if name.endswith(("bn1.bias", "bn2.bias")):
            shut = -1 if name.endswith("bn1.bias") else -3  # what bn2 shuts, the shortcut could open
            value[:] = np.where(value < 0, shut, 1)
        elif name.endswith(("bn1.weight", "bn2.weight", "downsample.1.weight")):
            value[:] = value / margin
        elif name.endswith("time.proj.weight"):
            value[:] = value / margin**2
        elif name == "fc.weight":
            value[:] = value * gain
        elif name == "fc.bias":
            value[:] = fc_bias
