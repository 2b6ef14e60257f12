"""The model under audit: a network, its weights and its noise schedule."""

import dataclasses
import functools

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import PyTree

from side_jax.diffusion.objective import ddpm_loss
from side_jax.diffusion.prediction import Prediction, to_prediction
from side_jax.diffusion.sample import to_float
from side_jax.diffusion.schedule import Schedule
from side_jax.runtime.training import LossFn, random_flip


class Network(nn.Module):
    """A network that denoises: (x_t, t, classes, deterministic, dtype) -> a prediction of `Schedule.prediction_type`.

    float32 [N, H, W, C], or [N, H, W, 2C] with a variance, which nothing here uses.
    """

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of its images."""
        raise NotImplementedError

    @property
    def num_classes(self) -> int | None:
        """Number of classes of a class-conditional network; None for any other."""
        return None

    def check(self, image_size: int, channels: int) -> None:
        """Raises `ValueError`, naming the option, if it cannot denoise [N, image_size, image_size, channels]."""
        raise NotImplementedError


class Facts(dict):
    """Facts of a manifest: a dict that is never changed, so that it can be static in a pytree."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self))


@flax.struct.dataclass
class Target:
    """A diffusion model as the sampler needs it: a pytree of its weights.

    Attributes:
      net: the architecture.
      params: its weights (EMA, if it was trained with one).
      schedule: noise schedule, and what the network predicts.
      clip_x0: its scheduler clips x̂₀ to [−clip_x0, clip_x0] while sampling; None: it does not.
      facts: what its manifest says about its training; nothing if it has none.
      notes: what was chosen among several things, or assumed, when it was read: sentences for the log and the report.
      classes: those of a class-conditional target that it generates; None: all.
    """

    net: Network = flax.struct.field(pytree_node=False)
    params: PyTree
    schedule: Schedule = flax.struct.field(pytree_node=False)
    clip_x0: float | None = flax.struct.field(pytree_node=False, default=1.0)
    facts: Facts = flax.struct.field(pytree_node=False, default_factory=Facts)
    notes: tuple[str, ...] = flax.struct.field(pytree_node=False, default=())
    classes: tuple[int, ...] | None = flax.struct.field(pytree_node=False, default=None)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of its images."""
        return self.net.image_shape

    def unsaid(self) -> "Target":
        """The model without facts and notes, so that one compiled program serves every model of an architecture."""
        return dataclasses.replace(self, facts=Facts(), notes=())

    def check_images(self, images: np.ndarray, name: str) -> None:
        """Raises `ValueError`, calling them `name`, unless images are uint8 [N, H, W, C] of the target's shape."""
        if getattr(images, "dtype", None) != np.uint8 or images.ndim != 4 or images.shape[1:] != self.image_shape:
            found = f"{images.dtype} {list(images.shape)}" if hasattr(images, "dtype") else type(images).__name__
            raise ValueError(f"{name} must be uint8 [N, {', '.join(map(str, self.image_shape))}], got {found}")

    def eps(self, x_t: jax.Array, t: jax.Array, classes: jax.Array | None = None) -> jax.Array:
        """The predicted noise ε_θ(x_t, t), whatever the network's prediction type, in float32. Pure, jittable.

        Args:
          x_t: float32 [N, H, W, C].
          t: int32 [N].
          classes: int32 [N], for a class-conditional target, and only for one.

        Returns:
          float32 [N, H, W, C].

        Raises:
          ValueError: if the target is class-conditional and `classes` are missing, or the other way round.
        """
        return self.denoise(x_t, t, classes).eps

    def denoise(
        self, x_t: jax.Array, t: jax.Array, classes: jax.Array | None = None, dtype: DTypeLike = jnp.float32
    ) -> Prediction:
        """x̂₀, not clipped, and ε̂, in float32; the network's blocks run in `dtype`. Arguments as for `eps`."""
        output: PyTree = self.net.apply({"params": self.params}, x_t, t, classes, dtype=dtype)
        alpha, sigma = self.schedule.process().at(t)
        return to_prediction(output, jnp.asarray(x_t), alpha, sigma, self.schedule.prediction_type)


@functools.cache  # a large network takes seconds to trace
def abstract_target(net: Network, schedule: Schedule) -> Target:
    """A target with abstract parameters: shapes and dtypes. Nothing is run."""
    x_t, one = jax.ShapeDtypeStruct((1, *net.image_shape), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32)
    classes = None if net.num_classes is None else one
    variables = jax.eval_shape(lambda: net.lazy_init(jax.random.key(0), x_t, one, classes))
    return Target(net, variables["params"], schedule)


@functools.cache  # so that a program is compiled once in a process
def target_loss(net: Network, schedule: Schedule, flip: bool) -> LossFn:
    """The DDPM objective on a batch {"image": uint8 [N, H, W, C]}."""
    process = schedule.process()

    def loss(
        params: PyTree, model_state: PyTree, key: jax.Array, batch: PyTree, frozen: PyTree
    ) -> tuple[jax.Array, PyTree]:
        flip_key, dropout_key, noise_key = jax.random.split(key, 3)
        x0 = to_float(batch["image"])
        if flip:
            x0 = random_flip(flip_key, x0)

        def eps_fn(x_t: jax.Array, t: jax.Array) -> jax.Array:
            rngs = {"dropout": dropout_key}
            eps: PyTree = net.apply({"params": params}, x_t, t, deterministic=False, rngs=rngs)
            return eps

        return ddpm_loss(eps_fn, noise_key, x0, process), (model_state, {})

    return loss
