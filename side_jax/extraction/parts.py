"""Rows of the match table as Parquet parts, one per batch, named for the images they hold.

A part is written to a temporary name and moved into place; its name carries the checksum of its content. So what is
missing is whatever no intact part covers, and any batch size or number of processes can resume any other's sweep.
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

from side_jax.artifacts import read_json, write_bytes, write_json
from side_jax.extraction.columns import FIELDS

_log = logging.getLogger(__name__)

# "" all training images; "paired_" as many of them as there are held out; "heldout_" the held-out images.
REFERENCES = ("", "paired_", "heldout_")
SCHEMA = pa.schema(
    [("scale", pa.float32()), ("index", pa.int64()), ("label", pa.int32())]
    + [(prefix + name, kind) for prefix in REFERENCES for name, kind in FIELDS.items()]
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


def covered(folder: epath.Path, count: int) -> np.ndarray:
    """Which of the images 0 … count − 1 some part holds, by the parts' names alone: bool [count]."""
    held = np.zeros(count, bool)
    for path in _parts(folder):
        first, last = part_range(path.name)
        held[first : last + 1] = True
    return held


def part_range(name: str) -> tuple[int, int]:
    """First and last image of a part, from its name."""
    _, first, last, _ = name.split("-")
    return int(first), int(last)


def drop_damaged(folder: epath.Path) -> int:
    """Deletes every part whose content does not have its checksum, so that it is made again. Returns how many."""
    damaged = [path for path in _parts(folder) if _read_intact(path) is None]
    for path in damaged:
        _log.warning("%s is damaged and will be made again", path)
        path.unlink()
    return len(damaged)


def count_damaged(extract: epath.Path, more: int) -> int:
    """Damaged parts found so far in this stage's folder, `more` of them now. Survives an interruption."""
    file = extract / "damaged.json"
    total = (int(read_json(file)["parts"]) if file.exists() else 0) + more
    if more:
        write_json(file, {"parts": total})
    return total


def read_parts(folder: epath.Path) -> pa.Table:
    """All rows of intact parts in order of index."""
    intact = [data for data in map(_read_intact, _parts(folder)) if data is not None]
    tables = [pq.read_table(io.BytesIO(data), schema=SCHEMA) for data in intact]
    table = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
    order = np.unique(table["index"].to_numpy(), return_index=True)[1]
    return table.take(order)


def _parts(folder: epath.Path) -> list[epath.Path]:
    return sorted(folder.glob("part-*.parquet")) if folder.exists() else []


def _read_intact(path: epath.Path) -> bytes | None:
    data = path.read_bytes()
    return data if path.stem.rsplit("-", 1)[-1] == _checksum(data) else None
