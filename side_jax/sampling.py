"""Images from a target, guided or not. Image n depends on (seed, n) and the model alone (DESIGN §5)."""

import dataclasses
import functools
import math
from collections.abc import Hashable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import DTypeLike

from side_jax.diffusion.prediction import Denoise
from side_jax.diffusion.process import Process, Steps
from side_jax.diffusion.sample import sample as sample_from_noise
from side_jax.diffusion.sample import to_uint8
from side_jax.diffusion.solvers import Solver
from side_jax.diffusion.solvers.ddim import DDIM
from side_jax.diffusion.transforms import CLIP_ORDERS, fold, guide
from side_jax.models.unet import UNet
from side_jax.precision import compute_dtype
from side_jax.representation.steering import Steering, steer
from side_jax.sharding import index_keys, local_mesh, place, replicate, stage_key
from side_jax.surrogate.draw import CLASS_DRAW, draw_balanced, draw_labels
from side_jax.surrogate.guide import Guide
from side_jax.target import Target, predict


def draw_classes(unet: UNet, keys: jax.Array) -> jax.Array | None:
    """The class in which a class-conditional target generates each image, int32 [N]; None for any other target."""
    return None if unet.num_class_embeds is None else draw_labels(keys, unet.num_class_embeds, CLASS_DRAW)


