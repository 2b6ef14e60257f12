"""Steering vectors from two sets of images (seed 003 = arXiv 2512.20963)."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from side_jax.diffusion.prediction import Denoise
from side_jax.diffusion.process import Process
from side_jax.inside.probe import IndexedImages, Probe, check_images, generation_classes
from side_jax.runtime.sharding import stage_key
from side_jax.targets.activations import check_layers, tap
from side_jax.targets.steering import Steering, decoder_blocks, steered_steps
from side_jax.targets.target import Target


def steering_vectors(
    target: Target,
    positive: np.ndarray,
    negative: np.ndarray,
    layers: Sequence[str] | None = None,
    num_steps: int = 50,
    window: tuple[float, float] = (0.5, 0.95),
    seed: int = 0,
    *,
    batch_size: int = 64,
    precision: str = "auto",
) -> Steering:
    """mean(positive) − mean(negative) of a target's activations, for `sample(…, steering=…)`.

    Each set is noised to the timestep of every step in the window. Image i of one set has the noise of image i of the
    other, and in a class-conditional target its class too, so that neither adds to the difference.

    Args:
      target: from `load_target`.
      positive: uint8 [P, H, W, C], P ≥ 2.
      negative: uint8 [Q, H, W, C], Q ≥ 2.
      layers: diffusers' names; None for every block of the decoder (`decoder_blocks`).
      num_steps: S, of the sampler to be steered.
      window: the steps to steer, as shares of S: step i if first · S ≤ i < last · S.
      seed: of the noise.
      batch_size: images per call of the compiled program.
      precision: of the network, as for `sample`.

    Returns:
      A vector [C] for each layer and step, 0 outside the window.

    Raises:
      ValueError: for an unknown layer, listing the known ones; a window without a step; images that do not fit the
        target; fewer than 2 in a set.

    Example:
      >>> import side_jax
      >>> target = side_jax.load_target("assets/orl_target")
      >>> images = side_jax.sample(target, num_images=4, num_steps=2)
      >>> steering = side_jax.steering_vectors(target, images[:2], images[2:], num_steps=2, window=(0.0, 1.0))
      >>> steered = side_jax.sample(target, num_images=2, num_steps=2, steering=steering, steering_weight=-4.0)
      >>> steered.shape
      (2, 32, 32, 1)
    """
    timesteps = target.schedule.ddim_timesteps(num_steps)
    steps = steered_steps(window, num_steps)
    layers = decoder_blocks(target) if layers is None else tuple(layers)
    if not layers:
        raise ValueError("steering_vectors: layers is empty; name at least one, or None for every decoder block")
    check_layers(target, layers)
    for name, images in (("positive", positive), ("negative", negative)):
        check_images(target, images, None, tuple(timesteps), f"steering_vectors: {name}")
        if len(images) < 2:
            raise ValueError(f"steering_vectors: {name} needs at least 2 images for a mean, got {len(images)}")
    key, size = stage_key(seed, "steer"), min(batch_size, max(len(positive), len(negative)))
    probe = Probe(target, Pooled(layers), key, size, precision=precision)

    def means(images: np.ndarray) -> dict[str, np.ndarray]:
        """Layer -> mean over images at each step of the window, float64 [W, C]."""
        indices = np.arange(len(images))
        indexed = IndexedImages(images, indices, generation_classes(target, key, indices))
        found = [probe(indexed, t, draw=t) for t in timesteps[list(steps)].tolist()]
        return {layer: np.stack([one[layer].mean(0, dtype=np.float64) for one in found]) for layer in layers}

    vectors, others = means(positive), means(negative)
    for layer in layers:
        difference = vectors[layer] - others[layer]
        vectors[layer] = np.zeros((num_steps, difference.shape[1]), np.float32)
        vectors[layer][list(steps)] = difference
    return Steering(vectors, timesteps)


@dataclasses.dataclass(frozen=True)
class Pooled:
    """Activations pooled over space: a `Measure` for `Probe`.

    Attributes:
      layers: names.
    """

    layers: tuple[str, ...]

    def __call__(
        self, denoise: Denoise, x0: jax.Array, eps: jax.Array, t: jax.Array, process: Process
    ) -> dict[str, jax.Array]:
        """Layer -> mean over space, float32 [N, C]."""
        _, found = tap(denoise, self.layers)(process.add_noise(x0, eps, t), t)
        return {layer: h.astype(jnp.float32).mean((1, 2)) for layer, h in found.items()}
