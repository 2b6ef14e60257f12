import numpy as np
import pyarrow as pa

from side_jax.matching.columns import FIELDS, empty_columns, merged, reference_columns, with_ids
from side_jax.matching.references import Comparison, at_positions

FOUND = Comparison(
    scores=np.array([[0.9, 0.8, 0.1], [0.4, 0.3, 0.2]], np.float32),
    indices=np.array([[2, 0, 1], [1, 2, 0]], np.int32),
    above=np.array([2, 0], np.int32),
    distances=np.array([[1.0, 4.0], [2.0, 2.0]], np.float32),
    nearest=np.array([2, 1], np.int32),
)


def test_lists_hold_what_belongs_to_each_row():
    columns = reference_columns(at_positions(FOUND, np.array([10, 20, 30])), top_k=1)
    assert columns["ids"].to_pylist() == [[30], [20]]
    np.testing.assert_allclose(np.concatenate(columns["scores"].to_pylist()), [0.9, 0.4], rtol=1e-6)
    assert columns["in_band"].to_pylist() == [[30, 10], []]
    np.testing.assert_allclose(columns["in_band_scores"].to_pylist()[0], [0.9, 0.8], rtol=1e-6)
    assert columns["l2_id"].to_pylist() == [30, 20]
    np.testing.assert_allclose(columns["carlini_ratio"].to_numpy(), [1 / (0.5 * 2.5), 2.0])
    np.testing.assert_allclose(columns["nearest_ratio"].to_numpy(), [0.25, 1.0])


def search(scores, distances, members, k, threshold):
    """What the devices find of a group, with lists of `k` or as long as they need to be."""
    own, near = scores[:, members], distances[:, members]
    above = (own >= threshold).sum(1)
    order = np.argsort(-own, axis=1, kind="stable")[:, : max(k, above.max())]
    found = np.take_along_axis(own, order, 1), order, above, np.sort(near, axis=1)[:, :50], near.argmin(1)
    return at_positions(Comparison(*found), members)


def test_two_groups_together_are_what_one_search_of_both_finds():
    """Scores in steps, so that many are equal."""
    rng = np.random.default_rng(0)
    scores, distances = rng.integers(0, 12, (40, 90)) / 10, rng.integers(1, 30, (40, 90)) / 10
    paired = np.sort(rng.permutation(90)[:25])
    whole = search(scores, distances, np.arange(90), 5, 0.9)
    groups = [search(scores, distances, members, 5, 0.9) for members in (np.setdiff1d(np.arange(90), paired), paired)]
    both = merged(*groups)
    for one, other in ((both, whole), (merged(*groups[::-1]), whole)):
        assert reference_columns(one, 5) == reference_columns(other, 5)


def test_table_for_people_has_ids():
    columns = reference_columns(at_positions(FOUND, np.arange(3)), top_k=2)
    table = pa.table({"heldout_" + name: column for name, column in columns.items()})
    whole, row = with_ids(table, "abc"), with_ids(table.slice(1), "abc")
    assert whole["heldout_ids"].to_pylist() == [["c", "a"], ["b", "c"]]
    assert whole["heldout_in_band"].to_pylist() == [["c", "a"], []]
    assert whole["heldout_l2_id"].to_pylist() == ["c", "b"]
    assert row.equals(whole.slice(1))


def test_no_references_leave_empty_lists_and_nulls():
    columns = empty_columns(2)
    assert list(columns) == list(FIELDS)
    assert columns["ids"].to_pylist() == columns["in_band_scores"].to_pylist() == [[], []]
    assert columns["carlini_ratio"].to_pylist() == [None, None]
    assert pa.table(columns).schema == pa.schema(list(FIELDS.items()))
