"""The model under audit: a UNet, its weights and its noise schedule."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from side_jax.diffusion.objective import ddpm_loss
from side_jax.diffusion.prediction import Prediction, to_prediction
from side_jax.diffusion.process import Process
from side_jax.diffusion.sample import to_float
from side_jax.diffusion.schedule import Schedule
from side_jax.models.unet import UNet
from side_jax.training import LossFn, random_flip


@dataclasses.dataclass(frozen=True)
class Target:
    """A diffusion model as the sampler needs it.

    Attributes:
      unet: the architecture.
      params: its weights (EMA, if it was trained with one).
      schedule: noise schedule.
      clip_x0: its scheduler clips x̂₀ to [−clip_x0, clip_x0] while sampling; None: it does not.
      facts: what its manifest says about its training, {} if it has none.
    """

    unet: UNet
    params: Any
    schedule: Schedule
    clip_x0: float | None = 1.0
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of its images."""
        size = self.unet.sample_size
        if size is None:
            raise ValueError("the target's config has no sample_size; add it to its config.json")
        return (size, size, self.unet.in_channels)

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

    def denoise(self, x_t: jax.Array, t: jax.Array, classes: jax.Array | None = None) -> Prediction:
        """x̂₀, not clipped, and ε̂. As `eps`."""
        process, kind = self.schedule.process(), self.schedule.prediction_type
        return predict(self.unet, self.params, process, kind, x_t, t, classes)


def predict(
    unet: UNet,
    params: Any,
    process: Process,
    prediction_type: str,
    x_t: jax.Array,
    t: jax.Array,
    classes: jax.Array | None = None,
    dtype: DTypeLike = jnp.float32,
) -> Prediction:
    """`Target.denoise` of a target in pieces, so that a compiled program need not hold its weights as constants.

    The UNet's blocks run in `dtype`; x_t, x̂₀ and ε̂ are float32.
    """
    output: Any = unet.apply({"params": params}, x_t, t, classes, dtype=dtype)
    return to_prediction(output, jnp.asarray(x_t), *process.at(t), prediction_type)


def target_loss(unet: UNet, schedule: Schedule, flip: bool) -> LossFn:
    """The DDPM objective on a batch {"image": uint8 [N, H, W, C]}."""
    process = schedule.process()

    def loss(params: Any, model_state: Any, key: jax.Array, batch: Any, frozen: Any) -> tuple[jax.Array, Any]:
        flip_key, dropout_key, noise_key = jax.random.split(key, 3)
        x0 = to_float(batch["image"])
        if flip:
            x0 = random_flip(flip_key, x0)

        def eps_fn(x_t: jax.Array, t: jax.Array) -> jax.Array:
            rngs = {"dropout": dropout_key}
            eps: Any = unet.apply({"params": params}, x_t, t, deterministic=False, rngs=rngs)
            return eps

        return ddpm_loss(eps_fn, noise_key, x0, process), (model_state, {})

    return loss
