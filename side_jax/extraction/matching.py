"""Exact nearest neighbours on the devices: blocks of dot products, a running top k, shards merged by index."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Num

_QUERY_BLOCK = 256  # a block of scores stays in a CPU's cache, or nearly
_BLOCK_FLOATS = 2**25  # of one block of references, as float32
_MAX_BLOCK = 65536  # references in a block
_GROUP = 64  # neighbours of which only the best counts at first
_FIRST_LIST = 64  # scores kept for each query, at first, in search of all above a threshold


class Matches(NamedTuple):
    """The best references of each query, best first; equal scores in order of index.

    Attributes:
      scores: float32 [N, k].
      indices: int32 [N, k].
    """

    scores: Float[np.ndarray, "n k"]
    indices: Int[np.ndarray, "n k"]


class Found(NamedTuple):
    """`Matches` on the devices, and how many references score at least the threshold: int32 [N]."""

    scores: jax.Array
    indices: jax.Array
    above: jax.Array


def block_rows(rows: int, width: int) -> int:
    """References in one block, of so many per device and of that width: whole groups, where there are several."""
    whole = -(-rows // _GROUP) * _GROUP if rows > _GROUP else max(rows, 1)
    return min(whole, _MAX_BLOCK, max(_BLOCK_FLOATS // width, _GROUP))


def padded_rows(rows: int, width: int, shards: int = 1) -> int:
    """How many rows `search` wants where there are `rows` in all: whole blocks in every shard."""
    each = -(-rows // shards)
    block = block_rows(each, width)
    return shards * block * -(-each // block)


def dot_products(queries: Float[Array, "n d"], references: Float[Array, "m d"]) -> Float[Array, "n m"]:
    """[N, D], [M, D] -> [N, M], in full float32 on every device."""
    return jnp.matmul(queries, references.T, precision=lax.Precision.HIGHEST)


def top_k(scores: Float[Array, "n m"], k: int) -> tuple[Float[Array, "n k"], Int[Array, "n k"]]:
    """`lax.top_k` of each row, several times faster on CPU: scores and indices, equal scores in order of index.

    The k best lie in the k groups of neighbours with the highest maxima: any other group has k groups before it whose
    maximum is higher, or equal and of lower index. So only k groups are ranked.
    """
    rows, count = scores.shape
    groups = -(-count // _GROUP)
    if groups <= 2 * k:
        best, places = lax.top_k(scores, k)
        return best, places
    edges = ((0, 0, 0), (0, groups * _GROUP - count, 0))
    cells = lax.pad(scores, jnp.float32(-jnp.inf), edges).reshape(rows, groups, _GROUP)
    chosen = jnp.sort(lax.top_k(cells.max(2), k)[1], axis=1)  # ascending, so that candidates are in order of index
    candidates = jnp.take_along_axis(cells, chosen[:, :, None], axis=1).reshape(rows, k * _GROUP)
    best, places = lax.top_k(candidates, k)
    return best, jnp.take_along_axis(chosen, places // _GROUP, axis=1) * _GROUP + places % _GROUP


def gathered(rows: jax.Array, axis: str | None) -> jax.Array:
    """Rows of all devices of a mesh axis, in order; without an axis as they are."""
    return rows if axis is None else lax.all_gather(rows, axis, tiled=True)


def own(rows: jax.Array, axis: str | None) -> jax.Array:
    """Those rows of what was `gathered` that are this device's."""
    if axis is None:
        return rows
    size = len(rows) // lax.axis_size(axis)
    return lax.dynamic_slice_in_dim(rows, lax.axis_index(axis) * size, size)


def search(
    queries: Num[Array, "n d"],
    references: Num[Array, "m d"],
    bias: Float[Array, " m"],
    k: int,
    threshold: float | None,
    centre: Float[Array, " d"] | None = None,
    axis: str | None = None,
) -> Found:
    """The k references of each query with the highest x·y + bias. Exact; never holds [N, M].

    Args:
      queries: float32 [N, D]; `gathered`, with `axis`.
      references: float32 [M, D], `padded_rows` of them. With `axis`, this device's share, in order of device.
      bias: [M], added to the scores; −∞ for a row that is only padding.
      k: 1 … number of references that are no padding.
      threshold: what `above` counts; None: counting takes time.
      centre: [D]. Queries and references are then uint8 pixels, which stand for x/255 − centre.
      axis: mesh axis over which references are sharded, inside `shard_map`. Each device searches its share for all
        queries; every query's candidates go back to its device and are merged there.

    Returns:
      Best first, for the queries of this device. Equal scores in order of index, whatever the blocks and shards.
    """
    if axis is None:
        return _search(queries, references, bias, k, threshold, centre, jnp.zeros((), jnp.int32))
    first = lax.axis_index(axis) * jnp.int32(len(references))
    found = _search(queries, references, bias, min(k, len(references)), threshold, centre, first)
    size = len(queries) // lax.axis_size(axis)

    def home(rows: jax.Array) -> jax.Array:
        """[N, k] from one shard -> [size, devices · k] from all: in order of shard, so of index."""
        rows = lax.all_to_all(rows.reshape(-1, size, rows.shape[1]), axis, 0, 0)
        return jnp.moveaxis(rows, 0, 1).reshape(size, -1)

    scores, places = top_k(home(found.scores), k)
    indices = jnp.take_along_axis(home(found.indices), places, axis=1)
    return Found(scores, indices, lax.psum_scatter(found.above, axis, tiled=True))


