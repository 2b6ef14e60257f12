"""Spikiness of a hidden representation: how much of its energy a few channels hold (seed 003).

A network that has memorized an image answers it with a few strong units, one that generalizes with many weak ones. The
detector as its authors run it: noise at timestep 10 of 1000, one forward pass, the hidden layer of the decoder's ResNet
blocks, the spatial maximum of every channel, and the standard deviation over channels; higher means memorized.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact

from side_jax.diffusion.prediction import Denoise
from side_jax.diffusion.process import Process
from side_jax.inside.probe import IndexedImages, Probe, check_images, generation_classes
from side_jax.runtime.sharding import stage_key
from side_jax.targets.activations import check_layers, decoder_layers, tap
from side_jax.targets.target import Target

MEASURES = ("std", "l4_l2", "l2")


def max_pool(h: Inexact[Array, "n h w c"]) -> Float[Array, "n c"]:
    """The spatial maximum of every channel, in float32: [N, H, W, C] -> [N, C]."""
    return h.astype(jnp.float32).max((1, 2))


def measures(pooled: Float[Array, "n c"]) -> Float[Array, "n 3"]:
    """Spikiness of vectors [N, C], in the order of `MEASURES`: float32 [N, 3].

    Standard deviation over channels (population), ‖h‖₄ / ‖h‖₂ (1 for one active channel, C^(−1/4) for all alike, 0 for
    h = 0), and ‖h‖₂, which is size and not shape.
    """
    l2 = jnp.linalg.norm(pooled, axis=1)
    unit = pooled / jnp.maximum(l2, jnp.finfo(jnp.float32).tiny)[:, None]
    l4_l2 = jnp.sqrt(jnp.sqrt((unit * unit * unit * unit).sum(1)))
    return jnp.stack([pooled.std(1), l4_l2, l2], axis=1)


@dataclasses.dataclass(frozen=True)
class Forward:
    """Spikiness of every layer and the denoising loss, of the same forward pass: a `Measure` for `Probe`.

    Attributes:
      layers: names.
    """

    layers: tuple[str, ...]

    def __call__(
        self, denoise: Denoise, x0: jax.Array, eps: jax.Array, t: jax.Array, process: Process
    ) -> dict[str, jax.Array]:
        """{"spikiness": float32 [N, L, 3], "loss": float32 [N]}, the loss ‖ε − ε_θ(x_t, t)‖² as a mean over pixels."""
        (_, eps_hat), found = tap(denoise, self.layers)(process.add_noise(x0, eps, t), t)
        loss = jnp.square(eps - eps_hat).mean((1, 2, 3))
        if not self.layers:
            return {"loss": loss}
        return {"spikiness": jnp.stack([measures(max_pool(found[name])) for name in self.layers], 1), "loss": loss}


class Spikiness(NamedTuple):
    """The results of one forward pass per image, noise level and draw of the noise.

    Attributes:
      layers: names of the L layers.
      timesteps: the T noise levels.
      values: float32 [N, L, T, D, 3], D draws of the noise, last axis as `MEASURES`.
      loss: denoising loss ‖ε − ε_θ(x_t, t)‖², mean over pixels, float32 [N, T, D].
    """

    layers: tuple[str, ...]
    timesteps: tuple[int, ...]
    values: np.ndarray
    loss: np.ndarray

    def measure(self, name: str) -> np.ndarray:
        """One of `MEASURES`: float32 [N, L, T, D]."""
        return self.values[..., MEASURES.index(name)]


def measure_spikiness(
    probe: Probe, layers: tuple[str, ...], indexed: IndexedImages, timesteps: tuple[int, ...], num_noises: int
) -> Spikiness:
    """Runs a probe of `Forward(layers)` over noise levels and draws."""
    found = [[probe(indexed, t, draw) for draw in range(num_noises)] for t in timesteps]
    values = np.stack([np.stack([one["spikiness"] for one in row], 2) for row in found], 2)
    loss = np.stack([np.stack([one["loss"] for one in row], 1) for row in found], 1)
    return Spikiness(layers, timesteps, values, loss)


def spikiness(
    target: Target,
    images: np.ndarray,
    layers: tuple[str, ...] | None = None,
    timesteps: tuple[int, ...] = (10,),
    num_noises: int = 1,
    seed: int = 0,
    *,
    classes: np.ndarray | None = None,
    first_index: int = 0,
    batch_size: int = 64,
    precision: str = "auto",
) -> Spikiness:
    """How spiky the target's hidden representation of each image is; higher `std` looks more memorized (seed 003).

    The noise of image i depends on (seed, first_index + i) and the draw alone.

    Args:
      target: from `load_target`.
      images: generated or given, uint8 [N, H, W, C].
      layers: names; None for the hidden layer of every ResNet block of the decoder.
      timesteps: noise levels, in 0 … T − 1.
      num_noises: draws of the noise per image and level.
      seed: 0 or more.
      classes: for a class-conditional target, int [N]; None: the classes of images first_index … first_index + N − 1 of
        `sample` with this seed.
      first_index: index of the first image.
      batch_size: images per call of the compiled program.
      precision: of the network: "float32", "bfloat16", or "auto", bfloat16 on GPU and TPU and float32 on CPU.

    Raises:
      ValueError: for an unknown layer (the known ones are listed), t outside the schedule, images that do not fit the
        target, no image, or a value out of range.

    Example:
      >>> import side_jax
      >>> target = side_jax.load_target("assets/orl_target")
      >>> photos = side_jax.load_images("orl", None, image_size=32, channels=1)
      >>> found = side_jax.spikiness(target, photos.images[:3], layers=("up_blocks.0",), timesteps=(10, 100))
      >>> found.measure("std").shape
      (3, 1, 2, 1)
    """
    for name, value, least in (
        ("num_noises", num_noises, 1),
        ("seed", seed, 0),
        ("first_index", first_index, 0),
        ("batch_size", batch_size, 1),
    ):
        if value < least:
            raise ValueError(f"spikiness: {name} must be at least {least}, got {value}")
    timesteps = tuple(timesteps)
    check_images(target, images, classes, timesteps)
    chosen = decoder_layers(target) if layers is None else tuple(layers)
    check_layers(target, chosen)
    if not chosen:
        raise ValueError("layers is empty; give at least 1, or None for those of the decoder")
    indices = np.arange(first_index, first_index + len(images))
    if classes is None:
        classes = generation_classes(target, stage_key(seed, "extract"), indices)
    size = min(batch_size, len(images))
    probe = Probe(target, Forward(chosen), stage_key(seed, "detect"), size, precision=precision)
    return measure_spikiness(probe, chosen, IndexedImages(images, indices, classes), timesteps, num_noises)
