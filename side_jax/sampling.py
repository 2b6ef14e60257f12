"""Images from a target, guided or not. Image n depends on (seed, n) and the model alone (DESIGN §6)."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import DTypeLike

from side_jax.diffusion.ddim import ddim_sample, to_uint8
from side_jax.diffusion.guidance import guide as guide_eps
from side_jax.diffusion.schedule import DDIMSteps
from side_jax.models.resnet import ResNet
from side_jax.models.unet import UNet
from side_jax.precision import compute_dtype
from side_jax.sharding import index_keys, local_mesh, place, replicate, stage_key
from side_jax.surrogate.classifier import Classifier
from side_jax.target import Target, predict_eps

# Folded into an image's key for its label and its class; noise folds in the step number, far below.
_LABEL_DRAW = 2**31 - 1
_CLASS_DRAW = 2**31 - 2
DRAWN = -1  # in the place of a label: draw it from the image's own key


def draw_labels(keys: jax.Array, num_classes: int, draw: int = _LABEL_DRAW) -> jax.Array:
    """One class per image, uniform, from the image's own key: int32 [N]. Another `draw` is independent of the first."""
    return jax.vmap(lambda key: jax.random.randint(jax.random.fold_in(key, draw), (), 0, num_classes))(keys)


def draw_classes(unet: UNet, keys: jax.Array) -> jax.Array | None:
    """The class in which a class-conditional target generates each image, int32 [N]; None for any other target."""
    return None if unet.num_class_embeds is None else draw_labels(keys, unet.num_class_embeds, _CLASS_DRAW)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How images are made, without the numbers: hashable, a static argument. `net` is None for unguided images."""

    unet: UNet
    prediction_type: str
    net: ResNet | None
    image_shape: tuple[int, int, int]
    eta: float
    clip_x0: float | None
    dtype: DTypeLike


class Weights(NamedTuple):
    """The numbers: UNet and guide (None for unguided images), schedule, and the stage's key as raw data."""

    params: Any
    variables: Any
    alpha_bar: jax.Array
    steps: DDIMSteps
    key_data: jax.Array


