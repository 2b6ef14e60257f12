"""Rows of the match table as Parquet parts, one per batch, named for the images they hold.

A part is written atomically, and its name carries the checksum of its content. An image is missing if no intact part
covers it; so any batch size or number of processes can resume any other's sweep.
"""

import dataclasses
import hashlib
import io
import json
import logging
import re
from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from etils import epath

from side_jax.matching.columns import FIELDS
from side_jax.matching.descriptor import DescriptorFacts
from side_jax.matching.pool import REFERENCES
from side_jax.runtime.files import names, read_json, write_bytes, write_json

_log = logging.getLogger(__name__)
_PART = re.compile(r"part-(\d+)-(\d+)-[0-9a-f]+\.parquet")

SCHEMA = pa.schema(
    [("scale", pa.float32()), ("index", pa.int64()), ("label", pa.int32())]
    + [(prefix + name, kind) for prefix in REFERENCES for name, kind in FIELDS.items()]
)
# The first images of a sweep keep their descriptor, for their quality: null for the others. The match table has none.
_PART_SCHEMA = SCHEMA.append(pa.field("descriptor", pa.list_(pa.float32())))


def scale_folder(extract: epath.Path, scale: float) -> epath.Path:
    """extract/scale=09.00 for λ = 9: sorts by λ up to 99."""
    return extract / f"scale={scale:05.2f}"


def with_descriptor(table: pa.Table, facts: DescriptorFacts) -> pa.Table:
    """The table with the facts of its scores' descriptor as JSON in the schema's metadata, under "descriptor"."""
    return table.replace_schema_metadata({"descriptor": json.dumps(dataclasses.asdict(facts))})


def write_part(folder: epath.Path, columns: Mapping[str, object], descriptor: DescriptorFacts) -> None:
    """Writes one batch of rows atomically, with the facts of the descriptor that scored them.

    Args:
      folder: of the λ.
      columns: those of `SCHEMA`, and "descriptor" if one of these images is to keep it.
      descriptor: the facts.
    """
    schema = _PART_SCHEMA if "descriptor" in columns else SCHEMA
    table = with_descriptor(pa.table(dict(columns), schema=schema), descriptor)
    write_rows(folder, table)


def write_rows(folder: epath.Path, table: pa.Table) -> None:
    """Writes rows of consecutive images as one part, atomically; "index" is a column of theirs."""
    first, last = table["index"][0].as_py(), table["index"][-1].as_py()
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    data = buffer.getvalue()
    write_bytes(folder / f"part-{first:09d}-{last:09d}-{_checksum(data)}.parquet", data)


def _checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def part_ranges(files: Iterable[str]) -> np.ndarray:
    """First and last image of every part, by its name, in order: int64 [P, 2]. Other files are left out."""
    matches = (_PART.fullmatch(name) for name in files)
    ranges = np.array([match.groups() for match in matches if match], np.int64).reshape(-1, 2)
    return ranges[np.argsort(ranges[:, 0])]


def covered(folder: epath.Path, count: int) -> np.ndarray:
    """bool [count]: true for those of the images 0 … count − 1 that some part holds, by the parts' names alone."""
    held = np.zeros(count, bool)
    for first, last in part_ranges(names(folder)):
        held[first : last + 1] = True
    return held


def images_done(files: Iterable[str], num_images: int) -> int:
    """How many of images 0 … num_images − 1 the parts of these names hold."""
    first, last = part_ranges(files).T
    # Parts may overlap. Each counts from where those before it end.
    end = np.minimum(last + 1, num_images)
    before = np.concatenate([[0], np.maximum.accumulate(end)])[: len(end)]
    return int(np.maximum(end - np.maximum(first, before), 0).sum())


def drop_damaged(folder: epath.Path) -> int:
    """Deletes every part whose content does not have its checksum, so that it is made again. Returns how many."""
    damaged = [path for path in _parts(folder) if _read_intact(path) is None]
    for path in damaged:
        _log.warning("%s is damaged and will be made again", path)
        path.unlink()
    return len(damaged)


def count_damaged(extract: epath.Path, more: int) -> int:
    """Damaged parts of this stage so far, `more` of them new. The count survives an interruption."""
    file = extract / "damaged.json"
    total = (int(read_json(file)["parts"]) if file.exists() else 0) + more
    if more:
        write_json(file, {"parts": total})
    return total


def read_parts(folder: epath.Path) -> pa.Table:
    """All rows of the match table in intact parts, in order of index."""
    return read_rows(folder, SCHEMA)


def read_rows(folder: epath.Path, schema: pa.Schema) -> pa.Table:
    """All rows of intact parts in order of index, whatever table it is."""
    intact = [data for data in map(_read_intact, _parts(folder)) if data is not None]
    tables = [pq.read_table(io.BytesIO(data), schema=schema) for data in intact]
    table = pa.concat_tables(tables) if tables else schema.empty_table()
    order = np.unique(table["index"].to_numpy(), return_index=True)[1]
    return table.take(order)


def read_descriptors(folder: epath.Path, count: int) -> np.ndarray | None:
    """Descriptors of the images 0 … count − 1, float32 [count, D]; None if a part lacks one of them."""
    rows: dict[int, np.ndarray] = {}
    for path in _parts(folder):
        named = _PART.fullmatch(path.name)
        if named is None or int(named[1]) >= count or (data := _read_intact(path)) is None:
            continue
        table = pq.read_table(io.BytesIO(data), schema=_PART_SCHEMA, columns=["index", "descriptor"])
        table = table.filter(table["descriptor"].is_valid()).combine_chunks()
        if len(table):
            values = table["descriptor"].combine_chunks().flatten().to_numpy()
            rows |= dict(zip(table["index"].to_pylist(), values.reshape(len(table), -1), strict=True))
    return np.stack([rows[i] for i in range(count)]) if all(i in rows for i in range(count)) else None


def _parts(folder: epath.Path) -> list[epath.Path]:
    return sorted(folder.glob("part-*.parquet")) if folder.exists() else []


def _read_intact(path: epath.Path) -> bytes | None:
    data = path.read_bytes()
    return data if path.stem.rsplit("-", 1)[-1] == _checksum(data) else None
