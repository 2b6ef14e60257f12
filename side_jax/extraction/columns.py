"""Rows of the match table from what the devices found."""

import numpy as np
import pyarrow as pa

from side_jax.evidence.metrics import carlini_ratio, nearest_ratio
from side_jax.extraction.references import Comparison

IDS, SCORES = pa.list_(pa.string()), pa.list_(pa.float32())
FIELDS = {
    "ids": IDS,  # nearest by descriptor, best first
    "scores": SCORES,
    "in_band": IDS,  # every image with a score ≥ the lowest band, best first
    "in_band_scores": SCORES,
    "l2_id": pa.string(),  # nearest by pixels
    "carlini_ratio": pa.float32(),
    "nearest_ratio": pa.float32(),
}


def reference_columns(found: Comparison, ids: np.ndarray, top_k: int) -> dict[str, pa.Array]:
    """`FIELDS` for N rows and one reference set.

    Args:
      found: on the host; its lists as long as `above` asks for.
      ids: of the set, [M].
      top_k: nearest kept.
    """
    names = pa.array(ids, pa.string())
    places = np.arange(found.scores.shape[1])[None]
    kept = np.broadcast_to(places < top_k, found.scores.shape)
    in_band = places < np.asarray(found.above)[:, None]

    def lists(mask: np.ndarray) -> tuple[pa.Array, pa.Array]:
        starts = pa.array(np.concatenate([[0], mask.sum(1).cumsum()]), pa.int32())
        chosen = names.take(pa.array(np.asarray(found.indices)[mask]))
        scores = pa.array(np.asarray(found.scores)[mask], pa.float32())
        return pa.ListArray.from_arrays(starts, chosen), pa.ListArray.from_arrays(starts, scores)

    distances = np.asarray(found.distances)
    columns = [
        *lists(kept),
        *lists(in_band),
        names.take(pa.array(np.asarray(found.nearest))),
        pa.array(carlini_ratio(distances), pa.float32()),
        pa.array(nearest_ratio(distances), pa.float32()),
    ]
    return dict(zip(FIELDS, columns, strict=True))


def empty_columns(count: int) -> dict[str, pa.Array]:
    """`FIELDS` for `count` rows where there are no references: empty lists and nulls."""
    return {
        name: pa.array([[]] * count, kind) if pa.types.is_list(kind) else pa.nulls(count, kind)
        for name, kind in FIELDS.items()
    }
