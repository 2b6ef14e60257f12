import numpy as np
import pyarrow as pa

from side_jax.extraction.columns import FIELDS, empty_columns, reference_columns
from side_jax.extraction.references import Comparison


def test_lists_hold_what_belongs_to_each_row():
    found = Comparison(
        scores=np.array([[0.9, 0.8, 0.1], [0.4, 0.3, 0.2]], np.float32),
        indices=np.array([[2, 0, 1], [1, 2, 0]], np.int32),
        above=np.array([2, 0], np.int32),
        distances=np.array([[1.0, 4.0], [2.0, 2.0]], np.float32),
        nearest=np.array([2, 1], np.int32),
    )
    columns = reference_columns(found, np.array(["a", "b", "c"]), top_k=1)
    assert columns["ids"].to_pylist() == [["c"], ["b"]]
    np.testing.assert_allclose(np.concatenate(columns["scores"].to_pylist()), [0.9, 0.4], rtol=1e-6)
    assert columns["in_band"].to_pylist() == [["c", "a"], []]
    np.testing.assert_allclose(columns["in_band_scores"].to_pylist()[0], [0.9, 0.8], rtol=1e-6)
    assert columns["l2_id"].to_pylist() == ["c", "b"]
    np.testing.assert_allclose(columns["carlini_ratio"].to_numpy(), [1 / (0.5 * 2.5), 2.0])
    np.testing.assert_allclose(columns["nearest_ratio"].to_numpy(), [0.25, 1.0])


def test_no_references_leave_empty_lists_and_nulls():
    columns = empty_columns(2)
    assert list(columns) == list(FIELDS)
    assert columns["ids"].to_pylist() == columns["in_band_scores"].to_pylist() == [[], []]
    assert columns["carlini_ratio"].to_pylist() == [None, None]
    assert pa.table(columns).schema == pa.schema(list(FIELDS.items()))
