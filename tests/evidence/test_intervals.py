import numpy as np
import pytest

from side_jax.evidence import intervals


def found_lists(rng, p, n):
    """n draws of at most one training image each, image j with probability p[j]."""
    draws = rng.choice(len(p) + 1, n, p=[*p, 1 - p.sum()])
    return [np.array([d] if d < len(p) else [], int) for d in draws]


def test_clopper_pearson_by_known_values():
    """10 of 100: [.0490, .1762]; 0 of 100: upper end 1 − .025^(1/100) = .0362."""
    some = intervals.proportion(np.arange(100) < 10)
    assert (some.value, round(some.low, 4), round(some.high, 4)) == (0.1, 0.0490, 0.1762)
    none = intervals.proportion(np.zeros(100, bool))
    assert (none.low, round(none.high, 4)) == (0, 0.0362)


def test_lone_finds_by_hand():
    found = [np.array([1]), np.array([1]), np.array([2, 3]), np.array([], int), np.array([4, 1])]
    np.testing.assert_array_equal(intervals.lone_finds(found), [0, 0, 2, 0, 1])


def test_lone_finds_are_what_deletion_loses():
    found = found_lists(np.random.default_rng(0), np.full(30, 0.02), 40)
    whole = len(np.unique(np.concatenate(found)))
    without = [whole - len(np.unique(np.concatenate(found[:i] + found[i + 1 :]))) for i in range(40)]
    np.testing.assert_array_equal(intervals.lone_finds(found), without)


@pytest.mark.parametrize("kind", ["uniform", "zipf"])
def test_ums_interval_covers_its_expectation(kind):
    weights = np.ones(100) if kind == "uniform" else 1 / np.arange(1, 101)
    p, n, rng = 0.3 * weights / weights.sum(), 300, np.random.default_rng(1)
    expected = (1 - (1 - p) ** n).sum() / n  # E[N_umem] / N_G
    covered = 0
    for _ in range(400):
        estimate = intervals.unique_share(found_lists(rng, p, n))
        covered += estimate.low <= expected <= estimate.high
    assert covered / 400 >= 0.94


def test_difference_interval_covers_zero_for_equal_models():
    p, n, rng = np.full(50, 0.004), 300, np.random.default_rng(2)
    draw = lambda: np.array([found[0] if len(found) else -1 for found in found_lists(rng, p, n)])
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
    hub = [np.array([7])] * 2 + [np.array([], int)] * 318
    assert intervals.unique_share(hub).high > 1 / 320


def test_many_new_finds_are_a_significant_gain():
    estimate, p = intervals.unique_difference(np.arange(160) // 4, np.full(160, -1))
    assert estimate.low > 0
    assert p < 0.001


def test_nothing_found_twice_over_is_an_open_difference():
    estimate, p = intervals.unique_difference(np.full(50, -1), np.full(50, -1))
    assert estimate.low < 0 < estimate.high
    assert p == 1


def test_no_finds_still_have_an_upper_end():
    estimate = intervals.unique_share([np.array([], int)] * 50)
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
    found = found_lists(rng, np.full(30, 0.02), 100)
    assert intervals.mean_unique_share([found]) == intervals.unique_share(found)
    assert intervals.mean_unique_share([found, found]) == intervals.unique_share(found)
    hits = np.arange(100) < 10
    assert intervals.mean_share(hits[None]) == intervals.proportion(hits)


def test_mean_share_by_hand():
    """Two λ over four images, hits (1, 1), (1, 0), (0, 0), (0, 0): mean 3/8."""
    hits = np.array([[1, 1, 0, 0], [1, 0, 0, 0]], bool)
    assert intervals.mean_share(hits).value == 3 / 8
    assert intervals.mean_share(~np.ones((2, 50), bool)).high == pytest.approx(1 - 0.025 ** (1 / 50))


@pytest.mark.parametrize("alike", [True, False])
def test_difference_over_a_sweep_rejects_rarely_if_there_is_none(alike):
    """One distribution at four λ and in the baseline; the images of the four λ are the same, or independent."""
    p, n, rng, rejected = np.full(50, 0.004), 150, np.random.default_rng(4), np.zeros(2)
    for _ in range(40):
        draws = np.array([[f[0] if len(f) else -1 for f in found_lists(rng, p, n)] for _ in range(2 if alike else 5)])
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
