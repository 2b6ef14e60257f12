import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from etils import epath

from side_jax.extraction.parts import SCHEMA, read_parts, scale_folder, write_part
from side_jax.extraction.sweep import Reference, paired_subsets, reference_columns

FACTS = {"name": "sscd", "weights": "w.pt", "sha256": "ab" * 32, "preprocessing": "square_320"}


@pytest.fixture
def columns(image_set):
    """Makes the columns of a batch of rows."""
    images = image_set(30, size=4)
    reference = Reference.of(images, np.eye(30, 16, dtype=np.float32))

    def make(indices):
        batch = images[np.array(indices) % 30].images
        table = {
            "scale": np.full(len(indices), 3.0, np.float32),
            "index": np.array(indices),
            "label": [1] * len(indices),
        }
        for prefix in ("", "paired_", "heldout_"):
            descriptors = np.eye(30, 16, dtype=np.float32)[np.array(indices) % 30]
            table |= reference_columns(batch, descriptors, reference, 3, 0.5, prefix)
        return table

    return make


def test_rows_come_back_in_order(tmp_path, columns):
    folder = epath.Path(tmp_path)
    write_part(folder, columns([4, 5, 6]), FACTS)
    write_part(folder, columns([0, 1, 2]), FACTS)
    table = read_parts(folder)
    assert table["index"].to_pylist() == [0, 1, 2, 4, 5, 6]
    assert table.schema == SCHEMA
    assert table["ids"][0].as_py()[0] == "c0/0.png"
    assert table["in_band"][1].as_py() == ["c1/1.png"]
    assert table["in_band_scores"][1].as_py() == [1.0]
    assert table["l2_id"][2].as_py() == "c2/2.png"


def test_a_part_says_by_which_descriptor_its_scores_are(tmp_path, columns):
    write_part(epath.Path(tmp_path), columns([0, 1]), FACTS)
    schema = pq.read_schema(next(tmp_path.glob("part-*.parquet")))
    assert json.loads(schema.metadata[b"descriptor"]) == FACTS


def test_overlapping_parts_count_once(tmp_path, columns):
    folder = epath.Path(tmp_path)
    write_part(folder, columns([0, 1, 2]), FACTS)
    write_part(folder, columns([1, 2, 3]), FACTS)
    assert read_parts(folder)["index"].to_pylist() == [0, 1, 2, 3]


@pytest.mark.parametrize("damage", ["truncated", "one byte"])
def test_damaged_part_is_deleted_and_reported(tmp_path, columns, caplog, damage):
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
    assert not part.exists()
    assert f"{part.name} is damaged" in caplog.text


def test_no_parts_are_no_rows(tmp_path):
    assert len(read_parts(epath.Path(tmp_path / "none"))) == 0


def test_folder_names_sort_by_scale():
    names = [scale_folder(epath.Path("x"), scale).name for scale in (0.0, 0.5, 9.0, 10.0)]
    assert names == ["scale=00.00", "scale=00.50", "scale=09.00", "scale=10.00"] == sorted(names)


def test_empty_reference_leaves_empty_columns(image_set):
    images = image_set(4)
    nothing = Reference.of(images[np.zeros(0, int)], np.zeros((0, 16), np.float32))
    columns = reference_columns(images.images, np.zeros((4, 16), np.float32), nothing, 3, 0.5, "heldout_")
    assert columns["heldout_ids"] == [[], [], [], []]
    assert columns["heldout_carlini_ratio"] == [None] * 4


def test_paired_subsets_are_equally_large_and_by_seed():
    train, heldout = paired_subsets(10, 4, 0)
    assert len(train) == len(heldout) == 4
    np.testing.assert_array_equal(heldout, np.arange(4))
    np.testing.assert_array_equal(train, paired_subsets(10, 4, 0)[0])
    assert train.tolist() != paired_subsets(10, 4, 1)[0].tolist()
