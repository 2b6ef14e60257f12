"""Exact nearest neighbours on the devices: blocks of dot products, a running top k, shards merged by index."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Num

from side_jax.runtime.batching import batched, in_batches

_QUERY_BLOCK = 256  # a block of scores stays in a CPU's cache, or nearly
_BLOCK_FLOATS = 2**25  # of one block of references, as float32
_MAX_BLOCK = 65536  # references in a block
_GROUP = 64  # neighbouring scores; only the best of them counts at first
_FIRST_LIST = 64  # scores kept for each query, at first, in search of all above a threshold


class Matches(NamedTuple):
    """The best references of each query, best first; equal scores in order of index.

    Attributes:
      scores: float32 [N, k].
      indices: int32 [N, k].
    """

    scores: Float[np.ndarray, "n k"]
    indices: Int[np.ndarray, "n k"]


class Vectors(NamedTuple):
    """References as `search` wants them: `padded_rows` of them, or one device's share of those.

    Attributes:
      rows: float32 [M', D]; uint8 with a centre.
      bias: float32 [M'], added to the scores; −∞ in a row that is only padding.
      centre: float32 [D]. With it, rows and queries are pixels, which stand for x/255 − centre.
    """

    rows: jax.Array
    bias: jax.Array
    centre: jax.Array | None = None


class Found(NamedTuple):
    """`Matches` on the devices, and how many references score at least the threshold: int32 [N]."""

    scores: jax.Array
    indices: jax.Array
    above: jax.Array


def block_rows(rows: int, width: int) -> int:
    """References in one block, of `rows` on each device: whole groups, if there are several."""
    whole = -(-rows // _GROUP) * _GROUP if rows > _GROUP else max(rows, 1)
    return min(whole, _MAX_BLOCK, max(_BLOCK_FLOATS // width, _GROUP))


def padded_rows(rows: int, width: int, shards: int = 1) -> int:
    """How many rows `search` wants for `rows` references in all: whole blocks in every shard."""
    each = -(-rows // shards)
    block = block_rows(each, width)
    return shards * block * -(-each // block)


def top_k(scores: Float[Array, "n m"], k: int) -> tuple[Float[Array, "n k"], Int[Array, "n k"]]:
    """`lax.top_k` of each row, several times faster on CPU: scores and indices, equal scores in order of index.

    The k best lie in the k groups of neighbours with the highest maxima: any other group has k groups before it whose
    maximum is higher, or equal and of lower index. So only k groups are ranked.
    """
    rows, count = scores.shape
    groups = -(-count // _GROUP)
    if groups <= 2 * k:
        best, positions = lax.top_k(scores, k)
        return best, positions
    edges = ((0, 0, 0), (0, groups * _GROUP - count, 0))
    cells = lax.pad(scores, jnp.float32(-jnp.inf), edges).reshape(rows, groups, _GROUP)
    chosen = jnp.sort(lax.top_k(cells.max(2), k)[1], axis=1)  # ascending, so that candidates are in order of index
    candidates = jnp.take_along_axis(cells, chosen[:, :, None], axis=1).reshape(rows, k * _GROUP)
    best, positions = lax.top_k(candidates, k)
    return best, jnp.take_along_axis(chosen, positions // _GROUP, axis=1) * _GROUP + positions % _GROUP


def gathered(rows: jax.Array, axis: str | None) -> jax.Array:
    """Rows of all devices of a mesh axis, in order; without an axis as they are."""
    return rows if axis is None else lax.all_gather(rows, axis, tiled=True)


def own(rows: jax.Array, axis: str | None) -> jax.Array:
    """Rows of this device among those that were `gathered`."""
    if axis is None:
        return rows
    size = len(rows) // lax.axis_size(axis)
    return lax.dynamic_slice_in_dim(rows, lax.axis_index(axis) * size, size)


def search(
    queries: Num[Array, "n *views d"],
    references: Vectors,
    k: int,
    threshold: float | None = None,
    axis: str | None = None,
) -> Found:
    """The k references of each query with the highest x·y + bias. Exact; never holds [N, M].

    Args:
      queries: float32 [N, D], or uint8 [N, D] if the references have a centre; `gathered`, with `axis`. [N, V, D] are V
        views of each query, such as an image and its mirror image: the highest score of any counts.
      references: M of them. With `axis`, this device's share, in order of device.
      k: 1 … M, padding not counted.
      threshold: what `above` counts; None: nothing is counted, which saves time.
      axis: mesh axis over which references are sharded, inside `shard_map`. Each device searches its share for the
        queries of all; every query's candidates go back to its device and are merged there.

    Returns:
      Best first, for the queries of this device. Equal scores in order of index, whatever the blocks and shards.
    """
    if axis is None:
        return _search(queries, references, k, threshold, jnp.zeros((), jnp.int32))
    size, share = len(queries) // lax.axis_size(axis), len(references.rows)
    found = _search(queries, references, min(k, share), threshold, lax.axis_index(axis) * jnp.int32(share))

    def home(rows: jax.Array) -> jax.Array:
        """[N, k] from one shard -> [size, devices · k] from all: in order of shard, so of index."""
        rows = lax.all_to_all(rows.reshape(-1, size, rows.shape[1]), axis, 0, 0)
        return jnp.moveaxis(rows, 0, 1).reshape(size, -1)

    scores, positions = top_k(home(found.scores), k)
    indices = jnp.take_along_axis(home(found.indices), positions, axis=1)
    return Found(scores, indices, lax.psum_scatter(found.above, axis, tiled=True))


def _search(queries: jax.Array, references: Vectors, k: int, threshold: float | None, first: jax.Array) -> Found:
    """`search` on one device; `first` is the index of its first reference."""
    if len(queries) > _QUERY_BLOCK:

        def alone(query: jax.Array) -> Found:
            found = _search(query[None], references, k, threshold, first)
            return jax.tree.map(lambda rows: rows[0], found)

        return lax.map(alone, queries, batch_size=_QUERY_BLOCK)
    vectors, bias, centre = references
    if centre is not None:
        queries = queries.astype(jnp.float32) / 255 - centre[None]
    count, width = vectors.shape
    block = block_rows(count, width)

    def one(found: Found, part: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[Found, None]:
        """Merges one block of references into the running top k. Earlier entries win ties: top_k is stable."""
        start, vectors, bias = part
        if centre is not None:
            vectors = vectors.astype(jnp.float32) / 255 - centre[None]
        products = jnp.matmul(queries, vectors.T, precision=lax.Precision.HIGHEST)  # full float32 on every device
        if products.ndim == 3:
            products = products.max(1)
        # The barrier keeps XLA from computing the sums anew for every use of them.
        scores = lax.optimization_barrier(products + bias[None])
        best, positions = top_k(scores, min(k, block))
        above = found.above
        if threshold is not None:
            above = above + (scores >= threshold).sum(1, dtype=jnp.int32)
        indices = jnp.concatenate([found.indices, start + positions.astype(jnp.int32)], axis=1)
        best, positions = lax.top_k(jnp.concatenate([found.scores, best], axis=1), k)
        return Found(best, jnp.take_along_axis(indices, positions, axis=1), above), None

    size = len(queries)
    nothing = Found(
        jnp.full((size, k), -jnp.inf, jnp.float32), jnp.zeros((size, k), jnp.int32), jnp.zeros(size, jnp.int32)
    )
    if block == count:  # a scan would copy its one block
        return one(nothing, (first, vectors, bias))[0]
    starts = first + block * jnp.arange(count // block, dtype=jnp.int32)
    return lax.scan(one, nothing, (starts, vectors.reshape(-1, block, width), bias.reshape(-1, block)))[0]


_search_block = jax.jit(search, static_argnames=("k", "threshold"))


def match(queries: np.ndarray, references: np.ndarray, k: int = 10) -> Matches:
    """The k references with the highest dot product, for every query. Exact; memory does not grow with N · M.

    Args:
      queries: float32 [N, D]; unit rows make the dot product a cosine. Of V views of each, [N, V, D], the best counts.
      references: float32 [M, D].
      k: 1 … M.

    Raises:
      ValueError: if shapes do not fit or k is out of range.

    Example:
      >>> import side_jax
      >>> embed = side_jax.load_descriptor("pixel")
      >>> photos = side_jax.load_images("orl", None, image_size=32, channels=1)
      >>> matches = side_jax.match(embed(photos.images[7:9]), embed(photos.images), k=2)
      >>> matches.indices[:, 0].tolist(), matches.scores[:, 0].round(3).tolist()
      ([7, 8], [1.0, 1.0])
    """
    queries, references = np.asarray(queries, np.float32), np.asarray(references, np.float32)
    if queries.ndim not in (2, 3) or references.ndim != 2 or queries.shape[-1] != references.shape[1]:
        raise ValueError(f"match: need [N, D] and [M, D], got {queries.shape} and {references.shape}")
    if not 1 <= k <= len(references):
        raise ValueError(f"match: k must be 1 to the number of references ({len(references)}), got {k}")
    if not len(queries):
        return Matches(np.zeros((0, k), np.float32), np.zeros((0, k), np.int32))
    vectors, size = _on_device(references), min(_QUERY_BLOCK, len(queries))
    found = batched(lambda block: _search_block(block, vectors, k=k), queries, size)
    return Matches(found.scores, found.indices)


def matches_above(queries: np.ndarray, references: np.ndarray, threshold: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each query, every reference that scores at least `threshold`, however many: (indices, scores), best first."""
    vectors, count = _on_device(np.asarray(references, np.float32)), len(references)
    lists: list[tuple[np.ndarray, np.ndarray]] = []
    for positions in in_batches(len(queries), min(_QUERY_BLOCK, max(len(queries), 1))):
        block, k = queries[positions], list_length(0, count)
        found = _search_block(block, vectors, k=k, threshold=threshold)
        if found.above.max() > k:
            k = list_length(int(found.above.max()), count)
            found = _search_block(block, vectors, k=k, threshold=threshold)
        rows = zip(*(np.asarray(part) for part in found), strict=True)
        lists += [(indices[:above], scores[:above]) for scores, indices, above in rows]
    return lists[: len(queries)]


def repeats_above(descriptors: np.ndarray, threshold: float) -> list[np.ndarray]:
    """For each row, the positions of all rows with a cosine of `threshold` or more, its own among them.

    Args:
      descriptors: unit rows, float32 [N, D].
      threshold: cosine.
    """
    return [positions for positions, _ in matches_above(descriptors, descriptors, threshold)]


def list_length(longest: int, num_references: int) -> int:
    """k for lists of up to `longest`: a power of two, so that few programs serve all lengths."""
    return min(max(_FIRST_LIST, 1 << (max(longest, 1) - 1).bit_length()), num_references)


def _on_device(references: np.ndarray) -> Vectors:
    rows = padded_rows(*references.shape)
    bias = np.where(np.arange(rows) < len(references), 0, -np.inf).astype(np.float32)
    return Vectors(jax.device_put(np.pad(references, ((0, rows - len(references)), (0, 0)))), jax.device_put(bias))
