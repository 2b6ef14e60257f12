import itertools

import numpy as np
import pyarrow as pa
import pytest

from side_jax.evidence.scores import Nearest, Scores
from side_jax.evidence.summary import summarize

BANDS = (("mid", 0.5, 0.6), ("high", 0.6, 1.0))
IDS = tuple(f"s{i}/photo {i}.png" for i in range(40))


def test_scores_are_read_from_the_table_by_id():
    table = pa.table(
        {
            "ids": [["b", "a"], ["a", "b"]],
            "scores": [[0.9, 0.55], [0.2, 0.1]],
            "in_band": [["a", "b"], []],
            "in_band_scores": [[0.55, 0.9], []],
            "carlini_ratio": [0.5, 2.0],
            "nearest_ratio": [0.1, 0.9],
        }
    )
    read = Scores.from_table(table, "", ["a", "b"])
    np.testing.assert_array_equal(read.winner, [1, 0])
    summary = summarize(read, BANDS)
    assert summary["bands"]["high"]["ams"]["value"] == summary["bands"]["high"]["ums"]["value"] == 0.5
    assert summary["bands"]["mid"]["ams"]["value"] == 0
    assert summary["bands"]["mid"]["ums_all"]["value"] == 0.5
    assert summary["carlini_below_1"]["value"] == summary["nearest_ratio_below_third"]["value"] == 0.5


LISTS = {"ids": pa.string(), "scores": pa.float32(), "in_band": pa.string(), "in_band_scores": pa.float32()}


def random_table(rng, num_images):
    """Rows of a match table with in-band lists of 0 to 40, and the lists themselves as positions and scores."""
    scores = rng.random((num_images, len(IDS))).astype(np.float32)
    best = [np.argsort(-row)[:3] for row in scores]
    above = [rng.permutation(len(IDS))[: rng.integers(0, 1 + length)] for length in rng.choice([0, 5, 40], num_images)]
    lists = {
        "ids": [[IDS[j] for j in row] for row in best],
        "scores": [row[chosen] for row, chosen in zip(scores, best, strict=True)],
        "in_band": [[IDS[j] for j in row] for row in above],
        "in_band_scores": [row[chosen] for row, chosen in zip(scores, above, strict=True)],
    }
    columns = {name: pa.array(column, pa.list_(LISTS[name])) for name, column in lists.items()}
    ratios = {name: pa.array(rng.random(num_images), pa.float32()) for name in ("carlini_ratio", "nearest_ratio")}
    return pa.table(columns | ratios), best, above, scores


@pytest.mark.parametrize("cut", ["whole", "sliced", "many chunks", "empty chunks"])
def test_columns_are_the_lists_of_the_table(cut):
    table, best, above, scores = random_table(np.random.default_rng(0), 50)
    start, stop = 0, 50
    if cut == "sliced":
        start, stop = 7, 43
        table = table.slice(start, stop - start)
    elif cut != "whole":
        ends = [0, 1, 1, 9, 30, 30, 50] if cut == "empty chunks" else [*range(0, 50, 3), 50]
        table = pa.concat_tables([table.slice(a, b - a) for a, b in itertools.pairwise(ends)])
    read = Scores.from_table(table, "", IDS)
    np.testing.assert_array_equal(read.winner, [row[0] for row in best[start:stop]])
    np.testing.assert_array_equal(read.best, scores.max(1)[start:stop])
    assert read.above.offsets[0] == 0
    for i, chosen in enumerate(above[start:stop]):
        held = slice(read.above.offsets[i], read.above.offsets[i + 1])
        np.testing.assert_array_equal(read.above.positions[held], chosen)
        np.testing.assert_array_equal(read.above.scores[held], scores[start + i, chosen])
    dtypes = read.best.dtype, read.winner.dtype, read.above.offsets.dtype, read.above.positions.dtype
    assert dtypes == (np.float32, np.int32, np.int64, np.int32)


def test_rows_of_in_band_lists_are_a_table_of_those_rows():
    table = random_table(np.random.default_rng(1), 30)[0]
    some = Scores.from_table(table, "", IDS).above.rows(11, 25)
    expected = Scores.from_table(table.slice(11, 14), "", IDS).above
    for name in ("offsets", "positions", "scores"):
        np.testing.assert_array_equal(getattr(some, name), getattr(expected, name))
    np.testing.assert_array_equal(np.bincount(some.images(), minlength=14), np.diff(some.offsets))


def test_lists_that_are_all_empty_are_read():
    table = random_table(np.random.default_rng(2), 8)[0]
    nothing = pa.array([[]] * 8, pa.list_(pa.string())), pa.array([[]] * 8, pa.list_(pa.float32()))
    for name, column in zip(("in_band", "in_band_scores"), nothing, strict=True):
        table = table.set_column(table.column_names.index(name), name, column)
    read = Scores.from_table(table, "", IDS)
    assert summarize(read, BANDS)["bands"]["mid"]["ums_all"]["value"] == 0


def test_order_of_in_band_lists_changes_nothing():
    rng = np.random.default_rng(3)
    table, _, above, scores = random_table(rng, 50)
    mixed = [rng.permutation(row) for row in above]
    columns = {
        "in_band": pa.array([[IDS[j] for j in row] for row in mixed], pa.list_(pa.string())),
        "in_band_scores": pa.array([scores[i, row] for i, row in enumerate(mixed)], pa.list_(pa.float32())),
    }
    other = pa.table({name: columns.get(name, table[name]) for name in table.column_names})
    assert summarize(Scores.from_table(other, "", IDS), BANDS) == summarize(Scores.from_table(table, "", IDS), BANDS)


def test_image_that_is_not_in_the_data_set_is_named():
    table = random_table(np.random.default_rng(4), 5)[0]
    with pytest.raises(ValueError, match=r"names 's\d+/photo \d+.png', which is none of the 2 images"):
        Nearest.from_table(table, "", IDS[:2])
