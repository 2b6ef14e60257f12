"""Images from a target, guided or not. Image n depends on (seed, n) and the model alone (DESIGN §6)."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from side_jax.diffusion.ddim import ddim_sample, to_uint8
from side_jax.diffusion.guidance import guide as guide_eps
from side_jax.diffusion.schedule import DDIMSteps
from side_jax.models.resnet import ResNet
from side_jax.models.unet import UNet
from side_jax.precision import compute_dtype
from side_jax.sharding import index_keys, replicate, shard_batch, stage_key
from side_jax.surrogate.classifier import Classifier
from side_jax.target import Target, predict_eps

# Folded into an image's key for its label and its class; noise folds in the step number, far below.
_LABEL_DRAW = 2**31 - 1
_CLASS_DRAW = 2**31 - 2


def draw_labels(keys: jax.Array, num_classes: int, draw: int = _LABEL_DRAW) -> jax.Array:
    """One class per image, uniform, from the image's own key: int32 [N]. Another `draw` is independent of the first."""
    return jax.vmap(lambda key: jax.random.randint(jax.random.fold_in(key, draw), (), 0, num_classes))(keys)


@functools.partial(
    jax.jit, static_argnames=("unet", "prediction_type", "net", "image_shape", "eta", "clip_x0", "dtype")
)
def _sample_batch(
    params: Any,
    variables: Any,
    keys: jax.Array,
    labels: jax.Array,
    lam: jax.Array,
    alpha_bar: jax.Array,
    steps: DDIMSteps,
    *,
    unet: UNet,
    prediction_type: str,
    net: ResNet | None,
    image_shape: tuple[int, int, int],
    eta: float,
    clip_x0: float | None,
    dtype: DTypeLike,
) -> jax.Array:
    """uint8 [N, H, W, C]. Without `net` unguided; else λ and the labels are traced, one program for a whole sweep."""
    classes = None if unet.num_class_embeds is None else draw_labels(keys, unet.num_class_embeds, _CLASS_DRAW)
    eps_fn: Any = functools.partial(predict_eps, unet, params, alpha_bar, prediction_type, classes=classes, dtype=dtype)
    if net is not None:
        log_prob = functools.partial(Classifier(net, variables).log_prob, dtype=dtype)
        eps_fn = guide_eps(eps_fn, log_prob, alpha_bar, labels, lam)
    return to_uint8(ddim_sample(eps_fn, keys, image_shape, steps, eta, clip_x0))


class Sampler:
    """One target, one guide and one set of sampling options, for images by index at any λ.

    Args:
      target: the model.
      key: the stage's key (`stage_key`).
      num_steps: DDIM steps.
      eta: DDIM's η.
      batch_size: images per call of the compiled program. Changes speed and memory only.
      guide: the classifier for λ > 0, if any.
      precision: of the networks (`compute_dtype`).
    """

    def __init__(
        self,
        target: Target,
        key: jax.Array,
        num_steps: int,
        eta: float = 0.0,
        batch_size: int = 64,
        guide: Classifier | None = None,
        precision: str = "auto",
    ) -> None:
        steps = target.schedule.ddim_steps(num_steps)
        self._target = target
        self._key = key
        self._eta = float(eta)
        self._batch_size = batch_size
        self._guide = guide
        self._dtype = compute_dtype(precision)
        self._params = replicate(target.params)
        self._variables = replicate(guide.variables) if guide else None
        self._alpha_bar = replicate(target.schedule.alpha_bar())
        self._steps = replicate(steps)

    def labels(self, indices: np.ndarray) -> np.ndarray:
        """The class each image is guided to unless told otherwise; −1 without a guide. int32 [N]."""
        if self._guide is None:
            return np.full(len(indices), -1, np.int32)
        return np.asarray(draw_labels(index_keys(self._key, indices), self._guide.net.num_classes))

    def __call__(
        self, indices: np.ndarray, scale: float, labels: np.ndarray | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields (indices, uint8 images) batch by batch. λ = 0 runs the unguided program: the guide costs nothing.

        Raises:
          ValueError: if `scale` is below 0, or above 0 without a guide.
        """
        if scale < 0 or (scale > 0 and self._guide is None):
            raise ValueError(f"scale must be 0 without a guide and 0 or more with one, got {scale}")
        labels = self.labels(indices) if labels is None else labels
        net = self._guide.net if self._guide and scale > 0 else None
        for start in range(0, len(indices), self._batch_size):
            batch = indices[start : start + self._batch_size]
            # The last batch is filled up with its last image, so that one program serves all batches.
            padded = np.pad(np.arange(start, start + len(batch)), (0, self._batch_size - len(batch)), mode="edge")
            keys, c = shard_batch((index_keys(self._key, indices[padded]), labels[padded]))
            images = _sample_batch(
                self._params,
                self._variables if net else None,
                keys,
                c,
                jnp.float32(scale),
                self._alpha_bar,
                self._steps,
                unet=self._target.unet,
                prediction_type=self._target.schedule.prediction_type,
                net=net,
                image_shape=self._target.image_shape,
                eta=self._eta,
                clip_x0=self._target.clip_x0,
                dtype=self._dtype,
            )
            yield batch, np.asarray(images)[: len(batch)]


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
    size = min(batch_size, num_images)
    sampler = Sampler(target, stage_key(seed, "extract"), num_steps, eta, size, guide, precision)
    indices = np.arange(first_index, first_index + num_images)
    return np.concatenate([images for _, images in sampler(indices, scale, chosen)])
