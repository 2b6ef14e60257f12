import numpy as np
import pytest

import side_jax
from side_jax.extraction import matching
from side_jax.extraction.matching import match, matches_above, nearest_l2


def plain_match(queries, references, k):
    scores = queries.astype(np.float64) @ references.T.astype(np.float64)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, 1), order


@pytest.fixture
def vectors():
    rng = np.random.default_rng(0)
    return rng.normal(size=(50, 16)).astype(np.float32), rng.normal(size=(70, 16)).astype(np.float32)


def test_equals_a_plain_search(vectors):
    scores, indices = plain_match(*vectors, 5)
    found = side_jax.match(*vectors, k=5)
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-5)


def test_block_sizes_change_nothing(vectors, monkeypatch):
    whole = match(*vectors, 5)
    monkeypatch.setattr(matching, "_QUERY_BLOCK", 7)
    monkeypatch.setattr(matching, "_REFERENCE_BLOCK", 11)
    blocked = match(*vectors, 5)
    np.testing.assert_array_equal(blocked.indices, whole.indices)
    np.testing.assert_allclose(blocked.scores, whole.scores, rtol=1e-6)


@pytest.mark.parametrize("block", [2, 3, 100])
def test_ties_go_to_the_lower_index(block, monkeypatch):
    monkeypatch.setattr(matching, "_REFERENCE_BLOCK", block)
    references = np.eye(2, dtype=np.float32)[[1, 0, 0, 1, 0, 1]]
    found = match(np.array([[1, 0], [0, 1]], np.float32), references, 4)
    np.testing.assert_array_equal(found.indices, [[1, 2, 4, 0], [0, 3, 5, 1]])


def test_all_above_a_threshold_are_listed(vectors):
    queries, references = vectors
    scores = queries @ references.T
    for row, (indices, found) in zip(scores, matches_above(queries, references, 2.0), strict=True):
        np.testing.assert_array_equal(indices, np.flatnonzero(row >= 2.0))
        np.testing.assert_allclose(found, row[row >= 2.0], rtol=1e-5)


def test_l2_neighbours_equal_a_plain_search(vectors):
    queries, references = vectors
    distances = np.linalg.norm(queries[:, None].astype(np.float64) - references[None], axis=-1)
    found = nearest_l2(queries, references, 5)
    np.testing.assert_array_equal(found.indices, np.argsort(distances, axis=1)[:, :5])
    np.testing.assert_allclose(found.scores, np.sort(distances, axis=1)[:, :5], rtol=1e-4)


@pytest.mark.parametrize("k", [0, 71])
def test_k_out_of_range_is_named(vectors, k):
    with pytest.raises(ValueError, match=rf"k must be 1 to the number of references \(70\), got {k}"):
        match(*vectors, k)


def test_unequal_descriptor_sizes_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(2, 4\)"):
        match(np.zeros((2, 3)), np.zeros((2, 4)))
