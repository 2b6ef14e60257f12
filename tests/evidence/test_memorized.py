import numpy as np

from side_jax.evidence.memorized import _choose, label_images, memorized


def test_threshold_is_the_highest_held_out_score_of_a_few_images():
    found, threshold = memorized(np.array([0.9, 0.95, 0.99]), np.array([0.2, 0.95, 0.3]))
    assert threshold == 0.95
    assert found.tolist() == [False, False, True]


def test_a_thousandth_of_the_held_out_scores_may_exceed_the_threshold():
    heldout = np.random.default_rng(0).permutation(np.arange(10_000) / 10_000)
    found, threshold = memorized(heldout, heldout)
    assert threshold == 0.9990
    assert found.sum() == 9  # exchangeable scores: a thousandth, less the threshold itself


def test_threshold_of_every_scale_is_from_the_held_out_scores_of_the_smallest():
    scores = {
        0.0: {
            "": np.array([0.9, 0.8, 0.2]),
            "paired_": np.array([0.9, 0.2, 0.2]),
            "heldout_": np.array([0.5, 0.1, 0.3]),
        },
        1.0: {
            "": np.array([0.6, 0.4, 0.2]),
            "paired_": np.array([0.6, 0.4, 0.2]),
            "heldout_": np.array([0.9, 0.9, 0.9]),
        },
    }
    scores[2.0] = scores[1.0]
    found = label_images(scores, 0.9, 3)
    counts = {"images": 3, "memorized": 1, "ambiguous": 1}
    assert found.facts == {"threshold": 0.5, "calibrated": True, "scale": 0.0} | counts
    assert found.positive[0.0].tolist() == [True, False, False]
    assert found.positive[1.0].tolist() == [True, False, False]
    assert found.clear[0.0].tolist() == [True, False, True]  # the second copies a photo outside the pairs
    np.testing.assert_array_equal(found.best[0.0], scores[0.0][""])


def test_without_held_out_photos_the_highest_band_says_what_is_memorized():
    low = 0.6
    found = label_images({0.0: {"": np.array([low, np.nextafter(low, 0), 0.1])}}, low, 3)
    counts = {"images": 3, "memorized": 1, "ambiguous": 0}
    assert found.facts == {"threshold": low, "calibrated": False, "scale": 0.0} | counts
    assert found.positive[0.0].tolist() == [True, False, False]
    assert found.clear[0.0].all()


def test_of_a_large_sweep_rare_copies_are_all_taken_and_filled_up_with_others():
    positive = np.isin(np.arange(10_000), [5, 4_000, 9_999])
    clear = np.arange(10_000) != 0
    chosen = _choose(positive, clear, 10)
    assert chosen.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 4_000, 9_999]
    assert _choose(~positive, clear | ~positive, 6).tolist() == [0, 1, 2, 5, 4_000, 9_999]
    assert _choose(positive, clear, 10_000).tolist() == list(range(10_000))
