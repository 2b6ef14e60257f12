import numpy as np

from side_jax.evidence.at_risk import q_values


def test_rates_by_hand():
    """Down to .9: (1 + 0) / 1, then 1 / 2, 1 / 3, 1 / 4; down to .5, below the decoy at .55: (1 + 1) / 5."""
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.55, 0.1, 0.1, 0.1, 0.1])
    member = np.arange(10) < 5
    np.testing.assert_allclose(q_values(scores, member)[:5], [1 / 4, 1 / 4, 1 / 4, 1 / 4, 2 / 5])


def test_rates_count_decoys_for_the_photos_that_there_are():
    scores, member = np.array([0.9, 0.8, 0.7, 0.6, 0.1]), np.arange(5) < 4
    np.testing.assert_allclose(q_values(scores, member)[:4], 1.0)  # 4 photos to one decoy: 4 (1 + 0) / 4


def test_a_photo_that_is_no_surer_than_a_decoy_is_at_no_low_rate():
    scores = np.array([0.5, 0.5, 0.9, 0.9])
    assert q_values(scores, np.array([1, 1, 0, 0], bool)).min() == 1


def test_without_decoys_nothing_is_sure():
    assert (q_values(np.array([0.9, 0.8]), np.ones(2, bool)) == 1).all()
    assert (q_values(np.array([0.9, 0.8]), np.zeros(2, bool)) == 1).all()


def test_false_finds_are_at_most_the_rate_that_is_given():
    """200 photos of which 40 come out, 200 decoys: the share of others in the list, over 400 drawings."""
    rng, size = np.random.default_rng(0), 200
    member, learnt = np.arange(2 * size) < size, np.arange(2 * size) < 40
    for rate in (0.05, 0.1, 0.2):
        shares, finds = [], []
        for _ in range(400):
            scores = rng.normal(size=2 * size) + 3 * learnt
            listed = (q_values(scores, member) <= rate) & member
            shares.append((listed & ~learnt).sum() / max(1, listed.sum()))
            finds.append((listed & learnt).sum())
        assert np.mean(shares) <= rate + 0.01
        assert np.mean(finds) > 10
