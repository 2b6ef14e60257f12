import dataclasses
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from etils import epath

from side_jax.matching.columns import reference_columns
from side_jax.matching.descriptor import DescriptorFacts
from side_jax.matching.parts import (
    SCHEMA,
    count_damaged,
    covered,
    drop_damaged,
    read_parts,
    scale_folder,
    write_part,
)
from side_jax.matching.pool import REFERENCES
from side_jax.matching.references import Photos, compare_photos, place_references
from side_jax.runtime.sharding import local_mesh

FACTS = DescriptorFacts("sscd", "w.pt", "ab" * 32, "square_320")


@pytest.fixture
def columns(image_set):
    """Makes the columns of a batch of rows: of 30 real images, whose descriptors are rows of a 30 x 16 identity."""
    images, descriptors = image_set(30, size=4), np.eye(30, 16, dtype=np.float32)
    pixels = images.images.reshape(30, -1)
    photos = Photos(descriptors.__getitem__, pixels.__getitem__)
    real = place_references(photos, np.arange(30), local_mesh(), False)

    def make(indices):
        rows = np.array(indices) % 30
        found = compare_photos(images.images[rows], descriptors[rows], real, 3, 0.5)
        table = {
            "scale": np.full(len(rows), 3.0, np.float32),
            "index": np.array(indices),
            "label": np.ones(len(rows), np.int32),
        }
        for prefix in REFERENCES:
            table |= {prefix + name: column for name, column in reference_columns(found, 3).items()}
        return table

    return make


def test_rows_come_back_in_order(tmp_path, columns):
    folder = epath.Path(tmp_path)
    write_part(folder, columns([4, 5, 6]), FACTS)
    write_part(folder, columns([0, 1, 2]), FACTS)
    table = read_parts(folder)
    assert table["index"].to_pylist() == [0, 1, 2, 4, 5, 6]
    assert table.schema == SCHEMA
    assert table["ids"][0].as_py()[0] == 0
    assert table["in_band"][1].as_py() == [1]
    assert table["in_band_scores"][1].as_py() == [1.0]
    assert table["l2_id"][2].as_py() == 2


def test_a_part_says_by_which_descriptor_its_scores_are(tmp_path, columns):
    write_part(epath.Path(tmp_path), columns([0, 1]), FACTS)
    schema = pq.read_schema(next(tmp_path.glob("part-*.parquet")))
    assert json.loads(schema.metadata[b"descriptor"]) == dataclasses.asdict(FACTS)


def test_overlapping_parts_count_once(tmp_path, columns):
    folder = epath.Path(tmp_path)
    write_part(folder, columns([0, 1, 2]), FACTS)
    write_part(folder, columns([1, 2, 3]), FACTS)
    assert read_parts(folder)["index"].to_pylist() == [0, 1, 2, 3]


@pytest.mark.parametrize("damage", ["truncated", "one byte"])
def test_damaged_part_is_not_read_and_is_dropped_to_be_made_again(tmp_path, columns, caplog, damage):
    folder = epath.Path(tmp_path)
    write_part(folder, columns([0, 1]), FACTS)
    write_part(folder, columns([2, 3]), FACTS)
    part = next(folder.glob("part-000000002-000000003-*.parquet"))
    data = bytearray(part.read_bytes())
    if damage == "truncated":
        data = data[: len(data) // 2]
    else:
        data[len(data) // 2] ^= 1
    part.write_bytes(bytes(data))
    assert read_parts(folder)["index"].to_pylist() == [0, 1]
    assert part.exists()
    np.testing.assert_array_equal(covered(folder, 5), [True] * 4 + [False])
    assert drop_damaged(folder) == 1
    assert f"{part.name} is damaged" in caplog.text
    np.testing.assert_array_equal(covered(folder, 5), [True] * 2 + [False] * 3)
    assert drop_damaged(folder) == 0


def test_damaged_parts_are_counted_over_interruptions(tmp_path):
    folder = epath.Path(tmp_path)
    assert [count_damaged(folder, more) for more in (0, 2, 0, 1)] == [0, 2, 2, 3]


def test_no_parts_are_no_rows(tmp_path):
    assert len(read_parts(epath.Path(tmp_path / "none"))) == 0


def test_folder_names_sort_by_scale():
    names = [scale_folder(epath.Path("x"), scale).name for scale in (0.0, 0.5, 9.0, 10.0)]
    assert names == ["scale=00.00", "scale=00.50", "scale=09.00", "scale=10.00"] == sorted(names)
