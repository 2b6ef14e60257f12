import numpy as np
import pytest
from scipy import sparse

from side_jax.evidence import null


def excess_of(scores, size, low, labels):
    hits = sparse.csr_array((scores >= low).astype(np.float32))
    nothing = sparse.csr_array(np.zeros_like(scores, dtype=np.float32))
    return null.share_excess(hits, nothing, labels)


def test_first_relabelling_is_the_actual_one():
    labels = null.relabellings(5, 0)
    np.testing.assert_array_equal(labels[:, 0], np.arange(10) < 5)
    assert labels.shape == (10, 1 + null.PERMUTATIONS)
    assert (labels.sum(0) == 5).all()


def test_values_by_hand():
    """Three images; training images 0, 1, held-out 2, 3. Two hit a training image, one a held-out one."""
    scores = np.array([[0.9, 0, 0, 0], [0, 0.9, 0, 0], [0, 0, 0, 0.9]])
    labels = null.relabellings(2, 0)
    assert excess_of(scores, 2, 0.5, labels).value == pytest.approx(1 / 3)
    assert null.nearest_excess(scores.argmax(1), labels).value == pytest.approx(2 / 3 - 0.5)


def test_band_with_an_upper_limit_excludes_better_matches():
    scores = np.array([[0.9, 0.55, 0, 0], [0.55, 0, 0, 0]])
    hits, above = (sparse.csr_array((scores >= s).astype(np.float32)) for s in (0.5, 0.6))
    assert null.share_excess(hits, above, null.relabellings(2, 0)).value == pytest.approx(0.5)


def test_copying_is_found():
    rng = np.random.default_rng(0)
    scores = rng.uniform(0, 0.5, (100, 60))
    scores[np.arange(100), rng.integers(0, 30, 100)] = 0.95
    labels = null.relabellings(30, 0)
    assert excess_of(scores, 30, 0.9, labels).p <= 0.001
    assert null.nearest_excess(scores.argmax(1), labels).p <= 0.001


def test_one_hub_is_no_proof():
    """All 500 images resemble one photo. A binomial test over images would call that certain copying."""
    labels = null.relabellings(30, 0)
    result = null.nearest_excess(np.zeros(500, int), labels)
    assert result.value == 0.5
    assert result.p > 0.4


def test_p_is_uniform_when_nothing_is_copied():
    """Photos with unequal pull, split at random: p ≤ .05 in about 5 % of splits, for shares and for nearest."""
    rng = np.random.default_rng(3)
    pull = rng.gamma(0.5, size=40)
    shares, nearest = [], []
    for seed in range(200):
        order = rng.permutation(40)
        chosen = rng.choice(40, 120, p=pull[order] / pull.sum())
        labels = null.relabellings(20, seed)[:, :400]
        hits = sparse.csr_array(np.eye(40, dtype=np.float32)[chosen])
        shares.append(null.share_excess(hits, sparse.csr_array(hits.shape, dtype=np.float32), labels).p)
        nearest.append(null.nearest_excess(chosen, labels).p)
    for p in (np.array(shares), np.array(nearest)):
        assert 0.01 <= (p <= 0.05).mean() <= 0.1
        assert 0.4 <= (p <= 0.5).mean() <= 0.6
