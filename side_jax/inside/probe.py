"""Measurements of a target on given images at a noise level: one forward program, on the devices of this process.

A measure is a function. The noise of an image is from its own key, so that no result depends on the batch.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import DTypeLike
from jaxtyping import PyTree

from side_jax.diffusion.sample import to_float
from side_jax.runtime.batching import ROWS, WHOLE, batched, over_devices
from side_jax.runtime.precision import compute_dtype
from side_jax.runtime.sharding import index_keys, local_mesh, place, replicate
from side_jax.targets.sampling import draw_classes
from side_jax.targets.target import Target

# (denoise, x0 [N, H, W, C], noise ε like x0, t int32 [N], process, *extra) -> a pytree of float32 [N, ...]; hashable
Measure = Callable[..., PyTree]


@flax.struct.dataclass
class _Measurement:
    """A measure and its arguments: a pytree, with the key as raw data."""

    target: Target
    key_data: jax.Array
    extra: tuple[PyTree, ...]
    measure: Measure = flax.struct.field(pytree_node=False)
    dtype: DTypeLike = flax.struct.field(pytree_node=False)

    def __call__(
        self, images: jax.Array, indices: jax.Array, classes: jax.Array, t: jax.Array, draw: jax.Array
    ) -> PyTree:
        keys = index_keys(jax.random.wrap_key_data(self.key_data), indices)
        noise = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, draw), images.shape[1:]))(keys)
        own = None if self.target.net.num_classes is None else classes
        denoise = functools.partial(self.target.denoise, classes=own, dtype=self.dtype)
        times, process = jnp.full(len(images), t), self.target.schedule.process()
        return self.measure(denoise, to_float(images), noise, times, process, *self.extra)


@functools.partial(jax.jit, static_argnames=("mesh",))
def _measure_batch(measurement: _Measurement, *rows: jax.Array, mesh: Mesh) -> PyTree:
    """Each device measures its own rows."""
    layouts = (WHOLE, ROWS, ROWS, ROWS, WHOLE, WHOLE)
    return over_devices(_Measurement.__call__, mesh, layouts)(measurement, *rows)


class IndexedImages(NamedTuple):
    """Images for a probe.

    Attributes:
      images: uint8 [N, H, W, C].
      indices: int [N]; they decide the noise of each image.
      classes: int32 [N] for a class-conditional target, None for any other.
    """

    images: np.ndarray
    indices: np.ndarray
    classes: np.ndarray | None = None


class Probe:
    """One measurement of one target, for any images, noise levels and draws of the noise.

    Args:
      target: the model.
      measure: one program is compiled for it and serves every t and draw.
      key: draw k of the noise of image i is from fold_in(fold_in(key, i), k), at every t the same.
      batch_size: images per call of the program, rounded up to a multiple of the devices. Changes speed and memory.
      precision: of the network (`compute_dtype`).
      extra: pytrees of arrays for the last arguments of `measure`.
    """

    def __init__(
        self,
        target: Target,
        measure: Measure,
        key: jax.Array,
        batch_size: int = 64,
        precision: str = "auto",
        extra: tuple[PyTree, ...] = (),
    ) -> None:
        self._mesh = local_mesh()
        self._batch_size = -(-batch_size // self._mesh.size) * self._mesh.size
        dtype, key_data = compute_dtype(precision), jax.random.key_data(key)
        measurement = _Measurement(target.unsaid(), key_data, extra, measure, dtype)
        self._measurement = replicate(measurement, self._mesh)

    def __call__(self, indexed: IndexedImages, t: int, draw: int = 0) -> PyTree:
        """Measures images at timestep t with one draw of the noise: the measure's pytree of arrays [N, ...]."""
        images, indices, classes = indexed
        classes = np.zeros(len(images), np.int32) if classes is None else classes
        rows = images, indices.astype(np.uint32), classes.astype(np.int32)

        def measure(batch: tuple[np.ndarray, ...]) -> PyTree:
            placed = place(batch, ROWS, self._mesh)
            return _measure_batch(self._measurement, *placed, jnp.int32(t), jnp.int32(draw), mesh=self._mesh)

        return batched(measure, rows, self._batch_size)


def generation_classes(target: Target, key: jax.Array, indices: np.ndarray) -> np.ndarray | None:
    """The class of each image that a class-conditional target generated with this key; None for any other target."""
    classes = draw_classes(target, index_keys(key, indices))
    return None if classes is None else np.asarray(classes)


def photo_classes(
    target: Target, labels: np.ndarray, key: jax.Array, indices: np.ndarray
) -> tuple[np.ndarray | None, str | None]:
    """Classes of photos for a class-conditional target, and their source: None and None for any other target.

    Their labels if the target has these classes, where label k is the k-th of `target.classes`, if that names some;
    else drawn, as for generated images.

    Args:
      target: the model.
      labels: int32 [N]; −1 for a photo without a class.
      key: the stage's.
      indices: int [N].
    """
    count = target.net.num_classes
    if count is None:
        return None, None
    known = np.arange(count) if target.classes is None else np.array(target.classes)
    if labels.min() >= 0 and labels.max() < len(known):
        return known[labels].astype(np.int32), "labels"
    return generation_classes(target, key, indices), "drawn"


def check_images(
    target: Target,
    images: np.ndarray,
    classes: np.ndarray | None,
    timesteps: tuple[int, ...],
    name: str = "images",
) -> None:
    """Raises `ValueError`, naming those that do not fit the target: images, called `name`, classes or timesteps."""
    target.check_images(images, name)
    if not len(images):
        raise ValueError(f"{name} is empty; at least 1 is needed")
    check_timesteps(timesteps, target.schedule.num_train_timesteps)
    count = target.net.num_classes
    if classes is None:
        return
    if count is None:
        raise ValueError("classes were given, but the target is not class-conditional; leave them out")
    if np.shape(classes) != (len(images),) or np.min(classes) < 0 or np.max(classes) >= count:
        raise ValueError(f"classes must be {len(images)} numbers in 0 … {count - 1}, got {classes!r}")


def check_timesteps(timesteps: tuple[int, ...], num_train_timesteps: int, field: str = "timesteps") -> None:
    """Raises `ValueError`, naming the field, for a t outside 0 … T − 1, or no t at all."""
    outside = [f"t = {t}" for t in timesteps if not 0 <= t < num_train_timesteps]
    if outside or not timesteps:
        raise ValueError(f"{field} must be in 0 … {num_train_timesteps - 1}, got {outside[0] if outside else 'none'}")
