import numpy as np

from side_jax.evidence.memorized import memorized


def test_threshold_is_the_highest_held_out_score_of_a_few_images():
    found, threshold = memorized(np.array([0.9, 0.95, 0.99]), np.array([0.2, 0.95, 0.3]))
    assert threshold == 0.95
    assert found.tolist() == [False, False, True]


def test_a_thousandth_of_the_held_out_scores_may_exceed_the_threshold():
    heldout = np.random.default_rng(0).permutation(np.arange(10_000) / 10_000)
    found, threshold = memorized(heldout, heldout)
    assert threshold == 0.9990
    assert found.sum() == 9  # exchangeable scores: a thousandth, less the threshold itself
