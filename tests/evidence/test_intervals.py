import numpy as np
import pytest

from side_jax.evidence import intervals
from side_jax.evidence.intervals import Finds


def draw_winners(rng, p, n):
    """n draws of at most one training image each, image j with probability p[j]; −1 for none."""
    draws = rng.choice(len(p) + 1, n, p=[*p, 1 - p.sum()])
    return np.where(draws < len(p), draws, -1)


def finds(*lists):
    """What each image finds."""
    images = np.repeat(np.arange(len(lists)), [len(ids) for ids in lists])
    return Finds(images, np.concatenate(lists).astype(int), len(lists))


def test_clopper_pearson_by_known_values():
    """10 of 100: [.0490, .1762]; 0 of 100: upper end 1 − .025^(1/100) = .0362."""
    some = intervals.proportion(np.arange(100) < 10)
    assert (some.value, round(some.low, 4), round(some.high, 4)) == (0.1, 0.0490, 0.1762)
    none = intervals.proportion(np.zeros(100, bool))
    assert (none.low, round(none.high, 4)) == (0, 0.0362)


def test_lone_finds_by_hand():
    found = finds([1], [1], [2, 3], [], [4, 1])
    np.testing.assert_array_equal(intervals.lone_finds(found), [0, 0, 2, 0, 1])
    assert found.distinct() == 4


def test_lone_finds_are_what_deletion_loses():
    winners = draw_winners(np.random.default_rng(0), np.full(30, 0.02), 40)
    whole = Finds.of(winners)
    without = [whole.distinct() - Finds.of(np.delete(winners, i)).distinct() for i in range(40)]
    np.testing.assert_array_equal(intervals.lone_finds(whole), without)


@pytest.mark.parametrize("kind", ["uniform", "zipf"])
def test_ums_interval_covers_its_expectation(kind):
    weights = np.ones(100) if kind == "uniform" else 1 / np.arange(1, 101)
    p, n, rng = 0.3 * weights / weights.sum(), 300, np.random.default_rng(1)
    expected = (1 - (1 - p) ** n).sum() / n  # E[N_umem] / N_G
    covered = 0
    for _ in range(400):
        estimate = intervals.unique_share(Finds.of(draw_winners(rng, p, n)))
        covered += estimate.low <= expected <= estimate.high
    assert covered / 400 >= 0.94


def test_difference_interval_covers_zero_for_equal_models():
    p, n, rng = np.full(50, 0.004), 300, np.random.default_rng(2)
    draw = lambda: draw_winners(rng, p, n)
    covered, rejected = 0, 0
    for _ in range(50):
        estimate, p_value = intervals.unique_difference(draw(), draw())
        covered += estimate.low <= 0 <= estimate.high
        rejected += p_value < 0.05
    assert covered >= 46
    assert rejected <= 6


def test_one_photo_found_twice_is_no_significant_gain():
    winners, none = np.full(160, -1), np.full(160, -1)
    winners[:2] = 7
    estimate, p = intervals.unique_difference(winners, none)
    assert estimate.value == 1 / 160
    assert estimate.low < 0
    assert p > 0.4
    hub = np.where(np.arange(320) < 2, 7, -1)
    assert intervals.unique_share(Finds.of(hub)).high > 1 / 320


