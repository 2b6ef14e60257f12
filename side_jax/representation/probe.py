"""What a target says of given images at a noise level: one forward program, in batches, on the devices of this process.

What is measured is a function; noise of image i is from its own key, so that no result depends on the batch.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jax.typing import DTypeLike

from side_jax import preemption
from side_jax.diffusion.process import Process
from side_jax.diffusion.sample import to_float
from side_jax.models.unet import UNet
from side_jax.precision import compute_dtype
from side_jax.sampling import draw_classes
from side_jax.sharding import index_keys, local_mesh, place, replicate
from side_jax.target import Target, predict

# (denoise, x0 [N, H, W, C], noise ε like x0, t int32 [N], process, *extra) -> a pytree of float32 [N, ...]; hashable
Measure = Callable[..., Any]


@dataclasses.dataclass(frozen=True)
class _Recipe:
    """What is static."""

    unet: UNet
    prediction_type: str
    dtype: DTypeLike
    measure: Measure


class _Weights(NamedTuple):
    """The numbers; the key as raw data."""

    params: Any
    process: Process
    key_data: jax.Array
    extra: tuple[Any, ...]


def _measure(
    recipe: _Recipe,
    weights: _Weights,
    images: jax.Array,
    indices: jax.Array,
    classes: jax.Array,
    t: jax.Array,
    draw: jax.Array,
) -> Any:
    keys = index_keys(jax.random.wrap_key_data(weights.key_data), indices)
    noise = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, draw), images.shape[1:]))(keys)
    denoise = functools.partial(
        predict,
        recipe.unet,
        weights.params,
        weights.process,
        recipe.prediction_type,
        classes=None if recipe.unet.num_class_embeds is None else classes,
        dtype=recipe.dtype,
    )
    times = jnp.full(len(images), t)
    return recipe.measure(denoise, to_float(images), noise, times, weights.process, *weights.extra)


@functools.partial(jax.jit, static_argnames=("recipe", "mesh"))
def _measure_batch(
    weights: _Weights,
    images: jax.Array,
    indices: jax.Array,
    classes: jax.Array,
    t: jax.Array,
    draw: jax.Array,
    *,
    recipe: _Recipe,
    mesh: Mesh,
) -> Any:
    """`_measure`, each device on its own rows."""
    one, many = PartitionSpec(), PartitionSpec("data")
    program = jax.shard_map(
        functools.partial(_measure, recipe),
        mesh=mesh,
        in_specs=(one, many, many, many, one, one),
        out_specs=many,
        check_vma=False,
    )
    return program(weights, images, indices, classes, t, draw)


class Probe:
    """One measurement of one target, for any images, noise levels and draws of the noise.

    Args:
      target: the model.
      measure: what is measured; one program is compiled for it and serves every t and draw.
      key: the noise of image i is from fold_in(key, i); draw k of it from fold_in(fold_in(key, i), k), at every t the
        same.
      batch_size: images per call of the program, rounded up to a multiple of the devices. Changes speed and memory.
      mesh: the devices; those of this process if not given.
      precision: of the network (`compute_dtype`).
      extra: pytrees of arrays that `measure` needs besides, for its last arguments.
    """

    def __init__(
        self,
        target: Target,
        measure: Measure,
        key: jax.Array,
        batch_size: int = 64,
        mesh: Mesh | None = None,
        precision: str = "auto",
        extra: tuple[Any, ...] = (),
    ) -> None:
        self._mesh = mesh or local_mesh()
        self._batch_size = -(-batch_size // self._mesh.size) * self._mesh.size
        schedule = target.schedule
        self._recipe = _Recipe(target.unet, schedule.prediction_type, compute_dtype(precision), measure)
        weights = _Weights(target.params, schedule.process(), jax.random.key_data(key), extra)
        self._weights = replicate(weights, self._mesh)

    def __call__(
        self, images: np.ndarray, indices: np.ndarray, t: int, draw: int = 0, classes: np.ndarray | None = None
    ) -> Any:
        """Measures images at one noise level with one draw of the noise.

        Args:
          images: uint8 [N, H, W, C].
          indices: of the images, int [N].
          t: timestep.
          draw: which draw of the noise.
          classes: int32 [N], for a class-conditional target, and only for one.

        Returns:
          The measure's pytree of arrays [N, ...].
        """
        classes = np.zeros(len(images), np.int32) if classes is None else classes
        found = []
        for start in range(0, len(images), self._batch_size):
            preemption.check()
            size = min(self._batch_size, len(images) - start)
            # The last batch is filled up with its last image, so that one program serves all batches.
            rows = np.pad(np.arange(start, start + size), (0, self._batch_size - size), mode="edge")
            batch = images[rows], indices[rows].astype(np.uint32), classes[rows].astype(np.int32)
            placed = place(batch, PartitionSpec("data"), self._mesh)
            measured = _measure_batch(
                self._weights, *placed, jnp.int32(t), jnp.int32(draw), recipe=self._recipe, mesh=self._mesh
            )
            found.append(jax.tree.map(lambda leaf, size=size: np.asarray(leaf)[:size], measured))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *found)


def generation_classes(target: Target, key: jax.Array, indices: np.ndarray) -> np.ndarray | None:
    """The class in which a class-conditional target generated each image of a stage with this key; else None."""
    classes = draw_classes(target.unet, index_keys(key, indices))
    return None if classes is None else np.asarray(classes)


def check_images(
    target: Target,
    images: np.ndarray,
    classes: np.ndarray | None,
    timesteps: tuple[int, ...],
    name: str = "images",
) -> None:
    """Raises `ValueError`, naming what does not fit the target: images, called `name`, classes or timesteps."""
    if getattr(images, "dtype", None) != np.uint8 or images.ndim != 4 or images.shape[1:] != target.image_shape:
        found = f"{images.dtype} {list(images.shape)}" if hasattr(images, "dtype") else type(images).__name__
        raise ValueError(f"{name} must be uint8 [N, {', '.join(map(str, target.image_shape))}], got {found}")
    if not len(images):
        raise ValueError(f"{name} is empty; at least 1 is needed")
    check_timesteps(timesteps, target.schedule.num_train_timesteps)
    count = target.unet.num_class_embeds
    if classes is None:
        return
    if count is None:
        raise ValueError("classes were given, but the target is not class-conditional; leave them out")
    if np.shape(classes) != (len(images),) or np.min(classes) < 0 or np.max(classes) >= count:
        raise ValueError(f"classes must be {len(images)} numbers in 0 … {count - 1}, got {classes!r}")


def check_timesteps(timesteps: tuple[int, ...], num_train_timesteps: int, field: str = "timesteps") -> None:
    """Raises `ValueError`, naming the field, for a t outside 0 … T − 1, or none at all."""
    outside = [t for t in timesteps if not 0 <= t < num_train_timesteps]
    if outside or not timesteps:
        what = f"t = {outside[0]}" if outside else "none"
        raise ValueError(f"{field} must be in 0 … {num_train_timesteps - 1}, got {what}")
