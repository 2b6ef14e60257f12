"""The exact guide: the minimiser of Eq. (11) on a finite labelled set, in closed form (DESIGN §4).

    p^t(y | x_t) = Σ_i w_i p(y | x_i),      w_i ∝ N(x_t; α_t x_i, σ_t² I)

It is the surrogate that TDKD can at best become. Its gradient needs no autodiff: with w_i^c ∝ w_i p(c | x_i),

    ∇_{x_t} log p^t(c | x_t) = α_t / σ_t² (Σ_i w_i^c x_i − Σ_i w_i x_i).

The set is passed in blocks, with running log-sum-exps in float32; shares of a sharded set are merged in the same way.
"""

import dataclasses
import math
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from side_jax.diffusion.process import Process
from side_jax.diffusion.sample import to_float
from side_jax.runtime.batching import ROWS, WHOLE
from side_jax.runtime.sharding import place
from side_jax.targets.target import Target

BLOCK = 8192  # images of the set at once
Rows = tuple[jax.Array, ...]  # images, half_norms and labels of a block
_NOTHING = -1e30  # the logarithm of 0, finite so that differences stay numbers


@flax.struct.dataclass
class ExactGuide:
    """p^t(y | x_t) of M labelled images: a pytree. Rows are padded to whole blocks.

    Attributes:
      images: uint8 [M', P], P = H W C.
      centre: about the mean image, float32 [P]: smaller norms, less cancellation.
      half_norms: ½‖x_i‖² of the centred images, float32 [M']; infinite in the padding.
      labels: the class of each image, int32 [M'], −1 for none; or log p(y | x_i), float32 [M', K].
      process: α and σ.
      num_classes: K.
      block: images of the set at once.
      axis: mesh axis over which the set is sharded, inside `shard_map`; None: every device has all of it.
    """

    images: jax.Array
    centre: jax.Array
    half_norms: jax.Array
    labels: jax.Array
    process: Process
    num_classes: int = flax.struct.field(pytree_node=False)
    block: int = flax.struct.field(pytree_node=False)
    axis: str | None = flax.struct.field(pytree_node=False, default=None)

    def in_dtype(self, dtype: DTypeLike) -> "ExactGuide":  # noqa: ARG002
        """As it is: log-sum-exps of squared distances need float32."""
        return self

    def layout(self) -> "ExactGuide":
        """As `Guide.layout`."""
        whole = jax.tree.map(lambda _: WHOLE, self)
        if self.axis is None:
            return whole
        rows: Any = ROWS
        return dataclasses.replace(whole, images=rows, half_norms=rows, labels=rows)

    def log_prob(self, x_t: Float[Array, "n h w c"], t: Int[Array, " n"]) -> Float[Array, "n k"]:
        """log p^t(y | x_t), as `Guide.log_prob`. The set must not be sharded."""
        assert self.axis is None, "log_prob of a sharded set"
        noisy = self._centred(x_t, t)

        def one(rows: Rows) -> jax.Array:
            log_w = self._log_weights(noisy, rows)
            total = jax.nn.logsumexp(log_w, axis=1, keepdims=True)
            return jnp.concatenate([_by_class(log_w, rows[2], self.num_classes), total], axis=1)

        joint = one(self._rows) if self._whole else jax.nn.logsumexp(lax.map(one, self._blocks), axis=0)
        return joint[:, :-1] - joint[:, -1:]

    def gradient(
        self, x_t: Float[Array, "n h w c"], t: Int[Array, " n"], labels: Int[Array, " n"]
    ) -> Float[Array, "n h w c"]:
        """α_t / σ_t² (Σ_i w_i^c x_i − Σ_i w_i x_i), as `Guide.gradient`. Without autodiff."""
        if self.axis is not None:
            x_t, t, labels = (lax.all_gather(rows, self.axis, tiled=True) for rows in (x_t, t, labels))
        noisy = self._centred(x_t, t)
        x, scale, _ = noisy

        def log_weights(rows: Rows) -> jax.Array:
            """log w_i^c and log w_i, each up to a constant: [2, N, B]."""
            log_w = self._log_weights(noisy, rows)
            return jnp.stack([log_w + _log_of_class(rows[2], labels), log_w])

        def difference(logs: jax.Array, normaliser: jax.Array, rows: Rows) -> jax.Array:
            """Σ w^c x − Σ w x over a block."""
            w_c, w = jnp.exp(logs - normaliser[:, :, None])
            return _matmul(w_c - w, to_float(rows[0]) - self.centre[None])

        if self._whole:  # the weights are computed once
            logs = log_weights(self._rows)
            normaliser = self._merged(jax.nn.logsumexp(logs, axis=2))
            moved = difference(logs, normaliser, self._rows)
        else:
            sums = lax.map(lambda rows: jax.nn.logsumexp(log_weights(rows), axis=2), self._blocks)
            normaliser = self._merged(jax.nn.logsumexp(sums, axis=0))

            def add(so_far: jax.Array, rows: Rows) -> tuple[jax.Array, None]:
                return so_far + difference(log_weights(rows), normaliser, rows), None

            moved, _ = lax.scan(add, jnp.zeros_like(x), self._blocks)
        g = scale * moved
        if self.axis is not None:
            g = lax.psum_scatter(g, self.axis, tiled=True)
        return g.reshape(-1, *x_t.shape[1:])

    def _centred(self, x_t: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """x_t − α_t μ, [N, P], α_t / σ_t² and α_t, [N, 1]."""
        alpha, sigma = (level.reshape(-1, 1) for level in self.process.at(t))
        return x_t.reshape(len(x_t), -1) - alpha * self.centre[None], alpha / sigma**2, alpha

    def _log_weights(self, noisy: tuple[jax.Array, jax.Array, jax.Array], rows: Rows) -> jax.Array:
        """−‖x − α x_i‖² / (2 σ²) + ‖x‖² / (2 σ²) = α/σ² (x·x_i − ½ α ‖x_i‖²): [N, B]."""
        x, scale, alpha = noisy
        images, half_norms, _ = rows
        products = _matmul(x, (to_float(images) - self.centre[None]).T)
        return jnp.where(jnp.isinf(half_norms)[None], _NOTHING, scale * (products - alpha * half_norms[None]))

    @property
    def _rows(self) -> Rows:
        return self.images, self.half_norms, self.labels

    @property
    def _blocks(self) -> Rows:
        return tuple(rows.reshape(-1, self.block, *rows.shape[1:]) for rows in self._rows)

    @property
    def _whole(self) -> bool:
        """True if the set, or this device's share of it, is one block."""
        return len(self.images) == self.block

    def _merged(self, normaliser: jax.Array) -> jax.Array:
        """Logarithms of sums over this device's share as those over the whole set."""
        if self.axis is None:
            return normaliser
        highest = lax.pmax(normaliser, self.axis)
        return highest + jnp.log(lax.psum(jnp.exp(normaliser - highest), self.axis))


def _matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """In full float32 on every device: a logit is a difference of large numbers."""
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def _log_of_class(labels: jax.Array, classes: jax.Array) -> jax.Array:
    """log p(c | x_i) for the class c of each of N images: [N, B]."""
    if jnp.issubdtype(labels.dtype, jnp.integer):
        return jnp.where(labels[None, :] == classes[:, None], 0.0, _NOTHING)
    return labels.T[classes]


def _by_class(log_w: jax.Array, labels: jax.Array, num_classes: int) -> jax.Array:
    """log Σ_i w_i p(k | x_i) of every class k: [N, B] -> [N, K]. No array is [N, B, K]."""
    if jnp.issubdtype(labels.dtype, jnp.integer):
        labels = jnp.where(labels < 0, num_classes, labels)  # a class of its own, which is left out
        highest = jnp.maximum(jax.ops.segment_max(log_w.T, labels, num_classes + 1), _NOTHING)  # [K + 1, N]
        total = jax.ops.segment_sum(jnp.exp(log_w.T - highest[labels]), labels, num_classes + 1)
        return (highest + jnp.log(jnp.maximum(total, jnp.finfo(jnp.float32).tiny)))[:-1].T
    return lax.map(lambda log_p: jax.nn.logsumexp(log_w + log_p[None], axis=1), labels.T).T


def exact_guide(target: Target, images: np.ndarray, labels: np.ndarray, *, block: int = BLOCK) -> ExactGuide:
    """The best guide that training on a labelled set could give (Eq. 11), without training.

    Args:
      target: from `load_target`; its schedule says how noise is added.
      images: uint8 [N, H, W, C]: synthetic images; or photos, for the bound, which no surrogate is.
      labels: the class of each image, int [N] in 0 … K − 1, or −1 for none: the image then only competes with the
        others; or p(y | x), float [N, K], rows that sum to 1.
      block: images of the set at once; fewer take less memory. Changes results by rounding only.

    Returns:
      A guide for `sample(…, guide=…)`; `guide.log_prob(x_t, t)` is log p^t(y | x_t), float32 [N, K].

    Raises:
      ValueError: for images that are not the target's, labels that do not fit them, or a class without an image.

    Example:
      >>> import numpy as np, side_jax
      >>> target = side_jax.load_target("assets/orl_target")
      >>> images = side_jax.sample(target, num_images=4, num_steps=2)
      >>> guide = side_jax.exact_guide(target, images, np.array([0, 0, 1, 1]))
      >>> side_jax.sample(target, num_images=2, num_steps=2, guide=guide, labels=1, scale=4.0).shape
      (2, 32, 32, 1)
    """
    target.check_images(images, "exact_guide: images")
    if block < 1:
        raise ValueError(f"exact_guide: block must be at least 1, got {block}")
    labels = check_labels(images, np.asarray(labels), "exact_guide")
    return make_exact_guide(images, labels, target.schedule.process(), block)


def check_labels(images: np.ndarray, labels: np.ndarray, what: str, num_classes: int = 0) -> np.ndarray:
    """Labels as the guide keeps them: int32 [N] or float32 [N, K]. Raises `ValueError`, beginning with `what`.

    Each of `num_classes` needs an image; hard labels alone do not say that a last class is missing.
    """
    if not len(images) or len(labels) != len(images):
        raise ValueError(f"{what}: {len(images)} images and {len(labels)} labels; give one label for each image")
    hard = labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer)
    if hard:
        known = labels.min() >= -1 and labels.max() >= 0
        present = np.bincount(labels[labels >= 0], minlength=num_classes) > 0
    else:
        known = labels.ndim == 2 and bool(np.isfinite(labels).all()) and labels.min() >= 0
        known = known and bool(np.allclose(labels.sum(1), 1, atol=1e-3))
        present = (labels > 0).any(0) if known else np.zeros(1, bool)
    if not known:
        raise ValueError(
            f"{what}: labels must be classes from 0 (or −1 for none), int [N], or probabilities, float [N, K] with rows"
            f" that sum to 1, got {labels.dtype} {list(labels.shape)}"
        )
    if not present.all():
        raise ValueError(
            f"{what}: class {int((~present).argmax())} of {len(present)} has no image; number the classes anew"
        )
    return labels.astype(np.int32 if hard else np.float32)