def test_many_new_finds_are_a_significant_gain():
    estimate, p = intervals.unique_difference(np.arange(160) // 4, np.full(160, -1))
    assert estimate.low > 0
    assert p < 0.001


def test_nothing_found_twice_over_is_an_open_difference():
    estimate, p = intervals.unique_difference(np.full(50, -1), np.full(50, -1))
    assert estimate.low < 0 < estimate.high
    assert p == 1


def test_lone_finds_have_the_exact_interval_of_a_poisson_count():
    """Garwood's for 5: 1.623 to 11.668."""
    winners = np.full(100_000, -1)
    winners[:5] = np.arange(5)
    estimate = intervals.unique_share(Finds.of(winners))
    np.testing.assert_allclose(np.array(estimate) * 100_000, [5, 1.623, 11.668], rtol=1e-3)


def test_interval_allows_for_photos_that_are_rare():
    """Ten photos are matched again and again, others by 5 of 100 images: the upper end is seldom too low."""
    p = np.append(np.full(10, 0.019), np.full(310, 0.01 / 310))
    expected, rng = np.sum(1 - (1 - p) ** 480), np.random.default_rng(8)
    highs = [intervals.unique_share(Finds.of(draw_winners(rng, p, 480))).high for _ in range(400)]
    assert np.mean(np.array(highs) * 480 < expected) <= 0.03


def test_no_finds_still_have_an_upper_end():
    estimate = intervals.unique_share(Finds.of(np.full(50, -1)))
    assert estimate.value == estimate.low == 0
    assert estimate.high == pytest.approx(1 - 0.025 ** (1 / 50))


def test_paired_shares_by_mcnemar():
    """8 images gained and 1 lost: p = 2 (C(9,0) + C(9,1)) / 2⁹ = .0391."""
    hits, baseline = np.zeros(100, bool), np.zeros(100, bool)
    hits[:8] = True
    baseline[8] = True
    estimate, p = intervals.share_difference(hits, baseline)
    assert estimate.value == pytest.approx(0.07)
    assert estimate.low < 0.07 < estimate.high
    assert p == pytest.approx(20 / 512)
    assert intervals.share_difference(hits, hits)[1] == 1


def test_sweep_of_one_scale_is_that_scale():
    rng = np.random.default_rng(0)
    found = Finds.of(draw_winners(rng, np.full(30, 0.02), 100))
    assert intervals.mean_unique_share([found]) == intervals.unique_share(found)
    assert intervals.mean_unique_share([found, found]) == intervals.unique_share(found)
    hits = np.arange(100) < 10
    assert intervals.mean_share(hits[None]) == intervals.proportion(hits)


def test_mean_share_by_hand():
    """Two λ over four images, hits (1, 1), (1, 0), (0, 0), (0, 0): mean 3/8."""
    hits = np.array([[1, 1, 0, 0], [1, 0, 0, 0]], bool)
    assert intervals.mean_share(hits).value == 3 / 8
    assert intervals.mean_share(~np.ones((2, 50), bool)).high == pytest.approx(1 - 0.025 ** (1 / 50))


def test_mean_share_ends_at_1_and_is_never_empty():
    every = np.ones((2, 50), bool)
    assert intervals.mean_share(every) == (1, pytest.approx(0.025 ** (1 / 50)), 1)
    assert intervals.mean_share(every) == pytest.approx(intervals.proportion(every[0]))
    nearly = every.copy()
    nearly[0, 0] = False
    estimate = intervals.mean_share(nearly)
    assert estimate.low < estimate.value < estimate.high == 1
    one_of_two = np.stack([every[0], ~every[0]])  # every image hits at one λ alone
    low, high = 0.5 - (1 - 0.025 ** (1 / 50)), 0.5 + (1 - 0.025 ** (1 / 50))
    assert intervals.mean_share(one_of_two) == (0.5, pytest.approx(low), pytest.approx(high))
    assert intervals.mean_share(np.ones((2, 1), bool)) == (1, pytest.approx(0.025), 1)  # one image


@pytest.mark.parametrize("alike", [True, False])
def test_difference_over_a_sweep_rejects_rarely_if_there_is_none(alike):
    """One distribution at four λ and in the baseline; the images of the four λ are the same, or independent."""
    p, n, rng, rejected = np.full(50, 0.004), 150, np.random.default_rng(4), np.zeros(2)
    for _ in range(40):
        draws = np.array([draw_winners(rng, p, n) for _ in range(2 if alike else 5)])
        sweep = np.repeat(draws[1:], 4, axis=0) if alike else draws[1:]
        rejected += [
            intervals.share_difference(sweep >= 0, draws[0] >= 0)[1] < 0.05,
            intervals.unique_difference(sweep, draws[0])[1] < 0.05,
        ]
    assert (rejected <= 5).all()


def test_a_sweep_of_equal_images_is_no_more_evidence_than_one():
    rng = np.random.default_rng(5)
    winners, baseline = rng.integers(-1, 3, (2, 60))
    once, again = (intervals.unique_difference(np.repeat(winners[None], count, 0), baseline) for count in (1, 5))
    assert once == again


def test_gain_at_every_scale_is_seen():
    winners = np.stack([np.where(np.arange(160) < 12, np.arange(160), -1)] * 3)
    none = np.full(160, -1)
    estimate, p = intervals.unique_difference(winners, none)
    assert (estimate.value, p < 0.01) == (12 / 160, True)
    estimate, p = intervals.share_difference(winners >= 0, none >= 0)
    assert (estimate.value, p < 0.01) == (12 / 160, True)


def test_shares_that_never_differ_still_have_an_interval():
    estimate, p = intervals.share_difference(np.zeros(50, bool), np.zeros(50, bool))
    assert estimate.low < 0 < estimate.high
    assert p == 1


def swapped_by_loop(winners, baseline, score):
    """The two-sided p of swapping images at random, one swapping after the other."""
    rng, theirs = np.random.default_rng((0, 3)), np.broadcast_to(baseline, winners.shape)
    actual, extreme = score(winners) - score(theirs), 1
    for _ in range(1_999):
        swap = rng.random(len(baseline)) < 0.5
        difference = score(np.where(swap, theirs, winners)) - score(np.where(swap, winners, theirs))
        extreme += abs(difference) >= abs(actual) - 1e-12
    return extreme / 2_000


@pytest.mark.parametrize("scales", [1, 3])
def test_swapping_as_sets_of_bits_is_swapping_one_by_one(scales):
    rng = np.random.default_rng(6)
    winners, baseline = rng.integers(-30, 12, (scales, 70)), rng.integers(-30, 20, 70)
    winners, baseline = np.maximum(winners, -1), np.maximum(baseline, -1)
    distinct = lambda rows: np.mean([len(np.unique(row[row >= 0])) for row in rows])
    sweep, before = [Finds.of(row) for row in winners], Finds.of(baseline)
    assert intervals._swapping_test(sweep, before) == swapped_by_loop(winners, baseline, distinct)
    own = np.arange(70)
    of_hits = [Finds.of(np.where(row >= 0, own, -1)) for row in (*winners, baseline)]
    hits = winners >= 0, baseline >= 0
    assert intervals._swapping_test(of_hits[:-1], of_hits[-1]) == swapped_by_loop(*hits, lambda rows: rows.mean())


def test_p_over_several_scales_is_at_least_that_of_swapping_and_that_of_the_interval():
    rng = np.random.default_rng(6)
    winners, baseline = np.maximum(rng.integers(-30, 12, (3, 70)), -1), np.maximum(rng.integers(-30, 20, 70), -1)
    swapped = intervals._swapping_test([Finds.of(row) for row in winners], Finds.of(baseline))
    estimate, p = intervals.unique_difference(winners, baseline)
    assert p >= swapped
    assert p >= intervals.normal_test(estimate.value, (estimate.high - estimate.value) / intervals.Z) - 1e-12
    alike = np.repeat(winners[:1], 3, 0)
    assert intervals.unique_difference(alike, baseline)[1] == swapped_by_loop(
        winners[:1], baseline, lambda rows: np.mean([len(np.unique(row[row >= 0])) for row in rows])
    )


def test_a_few_hits_at_independent_scales_are_no_gain():
    """Random has 2.4 hits on average, as each of five λ. By swapping alone p was ≤ .01 in a tenth of the samples."""
    p, n, rng = np.full(50, 0.01 / 50), 240, np.random.default_rng(7)
    small, covered = np.zeros(2), 0
    for _ in range(60):
        rows = np.array([draw_winners(rng, p, n) for _ in range(6)])
        shares = intervals.share_difference(rows[1:] >= 0, rows[0] >= 0)
        small += [shares.p <= 0.01, intervals.unique_difference(rows[1:], rows[0]).p <= 0.01]
        covered += shares.estimate.low <= 0 <= shares.estimate.high
    assert (small <= 1).all()
    assert covered >= 57
