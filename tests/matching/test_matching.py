import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import side_jax
from side_jax.matching import search
from side_jax.matching.search import match, matches_above


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
    monkeypatch.setattr(search, "_QUERY_BLOCK", 7)
    monkeypatch.setattr(search, "_MAX_BLOCK", 11)
    search._search_block.clear_cache()
    blocked = match(*vectors, 5)
    search._search_block.clear_cache()
    np.testing.assert_array_equal(blocked.indices, whole.indices)
    np.testing.assert_allclose(blocked.scores, whole.scores, rtol=1e-6)


@pytest.mark.parametrize("block", [2, 3, 100])
def test_ties_go_to_the_lower_index(block, monkeypatch):
    monkeypatch.setattr(search, "_MAX_BLOCK", block)
    search._search_block.clear_cache()
    references = np.eye(2, dtype=np.float32)[[1, 0, 0, 1, 0, 1]]
    found = match(np.array([[1, 0], [0, 1]], np.float32), references, 4)
    search._search_block.clear_cache()
    np.testing.assert_array_equal(found.indices, [[1, 2, 4, 0], [0, 3, 5, 1]])


@pytest.mark.parametrize("k", [1, 5, 40])
@pytest.mark.parametrize("columns", [1, 63, 64, 1000, 4097])
def test_top_k_is_laxs_with_many_ties(columns, k):
    scores = np.random.default_rng(columns).integers(0, 5, (6, columns)).astype(np.float32)
    k = min(k, columns)
    for ours, theirs in zip(search.top_k(jnp.asarray(scores), k), jax.lax.top_k(scores, k), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_all_above_a_threshold_are_listed(vectors):
    queries, references = vectors
    scores = queries @ references.T
    for row, (indices, found) in zip(scores, matches_above(queries, references, 2.0), strict=True):
        np.testing.assert_array_equal(np.sort(indices), np.flatnonzero(row >= 2.0))
        np.testing.assert_allclose(found, -np.sort(-row[row >= 2.0]), rtol=1e-5)


def test_lists_are_exact_however_long():
    """Far more than the first attempt keeps: its length grows until everything fits."""
    queries = np.array([[1.0], [-1.0]], np.float32)
    references = np.arange(1000, dtype=np.float32)[:, None]
    (long, scores), (short, _) = matches_above(queries, references, 100.0)
    np.testing.assert_array_equal(long, np.arange(999, 99, -1))
    np.testing.assert_array_equal(scores, np.arange(999, 99, -1))
    assert len(short) == 0


@pytest.mark.parametrize("k", [0, 71])
def test_k_out_of_range_is_named(vectors, k):
    with pytest.raises(ValueError, match=rf"k must be 1 to the number of references \(70\), got {k}"):
        match(*vectors, k)


def test_unequal_descriptor_sizes_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(2, 4\)"):
        match(np.zeros((2, 3)), np.zeros((2, 4)))


@pytest.mark.given(
    kind=2,
    input="a mirrored copy, such as a target trained with flips makes",
    before="AMS 9.4 → 0 with `pixel`",
    now="scores 1 with `extract.mirror`, and less than 0.9 without",
)
def test_mirrored_copy_is_a_copy_with_mirror_and_not_without():
    photos = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1), np.uint8)
    generated = np.concatenate([photos[2:3, :, ::-1], photos[4:5]])
    embed = side_jax.load_descriptor("pixel")
    plain = match(embed(generated), embed(photos), k=1)
    assert plain.scores[0, 0] < 0.9 < plain.scores[1, 0]
    found = match(dataclasses.replace(embed, mirror=True).host_queries(generated), embed(photos), k=2)
    assert found.indices[:, 0].tolist() == [2, 4]
    np.testing.assert_allclose(found.scores[:, 0], 1, atol=1e-6)
    both = np.stack([embed(images) @ embed(photos).T for images in (generated, generated[:, :, ::-1])]).max(0)
    np.testing.assert_allclose(found.scores, np.sort(both, axis=1)[:, ::-1][:, :2], atol=1e-6)
