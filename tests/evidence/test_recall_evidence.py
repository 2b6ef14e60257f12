import itertools

import numpy as np
import pytest
from scipy import stats

from side_jax.evidence import null
from side_jax.evidence.recall import Asked, recall

BAND = ("high", 0.9, 1.0)
SIZE = 40  # pairs


def asked(scores):
    """Pairs of a training and a held-out photo, one stratum, halves by turns; `scores` by λ, [R, 2 SIZE]."""
    photos = np.arange(2 * SIZE)
    return Asked(scores, photos % 2 == 0, photos // 2 % 2, np.zeros(2 * SIZE, int))


def uniform(rng, rounds=2):
    return rng.random((rounds, 2 * SIZE)).astype(np.float32)


def test_what_was_learnt_is_chosen_on_one_half_and_measured_on_the_other():
    rng = np.random.default_rng(0)
    learnt = 0.5 * uniform(rng, 3)
    learnt[1, ::2] = 0.95  # the second image of every training photo
    found = recall(asked({1.0: uniform(rng, 3), 4.0: learnt}), BAND, 0)
    assert found["chosen"] == {"scale": 4.0, "images": 2}
    measured = found["measured"]
    assert measured["train"]["value"] == 1 and measured["heldout"]["value"] == 0
    assert measured["train"]["photos"] == SIZE // 2
    assert measured["excess"]["p"] == pytest.approx(1e-4) and measured["auroc"]["value"] == 1
    assert [row["scale"] for row in found["scales"]] == [1.0, 4.0]


def test_too_few_photos_are_said_with_their_number():
    photos = np.arange(12)
    few = Asked({1.0: np.zeros((1, 12), np.float32)}, photos % 2 == 0, photos // 2 % 2, np.zeros(12, int))
    assert "3 positives and 3 negatives" in recall(few, BAND, 0)["too_few"]


def test_a_photos_own_label_does_not_choose_its_score():
    rng = np.random.default_rng(1)
    one, other = uniform(rng, 1), uniform(rng, 1)
    one[0, ::4] = 2.0  # λ = 1 tells training photos of half 0, λ = 2 those of half 1
    other[0, 2::4] = 2.0
    made = asked({1.0: one, 2.0: other})
    best = made.cross_fitted()
    half = made.half
    assert (best[half == 0] == other[0][half == 0]).all() and (best[half == 1] == one[0][half == 1]).all()


def test_excess_of_photos_has_the_p_of_all_relabellings():
    hits, train = np.array([1, 1, 1, 0, 0, 1, 0, 0], bool), np.array([1, 1, 0, 0, 1, 1, 0, 0], bool)
    labels = null.relabellings(train, np.zeros(8, int), 0, permutations=20_000)
    excess = null.photo_excess(hits, labels)
    assert excess.value == pytest.approx(3 / 4 - 1 / 4)
    as_large = [sum(hits[list(chosen)]) >= 3 for chosen in itertools.combinations(range(8), 4)]
    assert excess.p == pytest.approx(np.mean(as_large), abs=0.012)
    assert null.photo_excess(np.zeros(8, bool), labels).p == 1


def test_p_is_uniform_where_nothing_was_learnt_whatever_the_guide_paints():
    """Some photos come out of every target, on either side, and λ is chosen anew each time."""
    rng, found = np.random.default_rng(2), []
    for _ in range(150):
        easy = rng.random(2 * SIZE)  # the same at every λ
        scores = {scale: (0.6 * easy + 0.5 * uniform(rng)).astype(np.float32) for scale in (1.0, 2.0)}
        measured = recall(asked(scores), ("high", 0.65, 1.0), 0)["measured"]
        found.append((measured["excess"]["p"], measured["p"]))
    relabelled, ranked = np.array(found).T
    assert stats.kstest(ranked, "uniform").pvalue > 0.01
    assert (relabelled <= 0.05).mean() <= 0.1  # discrete: conservative
    assert relabelled.mean() > 0.4


def test_equal_scores_say_nothing():
    found = recall(asked({1.0: np.full((2, 2 * SIZE), 0.5, np.float32)}), BAND, 0)
    measured = found["measured"]
    assert found["chosen"] == {"scale": 1.0, "images": 1}
    assert measured["auroc"]["value"] == 0.5 and measured["p"] == 1 and measured["excess"]["p"] == 1
    assert [rate["value"] for rate in measured["tpr"]] == [0.0, 0.0]
