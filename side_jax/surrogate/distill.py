"""Time-dependent knowledge distillation, TDKD (seed 002, §3.3.2, Eq. 11)."""

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.typing import Collection, VariableDict
from jaxtyping import Array, Float

from side_jax.diffusion.guide import Guide
from side_jax.diffusion.objective import sample_timesteps
from side_jax.diffusion.process import Process
from side_jax.diffusion.sample import to_float
from side_jax.runtime import preemption
from side_jax.runtime.batching import in_batches
from side_jax.runtime.sharding import index_keys
from side_jax.runtime.training import LossFn, random_flip
from side_jax.surrogate.exact import ExactGuide
from side_jax.surrogate.resnet import ResNet

AGREEMENT_SHARE = 10  # one image in so many measures a guide's agreement and is not trained on
AGREEMENT_LEVELS = 10  # noise levels at which it is measured
AGREEMENT_BATCH = 256  # images on the device at once


def kl_divergence(p: Float[Array, "n k"], log_q: Float[Array, "n k"]) -> Float[Array, " n"]:
    """D_KL(p ‖ q) per row: probabilities [N, K], log probabilities [N, K] -> [N]. 0 log 0 counts as 0."""
    log_p = jnp.log(jnp.where(p > 0, p, 1.0))
    return (p * (log_p - log_q)).sum(-1)


class Known(NamedTuple):
    """The inputs of a student's training that never change: its `frozen`.

    Attributes:
      process: α and σ.
      posterior: the exact guide, whose p^t(y|x_t) the student learns instead of p(y|x). The minimiser of Eq. (11) is
        the same, and the targets are without the noise that they have at x. None: p(y|x), as in the paper.
      density: how often each t is drawn, float32 [T], sums to 1. None: uniformly, as in the paper.
    """

    process: Process
    posterior: ExactGuide | None = None
    density: jax.Array | None = None


def undecided_density(agreement: Mapping[int, float], num_timesteps: int) -> np.ndarray:
    """A density of t, half uniform and half where the exact guide is undecided: ∝ a (1 − a), a its agreement at t.

    Args:
      agreement: of the exact guide, by timestep (`agreement_by_noise`).
      num_timesteps: T.

    Returns:
      float32 [T].
    """
    a = np.interp(np.arange(num_timesteps), list(agreement), list(agreement.values()))
    undecided = a * (1 - a)
    share = undecided / undecided.sum() if undecided.any() else np.full(num_timesteps, 1 / num_timesteps)
    return (0.5 * share + 0.5 / num_timesteps).astype(np.float32)


@functools.cache  # so that a program is compiled once in a process
def distill_loss(net: ResNet, flip: bool) -> LossFn:
    """A guide's loss on {"image": uint8 [N, H, W, C], "target": float [N, K] or int [N]}.

    D_KL(p(y|x) ‖ p^t(y|x_t)) with t uniform, Eq. (11); for hard targets that is the cross-entropy. A time-independent
    net sees x instead of x_t. `frozen` is a `Known`, which may replace targets or the density of t.
    """

    def loss(
        params: Collection, model_state: VariableDict, key: jax.Array, batch: Mapping[str, jax.Array], frozen: Known
    ) -> tuple[jax.Array, tuple[VariableDict, dict[str, jax.Array]]]:
        process, posterior, density = frozen
        flip_key, t_key, eps_key = jax.random.split(key, 3)
        x = to_float(batch["image"])
        x = random_flip(flip_key, x) if flip else x
        t = None
        if net.time_conditioned:
            t = sample_timesteps(t_key, x.shape[0], len(process.alpha_bar))
            if density is not None:
                t = jax.random.categorical(t_key, jnp.log(density), shape=(x.shape[0],)).astype(jnp.int32)
            x = process.add_noise(x, jax.random.normal(eps_key, x.shape), t)
        logits, updated = net.apply({"params": params, **model_state}, x, t, train=True, mutable=["batch_stats"])
        target = batch["target"]
        if posterior is not None and t is not None:
            target = jnp.exp(posterior.log_prob(x, t))
        hard = jnp.issubdtype(target.dtype, jnp.integer)
        if hard:
            divergence = optax.softmax_cross_entropy_with_integer_labels(logits, target).mean()
        else:
            divergence = kl_divergence(target, nn.log_softmax(logits, axis=-1)).mean()  # Eq. (11)
        agreement = (logits.argmax(-1) == (target if hard else target.argmax(-1))).mean()
        return divergence, (updated, {"agreement": agreement})

    return loss


def agreement_by_noise(
    guide: Guide,
    images: np.ndarray,
    labels: np.ndarray,
    process: Process,
    timesteps: Sequence[int],
    key: jax.Array,
) -> dict[int, float]:
    """Share of images that a guide gives their label, by timestep.

    Args:
      guide: sees x_t, also if it is time-independent. Its arrays are arguments of the compiled program.
      images: uint8 [N, H, W, C].
      labels: the top class of each, int32 [N].
      process: α and σ.
      timesteps: noise levels.
      key: the noise of image i is from fold_in(key, i), at every level the same.

    Raises:
      Preempted: between two batches, if this process has been asked to stop.
    """
    guide = jax.device_put(guide)  # once for all batches
    agreed = dict.fromkeys(timesteps, 0)
    for rows in in_batches(len(images), min(AGREEMENT_BATCH, len(images))):
        real = np.unique(rows)
        for t in timesteps:
            preemption.check()
            top = _top(guide, images[rows], process, key, rows.astype(np.uint32), jnp.int32(t))
            agreed[t] += int((np.asarray(top)[: len(real)] == labels[real]).sum())
    return {t: count / len(images) for t, count in agreed.items()}


@jax.jit
def _top(
    guide: Guide, images: jax.Array, process: Process, key: jax.Array, indices: jax.Array, t: jax.Array
) -> jax.Array:
    """The most probable class of each image with the noise of its own key, int32 [N]."""
    noise = jax.vmap(lambda key: jax.random.normal(key, images.shape[1:]))(index_keys(key, indices))
    times = jnp.full(images.shape[:1], t)
    return guide.log_prob(process.add_noise(to_float(images), noise, times), times).argmax(-1)