def generate(
    recipe: Recipe, weights: Weights, indices: jax.Array, labels: jax.Array, lam: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Images by index: the pure function that every program of the sampler is made of.

    Args:
      recipe: what is static.
      weights: arrays.
      indices: uint32 [N].
      labels: int32 [N], classes to guide to; `DRAWN` draws from the image's own key.
      lam: λ of Eq. (10), float32 scalar. Traced, as labels are: one program serves a whole sweep.

    Returns:
      uint8 [N, H, W, C], and the label of each: int32 [N], −1 if unguided.
    """
    keys = index_keys(jax.random.wrap_key_data(weights.key_data), indices)
    unet = recipe.unet
    classes = draw_classes(unet, keys)
    eps_fn: Any = functools.partial(
        predict_eps,
        unet,
        weights.params,
        weights.alpha_bar,
        recipe.prediction_type,
        classes=classes,
        dtype=recipe.dtype,
    )
    if recipe.net is None:
        labels = jnp.full_like(labels, -1)
    else:
        labels = jnp.where(labels == DRAWN, draw_labels(keys, recipe.net.num_classes), labels)
        log_prob = functools.partial(Classifier(recipe.net, weights.variables).log_prob, dtype=recipe.dtype)
        eps_fn = guide_eps(eps_fn, log_prob, weights.alpha_bar, labels, lam)
    x_0 = ddim_sample(eps_fn, keys, recipe.image_shape, weights.steps, recipe.eta, recipe.clip_x0)
    return to_uint8(x_0), labels


@functools.partial(jax.jit, static_argnames=("recipe", "mesh"))
def _sample_batch(
    weights: Weights, indices: jax.Array, labels: jax.Array, lam: jax.Array, *, recipe: Recipe, mesh: Mesh
) -> jax.Array:
    """`generate`, each device on its own rows."""
    one, many = PartitionSpec(), PartitionSpec("data")
    program = jax.shard_map(
        lambda *arguments: generate(recipe, *arguments)[0],
        mesh=mesh,
        in_specs=(one, many, many, one),
        out_specs=many,
        check_vma=False,
    )
    return program(weights, indices, labels, lam)


class Sampler:
    """One target, one guide and one set of sampling options, for images by index at any λ.

    Args:
      target: the model.
      key: the stage's key (`stage_key`).
      num_steps: DDIM steps.
      eta: DDIM's η.
      batch_size: images per call of the compiled program, rounded up to a multiple of the devices. Changes speed and
        memory only.
      guide: the classifier for λ > 0, if any.
      mesh: the devices to run on; those of this process if not given.
      precision: of the networks (`compute_dtype`).

    Attributes:
      mesh: the devices.
    """

    def __init__(
        self,
        target: Target,
        key: jax.Array,
        num_steps: int,
        eta: float = 0.0,
        batch_size: int = 64,
        guide: Classifier | None = None,
        mesh: Mesh | None = None,
        precision: str = "auto",
    ) -> None:
        self.mesh = mesh or local_mesh()
        self.batch_size = batch_size
        self._guide = guide
        schedule = target.schedule
        self._recipe = Recipe(
            target.unet,
            schedule.prediction_type,
            None,
            target.image_shape,
            float(eta),
            target.clip_x0,
            compute_dtype(precision),
        )
        steps = schedule.ddim_steps(num_steps)
        weights = Weights(target.params, None, jnp.asarray(schedule.alpha_bar()), steps, jax.random.key_data(key))
        self._weights = replicate(weights, self.mesh)
        self._variables = replicate(guide.variables, self.mesh) if guide else None

    @property
    def batch_size(self) -> int:
        """As rounded; may be set at any time."""
        return self._batch_size

    @batch_size.setter
    def batch_size(self, size: int) -> None:
        self._batch_size = -(-size // self.mesh.size) * self.mesh.size

    def program(self, scale: float) -> tuple[Recipe, Weights]:
        """What `generate` needs at λ = `scale`. λ = 0 is the unguided program: there the guide costs nothing.

        Raises:
          ValueError: if `scale` is below 0, or above 0 without a guide.
        """
        if scale < 0 or (scale > 0 and self._guide is None):
            raise ValueError(f"scale must be 0 without a guide and 0 or more with one, got {scale}")
        if self._guide is None or scale == 0:
            return self._recipe, self._weights
        guided = dataclasses.replace(self._recipe, net=self._guide.net)
        return guided, self._weights._replace(variables=self._variables)

    def place(self, rows: np.ndarray) -> jax.Array:
        """One batch of per-image values, split over the devices."""
        return place(rows, PartitionSpec("data"), self.mesh)

    def __call__(
        self, indices: np.ndarray, scale: float, labels: np.ndarray | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields (indices, uint8 images) batch by batch; `labels` as `generate` has them, drawn if not given."""
        recipe, weights = self.program(scale)
        labels = np.full(len(indices), DRAWN, np.int32) if labels is None else labels
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
    guide: Classifier | None = None,
    labels: int | np.ndarray | None = None,
    scale: float = 0.0,
    eta: float = 0.0,
    first_index: int = 0,
    batch_size: int = 64,
    precision: str = "auto",
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
      guide: from `load_classifier`; needed if `scale` > 0.
      labels: class to guide to, one for all or one per image; None draws one from each image's key.
      scale: λ of Eq. (10); 0 is unguided.
      eta: DDIM's η, in [0, 1].
      first_index: index of the first image.
      batch_size: images per call of the compiled program.
      precision: of the networks: "float32", "bfloat16", or "auto", bfloat16 on GPU and TPU and float32 on CPU. The
        sampler's own arithmetic is float32 always.

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
    chosen = None
    if labels is not None:
        if guide is None:
            raise ValueError(f"sample: labels={labels!r} without a guide")
        chosen = np.broadcast_to(np.asarray(labels, np.int32), (num_images,))
        if chosen.min() < 0 or chosen.max() >= guide.net.num_classes:
            raise ValueError(f"sample: labels must be in 0 … {guide.net.num_classes - 1}, got {labels!r}")
    sampler = Sampler(
        target, stage_key(seed, "extract"), num_steps, eta, min(batch_size, num_images), guide, precision=precision
    )
    indices = np.arange(first_index, first_index + num_images)
    return np.concatenate([images for _, images in sampler(indices, scale, chosen)])
