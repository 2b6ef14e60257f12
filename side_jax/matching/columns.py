"""Columns of the match table from comparisons with the reference sets."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from side_jax.matching.references import NEIGHBOURS, Comparison, Rows

_POSITIONS, _SCORES = pa.list_(pa.int32()), pa.list_(pa.float32())
# Photos are positions in the pool here, and ids in matches.parquet.
FIELDS = {
    "ids": _POSITIONS,  # nearest by descriptor, best first
    "scores": _SCORES,
    "in_band": _POSITIONS,  # every photo with a score ≥ the lowest band, best first
    "in_band_scores": _SCORES,
    "l2_id": pa.int32(),  # nearest by pixels
    "carlini_ratio": pa.float32(),
    "nearest_ratio": pa.float32(),
}


def carlini_ratio(distances: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
    """ℓ₂(x̂, x) / (0.5 · mean ℓ₂ to the 50 nearest) (Carlini et al. 2023): below 1 counts as extracted.

    Args:
      distances: ℓ₂ to the nearest training images, ascending, [N, ≤ 50].
    """
    return distances[:, 0] / np.maximum(0.5 * distances.mean(1), 1e-12)


def nearest_ratio(distances: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
    """d₁ / d₂, nearest over second nearest (Yoon et al. 2023): below 1/3 counts as memorized. NaN with one image."""
    if distances.shape[1] < 2:
        return np.full(len(distances), np.nan)
    return distances[:, 0] / np.maximum(distances[:, 1], 1e-12)


def merged(first: Comparison, second: Comparison) -> Comparison:
    """The matches with two groups together, from `at_positions` of both: equal scores in order of position.

    Lists are as long as both together, and hold the best of all as far down as the shorter of the two does.
    """
    scores, indices, distances = (
        np.concatenate([getattr(one, name) for one in (first, second)], axis=1)
        for name in ("scores", "indices", "distances")
    )
    order = np.lexsort((indices, -scores), axis=1)
    nearest, other = first.distances[:, 0], second.distances[:, 0]
    first_is_nearer = np.where(nearest == other, first.nearest < second.nearest, nearest < other)
    return Comparison(
        np.take_along_axis(scores, order, 1),
        np.take_along_axis(indices, order, 1),
        first.above + second.above,
        np.sort(distances, axis=1)[:, :NEIGHBOURS],
        np.where(first_is_nearer, first.nearest, second.nearest),
    )


def reference_columns(found: Comparison, top_k: int) -> dict[str, pa.Array]:
    """`FIELDS` for N rows and one reference set.

    Args:
      found: `at_positions`; its lists as long as `above` asks for.
      top_k: nearest kept.
    """
    ranks, distances = np.arange(found.scores.shape[1])[None], np.asarray(found.distances)
    kept = np.broadcast_to(ranks < top_k, found.scores.shape)
    in_band = ranks < found.above[:, None]

    def lists(values: Rows, mask: np.ndarray, kind: pa.DataType) -> pa.Array:
        starts = pa.array(np.concatenate([[0], mask.sum(1).cumsum()]), pa.int32())
        return pa.ListArray.from_arrays(starts, pa.array(values[mask], kind))

    return {
        "ids": lists(found.indices, kept, pa.int32()),
        "scores": lists(found.scores, kept, pa.float32()),
        "in_band": lists(found.indices, in_band, pa.int32()),
        "in_band_scores": lists(found.scores, in_band, pa.float32()),
        "l2_id": pa.array(found.nearest, pa.int32()),
        "carlini_ratio": pa.array(carlini_ratio(distances), pa.float32()),
        "nearest_ratio": pa.array(nearest_ratio(distances), pa.float32()),
    }


def with_ids(table: pa.Table, ids: Sequence[str]) -> pa.Table:
    """The table for people: ids of photos instead of their positions."""
    names = pa.array(ids, pa.string())
    for i, field in enumerate(table.schema):
        if field.type == _POSITIONS:
            column = table.column(i).combine_chunks()
            named: pa.Array = pa.ListArray.from_arrays(column.offsets, names.take(column.values))
        elif field.name.endswith("l2_id"):
            named = names.take(table.column(i).combine_chunks())
        else:
            continue
        table = table.set_column(i, field.name, named)
    return table


def empty_columns(count: int) -> dict[str, pa.Array]:
    """`FIELDS` for `count` rows where there are no references: empty lists and nulls."""
    return {
        name: pa.array([[]] * count, kind) if pa.types.is_list(kind) else pa.nulls(count, kind)
        for name, kind in FIELDS.items()
    }
