"""The model under audit: a UNet, its weights and its noise schedule."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from side_jax.diffusion.ddim import to_float
from side_jax.diffusion.objective import ddpm_loss
from side_jax.diffusion.prediction import to_eps
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
      clip_x0: clip x̂₀ to [−clip_x0, clip_x0] while sampling; None does not.
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
        alpha_bar = jnp.asarray(self.schedule.alpha_bar())
        return predict_eps(self.unet, self.params, alpha_bar, self.schedule.prediction_type, x_t, t, classes)


def predict_eps(
    unet: UNet,
    params: Any,
    alpha_bar: jax.Array,
    prediction_type: str,
    x_t: jax.Array,
    t: jax.Array,
    classes: jax.Array | None = None,
    dtype: DTypeLike = jnp.float32,
) -> jax.Array:
    """`Target.eps` of a target in pieces, so that a compiled program need not hold its weights as constants.

    The UNet's blocks run in `dtype`; x_t and ε̂ are float32.
    """
    output: Any = unet.apply({"params": params}, x_t, t, classes, dtype=dtype)
    return to_eps(output, jnp.asarray(x_t), alpha_bar[t], prediction_type)


def target_loss(unet: UNet, schedule: Schedule, flip: bool) -> LossFn:
    """The DDPM objective on a batch {"image": uint8 [N, H, W, C]}."""
    alpha_bar = schedule.alpha_bar()

    def loss(params: Any, model_state: Any, key: jax.Array, batch: Any, frozen: Any) -> tuple[jax.Array, Any]:
        flip_key, dropout_key, noise_key = jax.random.split(key, 3)
        x0 = to_float(batch["image"])
        if flip:
            x0 = random_flip(flip_key, x0)

        def eps_fn(x_t: jax.Array, t: jax.Array) -> jax.Array:
            rngs = {"dropout": dropout_key}
            eps: Any = unet.apply({"params": params}, x_t, t, deterministic=False, rngs=rngs)
            return eps

        return ddpm_loss(eps_fn, noise_key, x0, jnp.asarray(alpha_bar)), (model_state, {})

    return loss
