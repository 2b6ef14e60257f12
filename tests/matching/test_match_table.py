import dataclasses
import itertools
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from etils import epath

from side_jax.matching import match_table
from side_jax.matching.columns import with_ids
from side_jax.matching.descriptor import DescriptorFacts
from side_jax.matching.parts import SCHEMA, read_parts, write_part

FACTS, IDS = DescriptorFacts("pixel"), [f"photo {i}" for i in range(7)]


def rows(start, stop):
    """Columns of the images start … stop − 1, with lists of 0 to 9."""
    table = {}
    for field in SCHEMA:
        if pa.types.is_list(field.type):
            whole = pa.types.is_integer(field.type.value_type)
            table[field.name] = [
                [i * j % 7 if whole else i / (j + 1) for j in range(i * 13 % 10)] for i in range(start, stop)
            ]
        elif field.name.endswith("l2_id"):
            table[field.name] = np.arange(start, stop) % 7
        else:
            table[field.name] = np.arange(start, stop)
    return table


def written(folder, ends):
    """The bytes of the match table of 50 images from parts cut at `ends`, twice over."""
    for start, stop in itertools.pairwise(ends):
        write_part(epath.Path(folder / "parts"), rows(start, stop), FACTS)
    path = epath.Path(folder / "matches.parquet")
    with match_table.match_table(path, FACTS, IDS) as append:
        for method in ("random", "side"):
            append(read_parts(epath.Path(folder / "parts")), method)
    return path.read_bytes()


@pytest.mark.parametrize("group", [7, 4096])
def test_bytes_do_not_depend_on_how_the_parts_were_cut(tmp_path, monkeypatch, group):
    monkeypatch.setattr(match_table, "_ROW_GROUP", group)
    cuts = {"whole": [0, 50], "batches": [*range(0, 50, 8), 50], "resumed": [0, 1, 5, 13, 14, 15, 40, 50]}
    files = {written(tmp_path / name, ends) for name, ends in cuts.items()}
    assert len(files) == 1
    file = pq.ParquetFile(tmp_path / "whole" / "matches.parquet")
    assert file.num_row_groups == 2 * -(-50 // group)
    table = file.read()
    assert table["method"].to_pylist() == ["random"] * 50 + ["side"] * 50
    assert (
        table.slice(50)
        .drop_columns("method")
        .equals(with_ids(read_parts(epath.Path(tmp_path / "whole" / "parts")), IDS))
    )
    assert json.loads(table.schema.metadata[b"descriptor"]) == dataclasses.asdict(FACTS)


def test_table_without_rows_is_readable(tmp_path):
    with match_table.match_table(epath.Path(tmp_path / "matches.parquet"), FACTS, IDS) as append:
        append(SCHEMA.empty_table(), "random")
    assert len(pq.read_table(tmp_path / "matches.parquet")) == 0