_DDIM = DDIM()


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How images are made, without the numbers: hashable, a static argument.

    Attributes:
      unet, prediction_type: of the target.
      image_shape: (H, W, C).
      solver: how a step is taken.
      clip: one of `CLIP_ORDERS`.
      limit: x̂₀ is clipped to [−limit, limit]; None: not.
      dtype: of the networks.
    """

    unet: UNet
    prediction_type: str
    image_shape: tuple[int, int, int]
    solver: Solver
    clip: str
    limit: float | None
    dtype: DTypeLike


class Weights(NamedTuple):
    """The numbers: UNet and guide (None for unguided images), process, steps, and the stage's key as raw data.

    `steering` is None, or layer -> vectors [S, C], and α: traced, as λ is.
    """

    params: Any
    guide: Any
    process: Process
    steps: Steps
    key_data: jax.Array
    steering: tuple[dict[str, jax.Array], jax.Array] | None = None

    def layout(self) -> "Weights":
        """In the place of every array how it lies over the devices: on each, but for the set of an exact guide."""
        one = jax.tree.map(lambda _: PartitionSpec(), self._replace(guide=None))
        return one._replace(guide=self.guide.layout() if self.guide else None)


def generate(recipe: Recipe, weights: Weights, indices: jax.Array, labels: jax.Array, lam: jax.Array) -> jax.Array:
    """Images by index: the pure function that every program of the sampler is made of.

    Args:
      recipe: what is static.
      weights: arrays.
      indices: uint32 [N].
      labels: int32 [N], classes to guide to; not used without a guide.
      lam: λ of Eq. (10), float32 scalar. Traced, as labels are: one program serves a whole sweep.

    Returns:
      uint8 [N, H, W, C].
    """
    keys = index_keys(jax.random.wrap_key_data(weights.key_data), indices)
    classes = draw_classes(recipe.unet, keys)
    denoise: Denoise = functools.partial(
        predict,
        recipe.unet,
        weights.params,
        weights.process,
        recipe.prediction_type,
        classes=classes,
        dtype=recipe.dtype,
    )
    if weights.steering is not None:
        vectors, alpha = weights.steering
        denoise = steer(denoise, vectors, weights.steps.t.t, alpha)

    def guidance(denoise: Denoise) -> Denoise:
        if weights.guide is None:
            return denoise
        gradient = functools.partial(weights.guide.in_dtype(recipe.dtype).gradient, labels=labels)
        return guide(denoise, gradient, weights.process, lam)

    denoise = fold(denoise, recipe.clip, recipe.limit, weights.process, guidance)
    return to_uint8(sample_from_noise(denoise, recipe.solver, keys, recipe.image_shape, weights.steps))


@functools.partial(jax.jit, static_argnames=("recipe", "mesh"))
def _sample_batch(
    weights: Weights, indices: jax.Array, labels: jax.Array, lam: jax.Array, *, recipe: Recipe, mesh: Mesh
) -> jax.Array:
    """`generate`, each device on its own rows."""
    one, many = PartitionSpec(), PartitionSpec("data")
    program = jax.shard_map(
        functools.partial(generate, recipe),
        mesh=mesh,
        in_specs=(weights.layout(), many, many, one),
        out_specs=many,
        check_vma=False,
    )
    return program(weights, indices, labels, lam)


class Sampler:
    """One target, one guide and one set of sampling options, for images by index at any λ.

    Args:
      target: the model.
      key: the stage's key (`stage_key`).
      num_steps: steps of the solver.
      solver: how a step is taken.
      batch_size: images per call of the compiled program, rounded up to a multiple of the devices. Changes speed and
        memory only.
      guide: for λ > 0, if any; its arrays are placed already if its set is sharded.
      mesh: the devices to run on; those of this process if not given.
      precision: of the networks (`compute_dtype`).
      steering: what to add to the target's layers for a weight other than 0, if anything.
      clip: one of `CLIP_ORDERS`.
      draw: of classes: "uniform", each image's independently, or "balanced" (`draw_balanced`).

    Attributes:
      mesh: the devices.
    """

    def __init__(
        self,
        target: Target,
        key: jax.Array,
        num_steps: int,
        solver: Solver = _DDIM,
        batch_size: int = 64,
        guide: Guide | None = None,
        mesh: Mesh | None = None,
        precision: str = "auto",
        steering: Steering | None = None,
        clip: str = CLIP_ORDERS[0],
        draw: str = "uniform",
    ) -> None:
        if steering is not None:
            steering.check(target, num_steps)
        self.mesh = mesh or local_mesh()
        self.batch_size = batch_size
        schedule = target.schedule
        self._recipe = Recipe(
            target.unet,
            schedule.prediction_type,
            target.image_shape,
            solver,
            clip,
            target.clip_x0,
            compute_dtype(precision),
        )
        weights = Weights(target.params, None, schedule.process(), schedule.steps(num_steps), jax.random.key_data(key))
        self._key, self._draw = key, draw
        self._weights = replicate(weights, self.mesh)
        self._guide = (
            jax.tree.map(lambda array, spec: place(array, spec, self.mesh), guide, guide.layout()) if guide else None
        )
        self._vectors = replicate(dict(steering.vectors), self.mesh) if steering else None

    @property
    def batch_size(self) -> int:
        """As rounded; may be set at any time."""
        return self._batch_size

    @batch_size.setter
    def batch_size(self, size: int) -> None:
        self._batch_size = -(-size // self.mesh.size) * self.mesh.size

    def program(self, scale: float, steering_weight: float = 0.0) -> tuple[Recipe, Weights]:
        """What `generate` needs at λ = `scale` and α = `steering_weight`.

        λ = 0 is the unguided and α = 0 the unsteered program: what is not used costs nothing, and changes no bit.

        Raises:
          ValueError: if `scale` is below 0, or above 0 without a guide; if `steering_weight` is not finite, or not 0
            without steering.
        """
        if scale < 0 or (scale > 0 and self._guide is None):
            raise ValueError(f"scale must be 0 without a guide and 0 or more with one, got {scale}")
        if not math.isfinite(steering_weight) or (steering_weight and self._vectors is None):
            raise ValueError(f"steering_weight must be 0 without steering and finite with it, got {steering_weight}")
        weights = self._weights
        if steering_weight and self._vectors is not None:
            weights = weights._replace(steering=(self._vectors, jnp.float32(steering_weight)))
        return self._recipe, weights._replace(guide=self._guide if scale > 0 else None)

    def signature(self, scale: float) -> Hashable:
        """What the compiled program at λ = `scale` depends on, but for the batch."""
        recipe, weights = self.program(scale)
        return recipe, jax.tree.structure(weights), tuple(leaf.shape for leaf in jax.tree.leaves(weights))

    def draw(self, indices: np.ndarray, scale: float) -> np.ndarray:
        """The class that each image is guided to, by the image's index alone: int32 [N]; −1 for unguided images."""
        if self._guide is None or scale == 0:
            return np.full(len(indices), -1, np.int32)
        if self._draw == "balanced":
            return draw_balanced(self._key, indices, self._guide.num_classes)
        keys = index_keys(self._key, np.asarray(indices, np.uint32))
        return np.asarray(draw_labels(keys, self._guide.num_classes))

    def place(self, rows: np.ndarray) -> jax.Array:
        """One batch of per-image values, split over the devices."""
        return place(rows, PartitionSpec("data"), self.mesh)

    def __call__(
        self, indices: np.ndarray, scale: float, labels: np.ndarray | None = None, steering_weight: float = 0.0
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields (indices, uint8 images) batch by batch; `labels` int32 [N], drawn if not given."""
        recipe, weights = self.program(scale, steering_weight)
        labels = self.draw(indices, scale) if labels is None else labels
        for start in range(0, len(indices), self.batch_size):
            batch = indices[start : start + self.batch_size]
            # The last batch is filled up with its last image, so that one program serves all batches.
            padded = np.pad(np.arange(start, start + len(batch)), (0, self.batch_size - len(batch)), mode="edge")
            images = _sample_batch(
                weights,
                self.place(indices[padded].astype(np.uint32)),
                self.place(labels[padded]),
                jnp.float32(scale),
                recipe=recipe,
                mesh=self.mesh,
            )
            yield batch, np.asarray(images)[: len(batch)]

    def lower(self, batch_size: int, scale: float) -> jax.stages.Lowered:
        """The program for a batch of so many images, ready to compile; nothing is run."""
        recipe, weights = self.program(scale)
        indices, labels = self.abstract(batch_size, np.uint32), self.abstract(batch_size, np.int32)
        return _sample_batch.lower(weights, indices, labels, jnp.float32(scale), recipe=recipe, mesh=self.mesh)

    def abstract(self, batch_size: int, dtype: Any) -> jax.ShapeDtypeStruct:
        """What `place` would give for one value per image."""
        return jax.ShapeDtypeStruct((batch_size,), dtype, sharding=NamedSharding(self.mesh, PartitionSpec("data")))


def sample(
    target: Target,
    num_images: int = 16,
    seed: int = 0,
    num_steps: int = 50,
    *,
    guide: Guide | None = None,
    labels: int | np.ndarray | None = None,
    scale: float = 0.0,
    eta: float = 0.0,
    first_index: int = 0,
    batch_size: int = 64,
    precision: str = "auto",
    steering: Steering | None = None,
    steering_weight: float = 0.0,
    clip: str = CLIP_ORDERS[0],
) -> np.ndarray:
    """Generates images first_index … first_index + num_images − 1 of the endless sequence that `seed` defines.

    Image n depends on (seed, n), the model and the options that change an image; not on batch size, on how many images
    are asked for, or on the number of devices (but for float rounding). An audit with the same seed generates the same.
    A class-conditional target draws the class of image n uniformly from the image's own key, at every λ the same.

    Args:
      target: from `load_target`.
      num_images: N, at least 1.
      seed: 0 or more.
      num_steps: DDIM steps, 1 … T.
      guide: from `load_classifier` or `exact_guide`; needed if `scale` > 0.
      labels: class to guide to, one for all or one per image; None draws one from each image's key.
      scale: λ of Eq. (10); 0 is unguided.
      eta: DDIM's η, in [0, 1].
      first_index: index of the first image.
      batch_size: images per call of the compiled program.
      precision: of the networks: "float32", "bfloat16", or "auto", bfloat16 on GPU and TPU and float32 on CPU. The
        sampler's own arithmetic is float32 always.
      steering: from `steering_vectors`, for this target and as many steps; needed if `steering_weight` is not 0.
      steering_weight: α of h + α (mean(positive) − mean(negative)); 0 is no steering, below 0 steers away from the
        positive set. The noise of an image is the same at every α.
      clip: where x̂₀ is clipped, if the target's scheduler clips: "before_guide", "after_guide" (as a guided ε̂ passed to
        diffusers' scheduler), "consistent" (as guided-diffusion; ε̂ is recomputed) or "none".

    Returns:
      uint8 [N, H, W, C].

    Raises:
      ValueError: for a value out of range, naming it.
    """
    for name, value, least in (
        ("num_images", num_images, 1),
        ("batch_size", batch_size, 1),
        ("seed", seed, 0),
        ("first_index", first_index, 0),
    ):
        if value < least:
            raise ValueError(f"sample: {name} must be at least {least}, got {value}")
    if not 0 <= eta <= 1:
        raise ValueError(f"sample: eta must be in [0, 1], got {eta}")
    if clip not in CLIP_ORDERS:
        raise ValueError(f"sample: clip must be one of {', '.join(CLIP_ORDERS)}, got {clip!r}")
    chosen = None
    if labels is not None:
        if guide is None:
            raise ValueError(f"sample: labels={labels!r} without a guide")
        chosen = np.broadcast_to(np.asarray(labels, np.int32), (num_images,))
        if chosen.min() < 0 or chosen.max() >= guide.num_classes:
            raise ValueError(f"sample: labels must be in 0 … {guide.num_classes - 1}, got {labels!r}")
    size, key = min(batch_size, num_images), stage_key(seed, "extract")
    solver = DDIM(float(eta))
    sampler = Sampler(target, key, num_steps, solver, size, guide, None, precision, steering, clip)
    indices = np.arange(first_index, first_index + num_images)
    return np.concatenate([images for _, images in sampler(indices, scale, chosen, steering_weight)])
