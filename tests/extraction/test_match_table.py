import itertools
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from etils import epath

from side_jax.extraction import match_table
from side_jax.extraction.parts import SCHEMA, read_parts, write_part

FACTS = {"name": "pixel", "weights": None, "sha256": None, "preprocessing": None}


def rows(start, stop):
    """Columns of the images start … stop − 1, with lists of 0 to 9."""
    table = {}
    for field in SCHEMA:
        if pa.types.is_list(field.type):
            texts = pa.types.is_string(field.type.value_type)
            table[field.name] = [
                [f"photo {i * j % 7}" if texts else i / (j + 1) for j in range(i * 13 % 10)] for i in range(start, stop)
            ]
        elif field.name == "index":
            table[field.name] = np.arange(start, stop)
        else:
            table[field.name] = [str(i) if pa.types.is_string(field.type) else i for i in range(start, stop)]
    return table


def written(folder, ends):
    """The bytes of the match table of 50 images from parts cut at `ends`, twice over."""
    for start, stop in itertools.pairwise(ends):
        write_part(epath.Path(folder / "parts"), rows(start, stop), FACTS)
    path = epath.Path(folder / "matches.parquet")
    with match_table.match_table(path, FACTS) as append:
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
    assert table.slice(50).drop_columns("method").equals(read_parts(epath.Path(tmp_path / "whole" / "parts")))
    assert json.loads(table.schema.metadata[b"descriptor"]) == FACTS


def test_table_without_rows_is_readable(tmp_path):
    with match_table.match_table(epath.Path(tmp_path / "matches.parquet"), FACTS) as append:
        append(SCHEMA.empty_table(), "random")
    assert len(pq.read_table(tmp_path / "matches.parquet")) == 0
