import itertools

import numpy as np
import pytest

from side_jax.evidence.before_after import Images, auroc_change, compare_images, excess_change, toss_test
from side_jax.evidence.intervals import share_difference, unique_difference
from side_jax.evidence.scores import Nearest
from side_jax.evidence.unpaired import difference_of_estimates, unpaired_share_difference

HIGH = ("high", 0.6, 1.0)


def nearest(*scores):
    return Nearest(np.array(scores, np.float32), np.arange(len(scores), dtype=np.int32))


BEFORE = Images(nearest(0.9, 0.8, 0.7, 0.1), nearest(0.9, 0.8, 0.1, 0.1), nearest(0.2, 0.2, 0.65, 0.2))
AFTER = Images(nearest(0.9, 0.2, 0.3, 0.1), nearest(0.9, 0.2, 0.1, 0.3), nearest(0.2, 0.3, 0.2, 0.2))


def test_scores_and_their_changes_by_hand():
    found = compare_images(BEFORE, AFTER, HIGH, paired=True)
    values = {name: (one.before.value, one.after.value, one.difference.estimate.value) for name, one in found.items()}
    assert values == {
        "ams": (0.75, 0.25, -0.5),
        "ums": (0.75, 0.25, -0.5),
        "heldout": (0.25, 0.0, -0.25),
        "excess": (0.25, 0.25, 0.0),
        "nearest": (0.5, 0.5, 0.0),
    }


@pytest.mark.parametrize("paired", [True, False])
def test_differences_are_those_of_the_house(paired):
    found = compare_images(BEFORE, AFTER, HIGH, paired=paired)
    hits = AFTER.train.hits(HIGH), BEFORE.train.hits(HIGH)
    assert found["ams"].difference == (share_difference if paired else unpaired_share_difference)(*hits)
    if paired:
        winners = AFTER.train.winners(HIGH), BEFORE.train.winners(HIGH)
        assert found["ums"].difference == unique_difference(*winners)
    else:
        assert found["ums"].difference == difference_of_estimates(found["ums"].after, found["ums"].before)


def test_without_heldout_photos_nothing_is_calibrated():
    alone = Images(BEFORE.train, None, None)
    assert set(compare_images(alone, AFTER, HIGH, paired=True)) == {"ams", "ums"}


def test_other_numbers_of_images_are_refused():
    with pytest.raises(ValueError, match="as many images of both audits are compared, got 4 and 3"):
        compare_images(BEFORE, AFTER.first(3), HIGH, paired=True)


@pytest.mark.parametrize("changes", [[], [0, 0], [1, -2, 2, 1], [-1, -1, -1, 2], [2, 2, 2], [-2, 1, 1, 0]])
def test_p_of_tosses_is_that_of_all_signs(changes):
    changes = np.array(changes, int)
    sums = [int(np.dot(signs, changes)) for signs in itertools.product((-1, 1), repeat=len(changes))]
    expected = np.mean([abs(one) >= abs(int(changes.sum())) for one in sums])
    assert toss_test(changes) == pytest.approx(expected)


@pytest.mark.parametrize("paired", [True, False])
def test_excess_interval_covers_and_p_is_no_smaller_than_it_says(paired):
    """2,000 audits of 200 images whose excess does not change: 12 % hits with training photos, 4 % with held-out."""
    rng = np.random.default_rng(0)
    covered, small = 0, 0
    for _ in range(2_000):
        hits = rng.random((2, 200))
        if paired:  # most images come out as before
            hits[1] = np.where(rng.random(200) < 0.7, hits[0], hits[1])
        before, after = ((one < 0.12).astype(int) - (one > 0.96) for one in hits)
        change = excess_change(before, after, paired=paired).difference
        covered += change.estimate.low <= 0 <= change.estimate.high
        small += change.p < 0.05
    assert covered / 2_000 > 0.94
    assert small / 2_000 < 0.06


def test_auroc_of_the_same_photos_is_compared_in_pairs():
    rng = np.random.default_rng(0)
    member = np.arange(200) < 100
    scores = rng.normal(size=200) + member
    change = auroc_change(scores, scores + rng.normal(scale=0.1, size=200), member)
    assert change.before.value > 0.7
    assert change.difference.estimate.high - change.difference.estimate.low < 0.05  # either alone: 0.13
    assert auroc_change(scores[:5], scores[:5], member[:5]) is None
