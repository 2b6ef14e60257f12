"""Time-dependent knowledge distillation, TDKD (seed 002, §3.3.2, Eq. 11)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from side_jax.diffusion.sample import to_float
from side_jax.diffusion.objective import sample_timesteps
from side_jax.diffusion.process import Process
from side_jax.models.resnet import ResNet
from side_jax.surrogate.classifier import Classifier
from side_jax.training import LossFn, random_flip


def kl_divergence(p: Float[Array, "n k"], log_q: Float[Array, "n k"]) -> Float[Array, " n"]:
    """D_KL(p ‖ q) per row: probabilities [N, K], log probabilities [N, K] -> [N]. 0 log 0 counts as 0."""
    log_p = jnp.log(jnp.where(p > 0, p, 1.0))
    return (p * (log_p - log_q)).sum(-1)


def distill_loss(net: ResNet, process: Process, flip: bool) -> LossFn:
    """What a guide learns, on {"image": uint8 [N, H, W, C], "target": float [N, K] or int [N]}.

    D_KL(p(y|x) ‖ p^t(y|x_t)) with t uniform, Eq. (11); for hard targets that is the cross-entropy. A time-independent
    net sees x instead of x_t.
    """

    def loss(params: Any, model_state: Any, key: jax.Array, batch: Any, frozen: Any) -> tuple[jax.Array, Any]:
        flip_key, t_key, eps_key = jax.random.split(key, 3)
        x = to_float(batch["image"])
        x = random_flip(flip_key, x) if flip else x
        t = None
        if net.time_conditioned:
            t = sample_timesteps(t_key, x.shape[0], len(process.alpha_bar))
            x = process.add_noise(x, jax.random.normal(eps_key, x.shape), t)
        logits, updated = net.apply({"params": params, **model_state}, x, t, train=True, mutable=["batch_stats"])
        target = batch["target"]
        hard = jnp.issubdtype(target.dtype, jnp.integer)
        if hard:
            divergence = optax.softmax_cross_entropy_with_integer_labels(logits, target).mean()
        else:
            divergence = kl_divergence(target, nn.log_softmax(logits, axis=-1)).mean()  # Eq. (11)
        agreement = (logits.argmax(-1) == (target if hard else target.argmax(-1))).mean()
        return divergence, (updated, {"agreement": agreement})

    return loss


def agreement_by_noise(
    student: Classifier,
    images: np.ndarray,
    labels: np.ndarray,
    process: Process,
    timesteps: tuple[int, ...],
    key: jax.Array,
) -> dict[int, float]:
    """Share of images that the student gives their label, by timestep.

    Args:
      student: p^t(y | x_t), or a time-independent p(y | x) to be shown x_t.
      images: uint8 [N, H, W, C].
      labels: the top class of each, int32 [N].
      process: α and σ.
      timesteps: noise levels to look at.
      key: of the noise, the same at every level.
    """

    @jax.jit
    def agreement(variables: Any, x: jax.Array, eps: jax.Array, t: jax.Array) -> jax.Array:
        t = jnp.full(x.shape[:1], t)
        x_t = process.add_noise(x, eps, t)
        top = Classifier(student.net, variables).log_prob(x_t, t).argmax(-1)
        return (top == jnp.asarray(labels)).mean()

    x = to_float(jnp.asarray(images))
    eps = jax.random.normal(key, x.shape)
    return {t: float(agreement(student.variables, x, eps, jnp.int32(t))) for t in timesteps}
