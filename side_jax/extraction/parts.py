"""Rows of the match table as Parquet parts, one per batch, named for the images they hold.

A part is written to a temporary name and moved into place; its name carries the checksum of its content. So what is
missing is whatever no intact part covers, and any batch size can resume any other's sweep.
"""

import hashlib
import io
import json
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from etils import epath

from side_jax.artifacts import write_bytes

_log = logging.getLogger(__name__)
_IDS, _SCORES = pa.list_(pa.string()), pa.list_(pa.float32())


def _reference_fields(prefix: str) -> list[tuple[str, pa.DataType]]:
    return [
        (f"{prefix}ids", _IDS),  # nearest by descriptor, best first
        (f"{prefix}scores", _SCORES),
        (f"{prefix}in_band", _IDS),  # every image with a score ≥ the lowest band
        (f"{prefix}in_band_scores", _SCORES),
        (f"{prefix}l2_id", pa.string()),  # nearest by pixels
        (f"{prefix}carlini_ratio", pa.float32()),
        (f"{prefix}nearest_ratio", pa.float32()),
    ]


# "" all training images; "paired_" as many of them as there are held out; "heldout_" the held-out images.
REFERENCES = ("", "paired_", "heldout_")
SCHEMA = pa.schema(
    [("scale", pa.float32()), ("index", pa.int64()), ("label", pa.int32())]
    + [field for prefix in REFERENCES for field in _reference_fields(prefix)]
)


def scale_folder(extract: epath.Path, scale: float) -> epath.Path:
    """extract/scale=09.00 for λ = 9: sorts by λ up to 99."""
    return extract / f"scale={scale:05.2f}"


def with_descriptor(table: pa.Table, facts: Mapping[str, Any]) -> pa.Table:
    """The table with the facts of its scores' descriptor as JSON in the schema's metadata, under "descriptor"."""
    return table.replace_schema_metadata({"descriptor": json.dumps(dict(facts))})


def write_part(folder: epath.Path, columns: Mapping[str, Any], descriptor: Mapping[str, Any]) -> None:
    """Writes one batch of rows atomically, with the facts of the descriptor that scored them."""
    table = with_descriptor(pa.table(dict(columns), schema=SCHEMA), descriptor)
    indices = np.asarray(columns["index"])
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    data = buffer.getvalue()
    write_bytes(folder / f"part-{indices[0]:09d}-{indices[-1]:09d}-{_checksum(data)}.parquet", data)


def _checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def read_parts(folder: epath.Path) -> pa.Table:
    """All rows in order of index. A damaged part is reported, deleted, and so made again."""
    tables = []
    for path in sorted(folder.glob("part-*.parquet")) if folder.exists() else []:
        data = path.read_bytes()
        if path.stem.rsplit("-", 1)[-1] != _checksum(data):
            _log.warning("%s is damaged (its checksum is %s) and will be made again", path, _checksum(data))
            path.unlink()
            continue
        tables.append(pq.read_table(io.BytesIO(data), schema=SCHEMA))
    table = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
    order = np.unique(table["index"].to_numpy(), return_index=True)[1]
    return table.take(order)
