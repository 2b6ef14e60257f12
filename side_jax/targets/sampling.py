"""Images from a target, guided or not. Image n depends on (seed, n) and the model alone (DESIGN §5)."""

import dataclasses
import functools
import math
from collections.abc import Hashable, Iterator

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import DTypeLike

from side_jax.diffusion.guide import Guide
from side_jax.diffusion.prediction import Denoise
from side_jax.diffusion.process import Steps
from side_jax.diffusion.sample import sample as sample_from_noise
from side_jax.diffusion.sample import to_uint8
from side_jax.diffusion.solvers import Solver
from side_jax.diffusion.solvers.ddim import DDIM
from side_jax.diffusion.transforms import CLIP_ORDERS, Gradient, fold, guide, within
from side_jax.runtime.batching import ROWS, WHOLE, in_batches, over_devices
from side_jax.runtime.precision import compute_dtype
from side_jax.runtime.sharding import OverMesh, index_keys, local_mesh, place, replicate, stage_key
from side_jax.targets.draw import CLASS_DRAW, draw_balanced, draw_labels
from side_jax.targets.steering import Steering, steer, steered_steps
from side_jax.targets.target import Target


def draw_classes(target: Target, keys: jax.Array) -> jax.Array | None:
    """The class in which a class-conditional target generates each image, int32 [N]; None for any other target."""
    if target.net.num_classes is None:
        return None
    if target.classes is None:
        return draw_labels(keys, target.net.num_classes, CLASS_DRAW)
    return jnp.asarray(target.classes, jnp.int32)[draw_labels(keys, len(target.classes), CLASS_DRAW)]


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Options of sampling, for every guide.

    Attributes:
      num_steps: steps of the solver.
      solver: how a step is taken.
      clip: one of `CLIP_ORDERS`.
      precision: of the networks (`compute_dtype`).
      draw: of classes: "uniform", each image's independently, or "balanced" (`draw_balanced`).
      window: from which to which share of the steps images are guided (`steered_steps`).
      batch_size: images per call of the compiled program, rounded up to a multiple of the devices. Changes speed and
        memory only.
    """

    num_steps: int
    solver: Solver = dataclasses.field(default_factory=DDIM)
    clip: str = CLIP_ORDERS[0]
    precision: str = "auto"
    draw: str = "uniform"
    window: tuple[float, float] = (0.0, 1.0)
    batch_size: int = 64


@flax.struct.dataclass
class Generator:
    """Generates images by index: a pytree and pure function, from which every program of the sampler is made.

    Attributes:
      target: the model, without facts and notes.
      guide: None for unguided images.
      steps: of the solver.
      key_data: the stage's key as raw data.
      steering: None, or layer -> vectors [S, C], and α: traced, as λ is.
      window: None, or the first and the last timestep at which images are guided, int32 [2].
      solver: how a step is taken.
      clip: one of `CLIP_ORDERS`.
      dtype: of the networks.
    """

    target: Target
    guide: Guide | None
    steps: Steps
    key_data: jax.Array
    steering: tuple[dict[str, jax.Array], jax.Array] | None
    window: jax.Array | None
    solver: Solver = flax.struct.field(pytree_node=False)
    clip: str = flax.struct.field(pytree_node=False)
    dtype: DTypeLike = flax.struct.field(pytree_node=False)

    def layout(self) -> "Generator":
        """The layout of every array over the devices: on each, except the set of an exact guide."""
        one = jax.tree.map(lambda _: WHOLE, dataclasses.replace(self, guide=None))
        return dataclasses.replace(one, guide=self.guide.layout() if self.guide else None)

    def __call__(self, indices: jax.Array, labels: jax.Array, lam: jax.Array) -> jax.Array:
        """Generates.

        Args:
          indices: uint32 [N].
          labels: int32 [N], classes to guide to; not used without a guide.
          lam: λ of Eq. (10), float32 scalar. Traced, as labels are: one program serves a whole sweep.

        Returns:
          uint8 [N, H, W, C].
        """
        denoise, keys = self.prepared(indices, labels, lam)
        return to_uint8(sample_from_noise(denoise, self.solver, keys, self.target.image_shape, self.steps))

    def prepared(self, indices: jax.Array, labels: jax.Array, lam: jax.Array) -> tuple[Denoise, jax.Array]:
        """The target with all transforms folded into it, and the key of each image, for the arguments of a call."""
        target, process = self.target, self.target.schedule.process()
        keys = index_keys(jax.random.wrap_key_data(self.key_data), indices)
        classes = draw_classes(target, keys)
        denoise: Denoise = functools.partial(target.denoise, classes=classes, dtype=self.dtype)
        if self.steering is not None:
            vectors, alpha = self.steering
            denoise = steer(denoise, vectors, self.steps.t.t, alpha)

        def guidance(denoise: Denoise) -> Denoise:
            if self.guide is None:
                return denoise
            gradient: Gradient = functools.partial(self.guide.in_dtype(self.dtype).gradient, labels=labels)
            if self.window is not None:
                gradient = within(gradient, self.window[0], self.window[1])
            return guide(denoise, gradient, process, lam)

        return fold(denoise, self.clip, target.clip_x0, process, guidance), keys


@functools.partial(jax.jit, static_argnames=("mesh",))
def _sample_batch(
    generator: Generator, indices: jax.Array, labels: jax.Array, lam: jax.Array, *, mesh: Mesh
) -> jax.Array:
    """Generates a batch, each device its own rows."""
    program = over_devices(Generator.__call__, mesh, (generator.layout(), ROWS, ROWS, WHOLE))
    images: jax.Array = program(generator, indices, labels, lam)
    return images


def _window(target: Target, sampling: Sampling) -> jax.Array | None:
    """The first and the last timestep of the sampling's window, noisiest first; None if every step is guided."""
    if sampling.window == (0.0, 1.0):
        return None
    steps = steered_steps(sampling.window, sampling.num_steps)
    timesteps = target.schedule.ddim_timesteps(sampling.num_steps)
    return jnp.array([timesteps[steps.start], timesteps[steps.stop - 1]], jnp.int32)


