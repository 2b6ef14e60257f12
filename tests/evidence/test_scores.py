import itertools

import numpy as np
import pyarrow as pa
import pytest

from side_jax.evidence.scores import InBand, Nearest, Scores
from side_jax.evidence.summary import summarize
from side_jax.evidence.table import table1

BANDS = (("mid", 0.5, 0.6), ("high", 0.6, 1.0))
MEMBERS = np.arange(3, 123, 3)  # of a pool, 40 of them


def test_scores_are_read_from_the_table_by_position_in_the_set():
    table = pa.table(
        {
            "ids": [[7, 5], [5, 7]],
            "scores": [[0.9, 0.55], [0.2, 0.1]],
            "in_band": pa.array([[5, 7], []], pa.list_(pa.int32())),
            "in_band_scores": [[0.55, 0.9], []],
            "carlini_ratio": [0.5, 2.0],
            "nearest_ratio": [0.1, 0.9],
        }
    )
    read = Scores.from_table(table, "", np.array([5, 7]))
    np.testing.assert_array_equal(read.winner, [1, 0])
    summary = summarize(read, BANDS)
    assert summary["bands"]["high"]["ams"]["value"] == summary["bands"]["high"]["ums"]["value"] == 0.5
    assert summary["bands"]["mid"]["ams"]["value"] == 0
    assert summary["bands"]["mid"]["ums_all"]["value"] == 0.5
    assert summary["carlini_below_1"]["value"] == summary["nearest_ratio_below_third"]["value"] == 0.5


def test_finds_are_counted_by_picture_where_photos_repeat():
    """Photos 1, 2 and 3 are one picture; each of four images finds another photo."""
    best, winner = np.array([0.9, 0.8, 0.7, 0.7, 0.1], np.float32), np.array([0, 1, 2, 3, 0])
    found = Nearest(best, winner, pictures=np.array([0, 1, 1, 1]))
    for nearest in (found, found.nearest()):
        scores = nearest.ams_and_ums(BANDS[1])
        assert (scores["ums"]["value"], scores["ums_pictures"]["value"]) == (4 / 5, 2 / 5)
    assert found.half(True).ams_and_ums(BANDS[1])["ums_pictures"]["value"] == 1 / 2
    assert "ums_pictures" not in Nearest(best, winner).ams_and_ums(BANDS[1])
    (row,) = table1({"side": [found, found]}, {}, BANDS)
    assert row["train"]["high"]["ums_pictures"]["value"] == 2 / 5


def test_ums_all_counts_every_photo_in_the_band_by_hand():
    """Mid also holds photo 1 at .58 behind a better match, and photo 0 at exactly .5: 0, 1, 2."""
    positions, scores = np.array([1, 3, 0, 3, 1, 2, 2]), np.array([0.58, 1.0, 0.5, 0.65, 0.55, 0.5, 0.55])
    nothing = np.zeros(5)
    read = Scores(nothing, nothing, InBand(np.array([0, 2, 4, 6, 7, 7]), positions, scores), nothing, nothing)
    assert read.all_in_band(BANDS[0]).distinct() == 3
    assert read.all_in_band(BANDS[1]).distinct() == 1


LISTS = {"ids": pa.int32(), "scores": pa.float32(), "in_band": pa.int32(), "in_band_scores": pa.float32()}


def random_table(rng, num_images):
    """Rows of a match table with in-band lists of 0 to 40, and the lists themselves as positions and scores."""
    scores = rng.random((num_images, len(MEMBERS))).astype(np.float32)
    best = [np.argsort(-row)[:3] for row in scores]
    above = [
        rng.permutation(len(MEMBERS))[: rng.integers(0, 1 + length)] for length in rng.choice([0, 5, 40], num_images)
    ]
    lists = {
        "ids": [[MEMBERS[j] for j in row] for row in best],
        "scores": [row[chosen] for row, chosen in zip(scores, best, strict=True)],
        "in_band": [[MEMBERS[j] for j in row] for row in above],
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
    read = Scores.from_table(table, "", MEMBERS)
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
    some = Scores.from_table(table, "", MEMBERS).above.rows(11, 25)
    expected = Scores.from_table(table.slice(11, 14), "", MEMBERS).above
    for name in ("offsets", "positions", "scores"):
        np.testing.assert_array_equal(getattr(some, name), getattr(expected, name))
    np.testing.assert_array_equal(np.bincount(some.images(), minlength=14), np.diff(some.offsets))


def test_lists_that_are_all_empty_are_read():
    table = random_table(np.random.default_rng(2), 8)[0]
    nothing = pa.array([[]] * 8, pa.list_(pa.int32())), pa.array([[]] * 8, pa.list_(pa.float32()))
    for name, column in zip(("in_band", "in_band_scores"), nothing, strict=True):
        table = table.set_column(table.column_names.index(name), name, column)
    read = Scores.from_table(table, "", MEMBERS)
    assert summarize(read, BANDS)["bands"]["mid"]["ums_all"]["value"] == 0


def test_order_of_in_band_lists_changes_nothing():
    rng = np.random.default_rng(3)
    table, _, above, scores = random_table(rng, 50)
    mixed = [rng.permutation(row) for row in above]
    columns = {
        "in_band": pa.array([[MEMBERS[j] for j in row] for row in mixed], pa.list_(pa.int32())),
        "in_band_scores": pa.array([scores[i, row] for i, row in enumerate(mixed)], pa.list_(pa.float32())),
    }
    other = pa.table({name: columns.get(name, table[name]) for name in table.column_names})
    assert summarize(Scores.from_table(other, "", MEMBERS), BANDS) == summarize(
        Scores.from_table(table, "", MEMBERS), BANDS
    )


@pytest.mark.parametrize("members", [MEMBERS[:2], MEMBERS + 1, MEMBERS[:0]])
def test_photo_that_is_not_in_the_set_is_named(members):
    table = random_table(np.random.default_rng(4), 5)[0]
    with pytest.raises(ValueError, match=rf"has photo \d+, which is none of the {len(members)} that it was made with"):
        Nearest.from_table(table, "", members)
