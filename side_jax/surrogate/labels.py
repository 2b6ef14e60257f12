"""Pseudo-labels y_I for the synthetic images (seed 002, §3.3.1), soft or hard."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax
import scipy.sparse.csgraph
import scipy.special
from flax.typing import Collection, VariableDict

from side_jax.diffusion.sample import to_float
from side_jax.runtime.batching import batched
from side_jax.runtime.training import LossFn, random_flip
from side_jax.surrogate.resnet import ResNet

_BATCH = 256


@dataclasses.dataclass(frozen=True)
class Labels:
    """One label per image, soft or hard, and facts of the clusters that they come from.

    Attributes:
      labels: int32 [N], the (most probable) class; −1 for an image of no class (`repeat_labels`).
      num_classes: K.
      probs: float32 [N, K], rows sum to 1; None for hard labels.
      cohesion: float32 [K₀], mean cosine of each cluster's members to its centre; [0] for other sources.
      kept: bool [K₀], clusters that survived; K = kept.sum().
    """

    labels: np.ndarray
    num_classes: int
    probs: np.ndarray | None = None
    cohesion: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.float32))
    kept: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, bool))

    @classmethod
    def soft(cls, probs: np.ndarray, **facts: np.ndarray) -> "Labels":
        """From p(y | x), [N, K]."""
        return cls(probs.argmax(1).astype(np.int32), probs.shape[1], probs.astype(np.float32), **facts)

    @property
    def targets(self) -> np.ndarray:
        """The targets of a guide's training: float32 [N, K] for KL, or int32 [N] for cross-entropy."""
        return self.labels if self.probs is None else self.probs


def unique_labels(num_images: int) -> Labels:
    """Each image is its own class: "random labels" in seed 002, §4.2, "one sample assigned with one unique label"."""
    return Labels(np.arange(num_images, dtype=np.int32), num_images)


@functools.cache  # so that a program is compiled once in a process
def teacher_loss(net: ResNet, flip: bool) -> LossFn:
    """Cross-entropy of the teacher on {"image": uint8 [N, H, W, C], "label": int32 [N]}."""

    def loss(
        params: Collection, model_state: VariableDict, key: jax.Array, batch: Mapping[str, jax.Array], frozen: None
    ) -> tuple[jax.Array, tuple[VariableDict, dict[str, jax.Array]]]:
        x = to_float(batch["image"])
        x = random_flip(key, x) if flip else x
        logits, updated = net.apply({"params": params, **model_state}, x, train=True, mutable=["batch_stats"])
        cross_entropy = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()
        accuracy = (logits.argmax(-1) == batch["label"]).mean()
        return cross_entropy, (updated, {"accuracy": accuracy})

    return loss


def classifier_labels(net: ResNet, variables: VariableDict, images: np.ndarray) -> Labels:
    """The teacher's p(y | x) for uint8 images [N, H, W, C]."""
    size = min(_BATCH, len(images))
    return Labels.soft(batched(lambda batch: _probabilities(net, variables, batch), images, size))


@functools.partial(jax.jit, static_argnames=("net",))
def _probabilities(net: ResNet, variables: VariableDict, images: jax.Array) -> jax.Array:
    logits: Any = net.apply(variables, to_float(images))
    return nn.softmax(logits, axis=-1)


def cluster_labels(
    descriptors: np.ndarray, num_clusters: int, cohesion: float, seed: int, temperature: float = 0.1
) -> Labels:
    """k-means labels without any training data (arXiv 2410.02467v7).

    Clusters whose members' mean cosine to the centre is below `cohesion` are dropped; then every image goes to its
    nearest surviving centre.

    Args:
      descriptors: unit rows, float32 [N, D], of the synthetic images.
      num_clusters: K before dropping.
      cohesion: τ.
      seed: of the k-means initialisation.
      temperature: the soft labels are softmax(cosine to the surviving centres / temperature).

    Raises:
      ValueError: if there are fewer images than clusters, or fewer than 2 clusters survive.
    """
    from sklearn.cluster import KMeans

    if num_clusters > len(descriptors):
        raise ValueError(f"labels.num_clusters {num_clusters} is more than the {len(descriptors)} synthetic images")
    fitted = KMeans(num_clusters, n_init=4, random_state=seed).fit(descriptors)
    centres = fitted.cluster_centers_
    centres = centres / np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)
    cosine = descriptors @ centres.T  # [N, K]
    own = cosine[np.arange(len(cosine)), fitted.labels_]
    totals = np.bincount(fitted.labels_, own, num_clusters)
    members = np.bincount(fitted.labels_, minlength=num_clusters)
    mean_cosine = totals / np.maximum(members, 1)
    kept = mean_cosine >= cohesion
    if kept.sum() < 2:
        raise ValueError(
            f"labels.cohesion {cohesion} leaves {int(kept.sum())} of {num_clusters} clusters; the highest mean cosine"
            f" is {mean_cosine.max():.3f}. Lower it"
        )
    probs = scipy.special.softmax(cosine[:, kept] / temperature, axis=1)
    return Labels.soft(probs, cohesion=mean_cosine.astype(np.float32), kept=kept)


def repeat_labels(repeats: Sequence[np.ndarray], threshold: float) -> Labels:
    """One class for each picture that the model makes again and again: no training data, and no number of clusters.

    Images whose descriptors have a cosine of `threshold` or more are repeats of each other, directly or by a chain.
    A group of two or more is a class; every other image has none, −1. A model has likely memorized the images that it
    repeats (Carlini et al. 2023, section 4.2, who look for cliques of such images).

    Args:
      repeats: for each of N images, the positions of those with a cosine of `threshold` or more, itself among them.
      threshold: for the error.

    Raises:
      ValueError: if there are fewer than 2 groups.
    """
    count = len(repeats)
    rows = np.repeat(np.arange(count), [len(indices) for indices in repeats])
    edges = (np.ones(len(rows), bool), (rows, np.concatenate(repeats)))
    graph = scipy.sparse.coo_array(edges, shape=(count, count))
    _, group = scipy.sparse.csgraph.connected_components(graph, directed=False)
    repeated = np.bincount(group) >= 2
    if repeated.sum() < 2:
        raise ValueError(
            f"labels.repeat {threshold} leaves {int(repeated.sum())} groups of repeated images among {count}"
            " synthetic ones; lower it, or raise synthesize.num_images"
        )
    numbers = np.where(repeated, np.cumsum(repeated) - 1, -1)
    return Labels(numbers[group].astype(np.int32), int(repeated.sum()))