class Sampler(OverMesh):
    """One target, one guide and one set of sampling options, for images by index at any λ.

    Args:
      target: the model.
      key: the stage's key (`stage_key`).
      sampling: how images are made.
      guide: for λ > 0, if any; its arrays are placed already if its set is sharded.
      steering: what to add to the target's layers for a weight other than 0, if anything.
      mesh: the devices to run on; those of this process if not given.

    Attributes:
      mesh: the devices.
    """

    def __init__(
        self,
        target: Target,
        key: jax.Array,
        sampling: Sampling,
        guide: Guide | None = None,
        steering: Steering | None = None,
        mesh: Mesh | None = None,
    ) -> None:
        if steering is not None:
            steering.check(target, sampling.num_steps)
        self.mesh = mesh or local_mesh()
        self.batch_size = sampling.batch_size
        self._key, self._draw = key, sampling.draw
        generator = Generator(
            target.unsaid(),
            None,
            target.schedule.steps(sampling.num_steps),
            jax.random.key_data(key),
            None,
            _window(target, sampling),
            sampling.solver,
            sampling.clip,
            compute_dtype(sampling.precision),
        )
        self._generator = replicate(generator, self.mesh)
        self._guide = (
            jax.tree.map(lambda array, spec: place(array, spec, self.mesh), guide, guide.layout()) if guide else None
        )
        self._vectors = replicate(dict(steering.vectors), self.mesh) if steering else None

    def generator(self, scale: float, steering_weight: float = 0.0) -> Generator:
        """What makes images at λ = `scale` and α = `steering_weight`.

        λ = 0 is the unguided and α = 0 the unsteered program: what is not used costs nothing, and changes no bit.

        Raises:
          ValueError: if `scale` is below 0, or above 0 without a guide; if `steering_weight` is not finite, or not 0
            without steering.
        """
        if scale < 0 or (scale > 0 and self._guide is None):
            raise ValueError(f"scale must be 0 without a guide and 0 or more with one, got {scale}")
        if not math.isfinite(steering_weight) or (steering_weight and self._vectors is None):
            raise ValueError(f"steering_weight must be 0 without steering and finite with it, got {steering_weight}")
        steering = (self._vectors, jnp.float32(steering_weight)) if steering_weight else None
        guide = self._guide if scale > 0 else None
        return dataclasses.replace(self._generator, guide=guide, steering=steering)

    def batch(self, indices: np.ndarray, scale: float) -> Generator:  # noqa: ARG002
        """`generator`: the same for every batch."""
        return self.generator(scale)

    def abstract_batch(self, batch_size: int, scale: float) -> Generator:  # noqa: ARG002
        """`generator`: the same for every batch."""
        return self.generator(scale)

    def signature(self, scale: float) -> Hashable:
        """Everything that the compiled program at λ = `scale` depends on, except the batch."""
        leaves, structure = jax.tree.flatten(self.generator(scale))
        return structure, tuple(leaf.shape for leaf in leaves)

    def draw(self, indices: np.ndarray, scale: float) -> np.ndarray:
        """The class that each image is guided to, by the image's index alone: int32 [N]; −1 for unguided images."""
        if self._guide is None or scale == 0:
            return np.full(len(indices), -1, np.int32)
        if self._draw == "balanced":
            return draw_balanced(self._key, indices, self._guide.num_classes)
        keys = index_keys(self._key, np.asarray(indices, np.uint32))
        return np.asarray(draw_labels(keys, self._guide.num_classes))

    def __call__(
        self, indices: np.ndarray, scale: float, labels: np.ndarray | None = None, steering_weight: float = 0.0
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields (indices, uint8 images) batch by batch; `labels` int32 [N], drawn if not given."""
        generator = self.generator(scale, steering_weight)
        labels = self.draw(indices, scale) if labels is None else labels
        for places in in_batches(len(indices), self.batch_size):
            rows = self.place(indices[places].astype(np.uint32)), self.place(labels[places])
            images = _sample_batch(generator, *rows, jnp.float32(scale), mesh=self.mesh)
            batch = indices[places[0] : places[0] + self.batch_size]
            yield batch, np.asarray(images)[: len(batch)]

    def lower(self, batch_size: int, scale: float) -> jax.stages.Lowered:
        """The lowered program for a batch of `batch_size` images; nothing is run."""
        rows = self.abstract(batch_size, np.uint32), self.abstract(batch_size, np.int32)
        return _sample_batch.lower(self.generator(scale), *rows, jnp.float32(scale), mesh=self.mesh)


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

    Example:
      >>> import numpy as np, side_jax
      >>> target = side_jax.load_target("assets/orl_target")
      >>> images = side_jax.sample(target, num_images=3, num_steps=2)
      >>> images.shape, images.dtype
      ((3, 32, 32, 1), dtype('uint8'))
      >>> bool((side_jax.sample(target, num_images=1, num_steps=2, first_index=2)[0] == images[2]).mean() > 0.99)
      True
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
    how = Sampling(num_steps, DDIM(float(eta)), clip, precision, batch_size=min(batch_size, num_images))
    sampler = Sampler(target, stage_key(seed, "extract"), how, guide, steering)
    indices = np.arange(first_index, first_index + num_images)
    return np.concatenate([images for _, images in sampler(indices, scale, chosen, steering_weight)])