def make_exact_guide(
    images: np.ndarray,
    labels: np.ndarray,
    process: Process,
    block: int = BLOCK,
    mesh: Mesh | None = None,
    sharded: bool = False,
) -> ExactGuide:
    """`exact_guide` from checked parts; with a mesh, its arrays on those devices.

    Args:
      images: uint8 [N, H, W, C].
      labels: int32 [N] or float32 [N, K], from `check_labels`.
      process: α and σ.
      block: images of the set at once.
      mesh: devices; None is the default device.
      sharded: every device gets an equal share of the set, instead of all of it.
    """
    shards = mesh.size if mesh and sharded else 1
    block = min(block, -(-len(images) // shards))
    rows = shards * block * -(-len(images) // (shards * block))
    flat = images.reshape(len(images), math.prod(images.shape[1:]))
    centre = (flat[:: max(1, len(flat) // 4096)].mean(0, dtype=np.float64) / 127.5 - 1).astype(np.float32)
    half_norms = np.full(rows, np.inf, np.float32)
    for start in range(0, len(flat), block):
        x = flat[start : start + block].astype(np.float32) / np.float32(127.5) - 1 - centre
        half_norms[start : start + len(x)] = 0.5 * np.square(x).sum(1)
    if labels.ndim == 2:
        num_classes = labels.shape[1]
        labels = np.where(labels > 0, np.log(np.maximum(labels, 1e-44)), _NOTHING).astype(np.float32)
    else:
        num_classes = int(labels.max()) + 1
    pad = (0, rows - len(flat))
    labels = np.pad(labels, (pad, *((0, 0),) * (labels.ndim - 1)))
    padded = np.pad(flat, (pad, (0, 0)))
    axis = "data" if mesh and sharded else None
    guide = ExactGuide(padded, centre, half_norms, labels, process, num_classes, block, axis)  # type: ignore[arg-type]
    if mesh is None:
        return jax.tree.map(jnp.asarray, guide)
    return jax.tree.map(lambda array, spec: place(array, spec, mesh), guide, guide.layout())
