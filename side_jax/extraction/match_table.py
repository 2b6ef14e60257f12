"""matches.parquet: every row of every sweep, written λ by λ."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from etils import epath

from side_jax.artifacts import open_atomic
from side_jax.extraction.parts import SCHEMA, with_descriptor

_ROW_GROUP = 4096


@contextmanager
def match_table(path: epath.Path, descriptor: Mapping[str, Any]) -> Iterator[Callable[[pa.Table, str], None]]:
    """Writes `path`, atomically; gives the function that appends the rows of one λ, and which method made them.

    Row groups have a fixed size, and each is one chunk: the bytes depend on the rows and not on how parts divide them.

    Args:
      path: the file.
      descriptor: facts of the descriptor that scored the rows, for the schema's metadata.
    """
    schema = with_descriptor(SCHEMA.append(pa.field("method", pa.string())).empty_table(), descriptor).schema
    with open_atomic(path) as file, pq.ParquetWriter(file, schema) as writer:

        def append(table: pa.Table, method: str) -> None:
            for start in range(0, len(table), _ROW_GROUP):
                rows = table.slice(start, _ROW_GROUP)
                rows = rows.append_column("method", pa.array([method] * len(rows), pa.string()))
                writer.write_table(rows.combine_chunks())

        yield append
