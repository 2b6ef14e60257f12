"""Steering vectors from two sets of images (seed 003 = arXiv 2512.20963)."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jax.typing import DTypeLike

from side_jax.diffusion.ddim import to_float
from side_jax.diffusion.schedule import add_noise
from side_jax.models.unet import UNet
from side_jax.precision import compute_dtype
from side_jax.representation.activations import check_layers, tap
from side_jax.representation.steering import Steering, decoder_blocks, steered_steps
from side_jax.sampling import draw_classes
from side_jax.sharding import index_keys, local_mesh, place, replicate, stage_key
from side_jax.target import Target, predict_eps


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

    Each set is noised to the timestep of every step in the window. Image i of the one set has the noise of image i of
    the other, and in a class-conditional target its class, so that neither makes a difference of its own.

    Args:
      target: from `load_target`.
      positive: uint8 [P, H, W, C], P ≥ 2.
      negative: uint8 [Q, H, W, C], Q ≥ 2.
      layers: names as diffusers has them; None for every block of the decoder (`decoder_blocks`).
      num_steps: S, of the sampler to be steered.
      window: the steps to steer, as shares of S: step i if first · S ≤ i < last · S.
      seed: of the noise.
      batch_size: images per call of the compiled program.
      precision: of the network, as for `sample`.

    Returns:
      A vector [C] for each layer and step, 0 outside the window.

    Raises:
      ValueError: for an unknown layer, listing those that exist; a window without a step; images that are not the
        target's; fewer than 2 in a set.
    """
    timesteps = target.schedule.ddim_timesteps(num_steps)
    steps = steered_steps(window, num_steps)
    layers = decoder_blocks(target) if layers is None else tuple(layers)
    if not layers:
        raise ValueError("steering_vectors: layers is empty; name at least one, or None for every decoder block")
    check_layers(target, layers)
    for name, images in (("positive", positive), ("negative", negative)):
        _check_images(name, images, target.image_shape)
    pooled = functools.partial(
        _pooled_mean, target, layers, timesteps[list(steps)], stage_key(seed, "steer"), batch_size, precision
    )
    means, others = pooled(positive), pooled(negative)
    vectors = {}
    for layer in layers:
        vectors[layer] = np.zeros((num_steps, means[layer].shape[1]), np.float32)
        vectors[layer][list(steps)] = means[layer] - others[layer]
    return Steering(vectors, timesteps)


def _check_images(name: str, images: np.ndarray, shape: tuple[int, int, int]) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != shape:
        raise ValueError(
            f"steering_vectors: {name} must be uint8 [N, {', '.join(map(str, shape))}], got {images.dtype}"
            f" {images.shape}"
        )
    if len(images) < 2:
        raise ValueError(f"steering_vectors: {name} needs at least 2 images for a mean, got {len(images)}")


def _pooled_mean(
    target: Target,
    layers: tuple[str, ...],
    timesteps: np.ndarray,
    key: jax.Array,
    batch_size: int,
    precision: str,
    images: np.ndarray,
) -> dict[str, np.ndarray]:
    """Layer -> mean over images and space at each timestep, float64 [W, C]."""
    mesh = local_mesh()
    size = -(-min(batch_size, len(images)) // mesh.size) * mesh.size
    numbers = (
        target.params,
        jnp.asarray(target.schedule.alpha_bar()),
        jnp.asarray(timesteps),
        jax.random.key_data(key),
    )
    shared = replicate(numbers, mesh)
    totals: dict[str, np.ndarray] = {}
    for start in range(0, len(images), size):
        rows = np.arange(start, start + size)
        batch = images[np.minimum(rows, len(images) - 1)]  # the last is filled up; what fills it counts for nothing
        counted = (rows < len(images)).astype(np.float32)
        sums = _pooled_sums(
            *shared,
            *place((batch, rows.astype(np.uint32), counted), PartitionSpec("data"), mesh),
            unet=target.unet,
            prediction_type=target.schedule.prediction_type,
            layers=layers,
            dtype=compute_dtype(precision),
        )
        for layer in layers:
            totals[layer] = totals.get(layer, 0.0) + np.asarray(sums[layer], np.float64)
    return {layer: total / len(images) for layer, total in totals.items()}


@functools.partial(jax.jit, static_argnames=("unet", "prediction_type", "layers", "dtype"))
def _pooled_sums(
    params: Any,
    alpha_bar: jax.Array,
    timesteps: jax.Array,
    key_data: jax.Array,
    images: jax.Array,
    indices: jax.Array,
    counted: jax.Array,
    *,
    unet: UNet,
    prediction_type: str,
    layers: tuple[str, ...],
    dtype: DTypeLike,
) -> dict[str, jax.Array]:
    """Layer -> sum over the images that count of the activations' mean over space, float32 [W, C]."""
    keys = index_keys(jax.random.wrap_key_data(key_data), indices)
    eps_fn: Any = functools.partial(
        predict_eps, unet, params, alpha_bar, prediction_type, classes=draw_classes(unet, keys), dtype=dtype
    )

    def at(t: jax.Array) -> dict[str, jax.Array]:
        noise = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, t), images.shape[1:]))(keys)
        t_all = jnp.full(len(images), t)
        _, found = tap(eps_fn, layers)(add_noise(to_float(images), noise, alpha_bar[t_all]), t_all)
        means = {layer: h.astype(jnp.float32).mean((1, 2)) for layer, h in found.items()}  # pooled over space
        return {layer: (mean * counted[:, None]).sum(0) for layer, mean in means.items()}

    return jax.lax.map(at, timesteps)