def _search(
    queries: jax.Array,
    references: jax.Array,
    bias: jax.Array,
    k: int,
    threshold: float | None,
    centre: jax.Array | None,
    first: jax.Array,
) -> Found:
    if len(queries) > _QUERY_BLOCK:

        def alone(query: jax.Array) -> Found:
            found = _search(query[None], references, bias, k, threshold, centre, first)
            return jax.tree.map(lambda rows: rows[0], found)

        return lax.map(alone, queries, batch_size=_QUERY_BLOCK)
    if centre is not None:
        queries = queries.astype(jnp.float32) / 255 - centre[None]
    rows, width = references.shape
    block = block_rows(rows, width)
    blocks = references.reshape(-1, block, width), bias.reshape(-1, block)

    def one(found: Found, part: tuple[jax.Array, tuple[jax.Array, jax.Array]]) -> tuple[Found, None]:
        """Merges one block of references into the running top k. Earlier entries win ties: top_k is stable."""
        start, (vectors, added) = part
        if centre is not None:
            vectors = vectors.astype(jnp.float32) / 255 - centre[None]
        # The barrier keeps XLA from computing the sums anew for every use of them.
        scores = lax.optimization_barrier(dot_products(queries, vectors) + added[None])
        best, places = top_k(scores, min(k, block))
        above = found.above
        if threshold is not None:
            above = above + (scores >= threshold).sum(1, dtype=jnp.int32)
        indices = jnp.concatenate([found.indices, start + places.astype(jnp.int32)], axis=1)
        best, places = lax.top_k(jnp.concatenate([found.scores, best], axis=1), k)
        return Found(best, jnp.take_along_axis(indices, places, axis=1), above), None

    size = len(queries)
    nothing = Found(
        jnp.full((size, k), -jnp.inf, jnp.float32), jnp.zeros((size, k), jnp.int32), jnp.zeros(size, jnp.int32)
    )
    if block == rows:  # a scan would copy its one block
        return one(nothing, (first, (references, bias)))[0]
    starts = first + block * jnp.arange(len(blocks[1]), dtype=jnp.int32)
    return lax.scan(one, nothing, (starts, blocks))[0]


_search_block = jax.jit(search, static_argnames=("k", "threshold"))


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
    vectors, bias = _on_device(references)
    scores, indices = [np.zeros((0, k), np.float32)], [np.zeros((0, k), np.int32)]
    for block in _query_blocks(queries):
        found = _search_block(block, vectors, bias, k=k, threshold=None)
        scores.append(np.asarray(found.scores))
        indices.append(np.asarray(found.indices))
    return Matches(np.concatenate(scores)[: len(queries)], np.concatenate(indices)[: len(queries)])


def matches_above(queries: np.ndarray, references: np.ndarray, threshold: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each query, every reference that scores at least `threshold`, however many: (indices, scores), best first."""
    vectors, bias = _on_device(np.asarray(references, np.float32))
    lists: list[tuple[np.ndarray, np.ndarray]] = []
    for block in _query_blocks(queries):
        k = list_length(0, len(references))
        found = _search_block(block, vectors, bias, k=k, threshold=threshold)
        while found.above.max() > k:
            k = list_length(int(found.above.max()), len(references))
            found = _search_block(block, vectors, bias, k=k, threshold=threshold)
        rows = zip(*(np.asarray(part) for part in found), strict=True)
        lists += [(indices[:above], scores[:above]) for scores, indices, above in rows]
    return lists[: len(queries)]


def list_length(longest: int, num_references: int) -> int:
    """k for lists of up to `longest`: a power of two, so that few programs serve all lengths."""
    return min(max(_FIRST_LIST, 1 << (max(longest, 1) - 1).bit_length()), num_references)


def _on_device(references: np.ndarray) -> tuple[jax.Array, jax.Array]:
    rows = padded_rows(*references.shape)
    bias = np.where(np.arange(rows) < len(references), 0, -np.inf).astype(np.float32)
    return jax.device_put(np.pad(references, ((0, rows - len(references)), (0, 0)))), jax.device_put(bias)


def _query_blocks(queries: np.ndarray) -> list[np.ndarray]:
    """Blocks of one size, the last filled up with zeros, so that one program serves all."""
    size = min(_QUERY_BLOCK, max(len(queries), 1))
    padded = np.pad(queries, ((0, -len(queries) % size), (0, 0)))
    return [padded[start : start + size] for start in range(0, len(padded), size)]
