import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from side_jax.evidence import ranking
from side_jax.evidence.ranking import auroc, auroc_difference, best, chance, too_few, tpr_at_fpr


def case(seed, positives=40, negatives=60, shift=1.0):
    rng = np.random.default_rng(seed)
    positive = np.arange(positives + negatives) < positives
    return rng.normal(size=len(positive)) + shift * positive, positive


def test_auroc_counts_pairs_and_ties_half():
    """Positives .9 and .5 against negatives .5 and .1, ten times each: 3.5 of 4 pairs."""
    scores, positive = np.repeat([0.9, 0.5, 0.5, 0.1], 10), np.repeat([True, True, False, False], 10)
    assert auroc(scores, positive).value == 3.5 / 4
    rounded, labels = np.round(case(0)[0], 1), case(0)[1]
    assert auroc(rounded, labels).value == pytest.approx(roc_auc_score(labels, rounded), abs=1e-12)


def test_variance_is_delongs():
    """V10 = (1, .75), V01 = (.75, 1), each ten times: mean .875, and S10/20 + S01/20 with S = 20/19 · .125²."""
    scores, positive = np.repeat([0.9, 0.5, 0.5, 0.1], 10), np.repeat([True, True, False, False], 10)
    _, influence = ranking._influence(scores, positive)
    assert ranking._variance(influence, None) == pytest.approx(2 * (20 / 19 * 0.125**2) / 20)


def test_intervals_cover_the_truth_as_often_as_they_say():
    """Normal scores with shift 1: AUROC is Φ(1/√2) = .7602. A 90 % or a 99 % interval would fail."""
    covered = [e.low <= 0.7602 <= e.high for e in (auroc(*case(seed)) for seed in range(1000))]
    assert 0.935 <= np.mean(covered) <= 0.97


def test_groups_widen_the_interval_of_copies_to_that_of_the_originals():
    scores, positive = case(1)
    single, copied = auroc(scores, positive), auroc(np.tile(scores, 4), np.tile(positive, 4))
    grouped = auroc(np.tile(scores, 4), np.tile(positive, 4), np.tile(np.arange(100), 4))
    assert copied.high - copied.low < 0.6 * (single.high - single.low)
    np.testing.assert_allclose(grouped, single, atol=0.003)
    groups = (None, np.tile(np.arange(100), 4))
    images, wider = (tpr_at_fpr(np.tile(scores, 4), np.tile(positive, 4), 0.1, group)[0] for group in groups)
    assert images.high - images.low < wider.high - wider.low


def test_perfect_separation_still_has_an_interval():
    """Clopper–Pearson for 10 of 10: .025^(1/10) = .6915."""
    positive = np.arange(40) < 10
    assert auroc(positive.astype(float), positive) == pytest.approx((1, 0.6915, 1), abs=1e-4)
    assert auroc(-positive.astype(float), positive) == pytest.approx((0, 0, 0.3085), abs=1e-4)


def test_difference_of_paired_aurocs_is_tested():
    scores, positive = case(2, 100, 100)
    same, p = auroc_difference(scores, scores, positive)
    assert same.value == 0 and p == 1
    noise = np.random.default_rng(3).normal(size=200)
    better, p = auroc_difference(scores, noise, positive)
    assert better.value == pytest.approx(auroc(scores, positive).value - auroc(noise, positive).value)
    assert p < 0.001 and better.low > 0
    worse, other = auroc_difference(noise, scores, positive)
    assert worse.value == -better.value and other == p


def test_p_of_equal_scores_is_rarely_small():
    """Two scores alike but for noise: p < .05 in some 5 % of cases."""
    rejected = []
    for seed in range(250):
        signal, positive = case(seed)
        rng = np.random.default_rng(seed + 10_000)
        first, second = (signal + rng.normal(size=100) for _ in range(2))
        rejected.append(auroc_difference(first, second, positive)[1] < 0.05)
    assert 0.02 <= np.mean(rejected) <= 0.1
    assert np.mean([chance(*case(seed, shift=0)) < 0.05 for seed in range(100)]) <= 0.13
    assert chance(*case(0, shift=2)) < 0.001


def test_threshold_lets_no_more_negatives_pass_than_asked():
    """Negatives 1 … 20: at FPR .1 two may pass, so the threshold is 18; of positives 17 … 26 only 19 and up pass."""
    scores = np.concatenate([np.arange(17.0, 27.0), np.arange(1.0, 21.0)])
    positive = np.arange(30) < 10
    some, fpr = tpr_at_fpr(scores, positive, 0.1)
    assert (fpr, some.value) == (0.1, 0.8)
    zero, fpr = tpr_at_fpr(scores, positive, 0.04)  # below 1 of 20
    assert (fpr, zero.value) == (0, 0.6)
    assert zero.low < 0.6 < zero.high
    tied, fpr = tpr_at_fpr(np.full(30, 5.0), positive, 0.5)
    assert (fpr, tied.value) == (0, 0)
    assert tied.high == pytest.approx(1 - 0.025**0.1)


def test_best_candidate_is_the_one_that_ranks_best():
    scores, positive = case(4)
    assert best({"noise": np.cos(np.arange(100.0)), "signal": scores, "again": scores}, positive) == "signal"


@pytest.mark.parametrize(
    ("positives", "negatives", "message"),
    [
        (0, 50, "all 50 images are negatives: there is nothing to rank"),
        (50, 0, "all 50 images are positives: there is nothing to rank"),
        (3, 97, "3 positives and 97 negatives, an interval needs at least 10 of each: use more images"),
    ],
)
def test_labels_that_allow_no_interval_are_refused_with_their_counts(positives, negatives, message):
    scores, positive = case(0, positives, negatives)
    assert too_few(positive) == message
    for call in (auroc, chance, lambda s, p: tpr_at_fpr(s, p, 0.01), lambda s, p: auroc_difference(s, s, p)):
        with pytest.raises(ValueError, match=message):
            call(scores, positive)


def test_scores_and_rates_out_of_range_are_refused():
    scores, positive = case(0)
    with pytest.raises(ValueError, match=r"fpr must be in \[0, 1\), got 1.0"):
        tpr_at_fpr(scores, positive, 1.0)
    scores[3] = np.nan
    with pytest.raises(ValueError, match="scores must be finite, got 1 that are not"):
        auroc(scores, positive)
