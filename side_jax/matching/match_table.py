"""matches.parquet: every row of every sweep, written λ by λ."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq
from etils import epath

from side_jax.matching.columns import with_ids
from side_jax.matching.descriptor import DescriptorFacts
from side_jax.matching.parts import SCHEMA, with_descriptor
from side_jax.runtime.files import open_atomic

_ROW_GROUP = 4096


@contextmanager
def match_table(
    path: epath.Path, descriptor: DescriptorFacts, ids: Sequence[str]
) -> Iterator[Callable[[pa.Table, str], None]]:
    """Writes `path`, atomically; gives the function that appends the rows of one λ, and which method made them.

    Row groups have a fixed size, and each is one chunk: the bytes depend on the rows and not on how parts divide them.

    Args:
      path: the file.
      descriptor: facts of the descriptor that scored the rows, for the schema's metadata.
      ids: of the photos, by position.
    """
    rows = with_ids(SCHEMA.append(pa.field("method", pa.string())).empty_table(), ids)
    schema = with_descriptor(rows, descriptor).schema
    with open_atomic(path) as file, pq.ParquetWriter(file, schema) as writer:

        def append(table: pa.Table, method: str) -> None:
            for start in range(0, len(table), _ROW_GROUP):
                rows = table.slice(start, _ROW_GROUP)
                rows = rows.append_column("method", pa.array([method] * len(rows), pa.string()))
                writer.write_table(with_ids(rows, ids).combine_chunks())

        yield append
