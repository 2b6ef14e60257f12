"""Steering: a direction in the UNet's representation, added while an image is made (seed 003 = arXiv 2512.20963).

    h_l ← h_l + α (mean(positive) − mean(negative))

h_l is the output of layer l; the means are over two sets of images and over space, one for each step of the sampler.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from side_jax.diffusion.prediction import Denoise
from side_jax.targets.activations import check_layers, intervene, layer_shapes
from side_jax.targets.target import Target


@dataclasses.dataclass(frozen=True)
class Steering:
    """Directions by layer, from `steering_vectors`.

    Attributes:
      vectors: layer -> mean(positive) − mean(negative) at every DDIM step, float32 [S, C]; 0 outside the window.
      timesteps: of the DDIM steps, noisiest first, int32 [S].
    """

    vectors: Mapping[str, np.ndarray]
    timesteps: np.ndarray

    def check(self, target: Target, num_steps: int) -> None:
        """Checks that the directions fit the target's layers and the steps of its sampler.

        Another model of the same architecture and schedule cannot be told from the one it was made with.

        Raises:
          ValueError: naming what does not fit.
        """
        steps = target.schedule.ddim_timesteps(num_steps)
        if not np.array_equal(steps, self.timesteps):
            raise ValueError(
                f"steering was made for the {len(self.timesteps)} timesteps {_ends(self.timesteps)}, the sampler takes"
                f" {num_steps}: {_ends(steps)}; make it with num_steps={num_steps} and this target"
            )
        check_layers(target, tuple(self.vectors))
        shapes = layer_shapes(target)
        for layer, vectors in self.vectors.items():
            wanted = (num_steps, shapes[layer][-1])
            if vectors.shape != wanted:
                raise ValueError(
                    f"steering of layer {layer!r} is {vectors.shape}, the target needs {wanted}; make it with this"
                    " target"
                )


def _ends(timesteps: np.ndarray) -> str:
    return f"{timesteps[0]} … {timesteps[-1]}"


def steer(denoise: Denoise, vectors: Mapping[str, jax.Array], timesteps: ArrayLike, weight: jax.Array) -> Denoise:
    """denoise with the representation shifted. Jittable; guidance, if any, is applied to the result.

    Args:
      denoise: of the target.
      vectors: layer -> float32 [S, C].
      timesteps: int32 [S], whose vectors they are. A row of another t is left as it is.
      weight: α, float32 scalar; traced, so that one program serves all. Below 0 it leads away from the positive set.
    """

    def shift(vectors: jax.Array) -> Callable[[jax.Array, jax.Array], jax.Array]:
        def change(h: jax.Array, t: jax.Array) -> jax.Array:
            here = t[:, None] == jnp.asarray(timesteps)[None, :]  # [N, S]
            vector = jnp.asarray(vectors)[here.argmax(1)] * here.any(1)[:, None].astype(jnp.float32)
            return h + (weight * vector).astype(h.dtype)[:, None, None, :]  # h_l ← h_l + α (mean(pos) − mean(neg))

        return change

    return intervene(denoise, {layer: shift(rows) for layer, rows in vectors.items()})


def decoder_blocks(target: Target) -> tuple[str, ...]:
    """Every block of the decoder, up_blocks.0 … the last.

    After the last come a norm, SiLU and the output convolution only; it is among them because seed 003 leaves none out.
    """
    return tuple(name for name in layer_shapes(target) if re.fullmatch(r"up_blocks\.\d+", name))


def steered_steps(window: tuple[float, float], num_steps: int) -> range:
    """The steps i with first · S ≤ i < last · S: (0.5, 0.95) of 40 are steps 20 to 37.

    Raises:
      ValueError: if there is none.
    """
    first, last = window
    if not 0 <= first < last <= 1:
        raise ValueError(f"window must be (first, last), shares of the steps with 0 <= first < last <= 1, got {window}")
    # Rounded, so that 0.95 · 40 is 38 whatever the floats say.
    steps = range(*(math.ceil(round(share * num_steps, 9)) for share in (first, last)))
    if not steps:
        raise ValueError(f"window {window} holds none of the {num_steps} steps; widen it, or take more steps")
    return steps
