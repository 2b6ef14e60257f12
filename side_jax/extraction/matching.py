"""Exact nearest neighbours: a blocked, jitted matrix product and a running top k."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

_QUERY_BLOCK = 4096
_REFERENCE_BLOCK = 65536


class Matches(NamedTuple):
    """The best references of each query, best first; equal scores in order of index.

    Attributes:
      scores: float32 [N, k].
      indices: int32 [N, k].
    """

    scores: Float[np.ndarray, "n k"]
    indices: Int[np.ndarray, "n k"]


def dot_products(queries: Float[Array, "n d"], references: Float[Array, "m d"]) -> Float[Array, "n m"]:
    """[N, D], [M, D] -> [N, M], in full float32 on every device."""
    return jnp.matmul(queries, references.T, precision=lax.Precision.HIGHEST)


@functools.partial(jax.jit, static_argnames=("k",))
def _merge_block(
    scores: jax.Array, indices: jax.Array, queries: jax.Array, references: jax.Array, start: jax.Array, *, k: int
) -> tuple[jax.Array, jax.Array]:
    """Merges one block of references into the running top k. Earlier entries win ties: top_k is stable."""
    block = dot_products(queries, references)
    numbers = jnp.broadcast_to(start + jnp.arange(block.shape[1], dtype=jnp.int32)[None, :], block.shape)
    scores = jnp.concatenate([scores, block], axis=1)
    indices = jnp.concatenate([indices, numbers], axis=1)
    best, places = lax.top_k(scores, min(k, scores.shape[1]))
    return best, jnp.take_along_axis(indices, places, axis=1)


def match(queries: np.ndarray, references: np.ndarray, k: int = 10) -> Matches:
    """The k references with the highest dot product, for every query. Exact; memory does not grow with N · M.

    Args:
      queries: float32 [N, D]; unit rows make the dot product a cosine.
      references: float32 [M, D].
      k: 1 … M.

    Raises:
      ValueError: if shapes do not fit or k is out of range.
    """
    queries, references = np.asarray(queries, np.float32), np.asarray(references, np.float32)
    if queries.ndim != 2 or references.ndim != 2 or queries.shape[1] != references.shape[1]:
        raise ValueError(f"match: need [N, D] and [M, D], got {queries.shape} and {references.shape}")
    if not 1 <= k <= len(references):
        raise ValueError(f"match: k must be 1 to the number of references ({len(references)}), got {k}")
    scores, indices = [np.zeros((0, k), np.float32)], [np.zeros((0, k), np.int32)]
    for first in range(0, len(queries), _QUERY_BLOCK):
        block = queries[first : first + _QUERY_BLOCK]
        best = jnp.zeros((len(block), 0), jnp.float32), jnp.zeros((len(block), 0), jnp.int32)
        for start in range(0, len(references), _REFERENCE_BLOCK):
            part = references[start : start + _REFERENCE_BLOCK]
            best = _merge_block(*best, block, part, jnp.int32(start), k=k)
        scores.append(np.asarray(best[0]))
        indices.append(np.asarray(best[1]))
    return Matches(np.concatenate(scores), np.concatenate(indices))


def matches_above(queries: np.ndarray, references: np.ndarray, threshold: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each query, every reference that scores at least `threshold`: (indices ascending, scores)."""
    found = []
    for first in range(0, len(queries), _QUERY_BLOCK):
        scores = np.asarray(_dot_products(queries[first : first + _QUERY_BLOCK], references))
        found += [(np.flatnonzero(row >= threshold), row[row >= threshold]) for row in scores]
    return found


_dot_products = jax.jit(dot_products)


def nearest_l2(queries: Float[np.ndarray, "n d"], references: Float[np.ndarray, "m d"], k: int) -> Matches:
    """The k nearest references in ℓ₂, as (distances ascending, indices).

    ‖x − y‖² = ‖x‖² − 2 (x·y − ½‖y‖²), so this is `match` on [x, 1] and [y, −½‖y‖²].
    """
    centre = references.mean(0)  # smaller norms, less cancellation
    x, y = queries - centre, references - centre
    x_one = np.concatenate([x, np.ones((len(x), 1), np.float32)], axis=1)
    y_norm = np.concatenate([y, -0.5 * np.square(y).sum(1, keepdims=True)], axis=1)
    nearest = match(x_one, y_norm, k)
    squared = np.square(x).sum(1, keepdims=True) - 2 * nearest.scores
    return Matches(np.sqrt(np.maximum(squared, 0)), nearest.indices)
