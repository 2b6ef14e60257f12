import time

import numpy as np
import pytest

from side_jax.evidence.ratios import Overlap, equal_counts_p, ratio_with_interval, shared_hits, shared_photos

FEW, MANY = 300, 900  # images of the one and of the other sample


def zipf(photos, total):
    """Photos found very unequally often: probabilities ∝ 1/j that sum to `total`."""
    weights = 1 / np.arange(1, photos + 1)
    return total * weights / weights.sum()


def found(p, draws):
    """The photo of each uniform draw, −1 for none."""
    photo = np.searchsorted(np.cumsum(p), draws)
    return np.where(photo < len(p), photo, -1)


def distinct(p, n):
    return (1 - (1 - p) ** n).sum()


def scaled(p, wanted, n):
    """p times the factor that makes n images find `wanted` distinct photos in expectation."""
    low, high = 0.0, 1 / p.sum()
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if distinct(middle * p, n) < wanted else (low, middle)
    return low * p


def simulate(p, q, pairing, repeats=400):
    """Rejections at .05 and coverage of the true ratio, by photos and by hits; MANY images of q, FEW of p."""
    rng = np.random.default_rng(0)
    ratios = distinct(p, FEW) / distinct(q, MANY), FEW * p.sum() / (MANY * q.sum())
    rejected, covered = np.zeros(2), np.zeros(2)
    for _ in range(repeats):
        draws = rng.random(MANY)
        ours = {"same": draws[:FEW], "opposite": 1 - draws[:FEW], "none": rng.random(FEW)}[pairing]
        winners, baseline = found(p, ours), found(q, draws)
        overlaps = shared_photos(winners, baseline), shared_hits(winners >= 0, baseline >= 0)
        for i, overlap in enumerate(overlaps):
            ratio = ratio_with_interval(overlap)
            rejected[i] += equal_counts_p(overlap) < 0.05
            covered[i] += ratio.low <= ratios[i] <= (np.inf if ratio.high is None else ratio.high)
    return rejected / repeats, covered / repeats


_LIMIT = 0.05 + 2 * (0.05 * 0.95 / 400) ** 0.5  # two standard errors of 400 repeats
OTHERS = np.concatenate([np.zeros(60), np.full(60, 1 / 60)])
HUBS = np.concatenate([zipf(60, 0.1), np.zeros(60)])


@pytest.mark.parametrize("pairing", ["none", "same", "opposite"])
@pytest.mark.parametrize(("photos", "total"), [(100, 0.05), (5, 0.01), (50, 0.004), (20, 0.3)])
def test_equal_yield_is_rejected_in_at_most_a_twentieth_of_the_samples(photos, total, pairing):
    """The first's images hit the same hubs thrice as often, and are a third as many: 3 to 25 photos, 3 to 270 hits."""
    rejected, covered = simulate(zipf(photos, 3 * total), zipf(photos, total), pairing)
    assert (rejected <= _LIMIT).all()
    assert (covered >= 1 - _LIMIT).all()


@pytest.mark.parametrize("pairing", ["none", "same", "opposite"])
@pytest.mark.parametrize(
    ("other", "hubs"), [(OTHERS, HUBS), (np.full(60, 1 / 60), zipf(60, 0.05)), (zipf(200, 1.0), zipf(60, 0.05))]
)
def test_equally_many_photos_are_rejected_rarely_even_if_they_are_others(other, hubs, pairing):
    """The first finds others than the second's hubs, or all alike; equally many in expectation."""
    rejected, covered = simulate(scaled(other, distinct(hubs, MANY), FEW), hubs, pairing)
    assert rejected[0] <= _LIMIT
    assert (covered >= 1 - _LIMIT).all()


@pytest.mark.parametrize("times", [0.5, 3.0])
def test_interval_covers_the_ratio_where_it_is_not_one_and_the_test_sees_that(times):
    rejected, covered = simulate(zipf(100, 3 * times * 0.08), zipf(100, 0.08), "same")
    assert (covered >= 1 - _LIMIT).all()
    assert (rejected > 0.5).all()


def test_units_are_counted_by_hand():
    hits, baseline = np.array([1, 1, 0], bool), np.array([1, 0, 0, 1, 1], bool)
    assert shared_hits(hits, baseline) == Overlap(1, 1, 2)
    winners, others = np.array([7, 7, 3, -1]), np.array([-1, 3, 5, 5, 9])
    assert shared_photos(winners, others) == Overlap(1, 1, 2)
    assert Overlap(1, 1, 2).counts == (2, 3)


def test_equal_images_are_mcnemars_test():
    """8 images gained and 1 lost: p = 2 (C(9,0) + C(9,1)) / 2⁹."""
    assert equal_counts_p(Overlap(30, 8, 1)) == pytest.approx(20 / 512)


def test_interval_without_units_in_both_is_the_exact_one():
    """10 to 2: the share 10/12 has Clopper–Pearson [.5159, .9791], so the ratio [1.066, 46.9]."""
    ratio = ratio_with_interval(Overlap(0, 10, 2))
    assert ratio.value == 5
    assert (round(ratio.low, 3), round(ratio.high, 1)) == (1.066, 46.9)


def test_interval_with_units_in_both_by_hand():
    """X = 20.5, Y = 10.5 with halves, 10 alone: sd √(11 / 215.25) = .226."""
    ratio = ratio_with_interval(Overlap(10, 10, 0))
    assert ratio.value == 2
    assert (round(ratio.low, 2), round(ratio.high, 2)) == (1.25, 3.04)


def test_what_many_units_have_in_common_narrows_the_interval():
    widths = [ratio.high - ratio.low for ratio in map(ratio_with_interval, (Overlap(90, 10, 10), Overlap(10, 90, 90)))]
    assert widths[0] < widths[1] / 2


def test_ratio_to_nothing_has_a_lower_end_only():
    six = ratio_with_interval(Overlap(0, 6, 0))
    assert six.value is None and six.high is None
    assert six.low > 1
    assert ratio_with_interval(Overlap(0, 0, 0)) == (None, 0.0, None)
    assert equal_counts_p(Overlap(0, 0, 0)) == 1
    nothing = ratio_with_interval(Overlap(0, 0, 6))
    assert nothing.value == nothing.low == 0
    assert nothing.high < 1


def test_interval_holds_its_ratio_and_excludes_one_where_the_test_rejects():
    """But for p between .03 and .07, where a normal interval and an exact test may part."""
    for both, first, second in np.random.default_rng(0).geometric(0.03, (200, 3)) - 1:
        overlap = Overlap(int(both), int(first), int(second))
        ratio, p = ratio_with_interval(overlap), equal_counts_p(overlap)
        high = np.inf if ratio.high is None else ratio.high
        assert ratio.value is None or ratio.low <= ratio.value <= high
        if not 0.03 < p < 0.07:
            assert (p < 0.05) == (not ratio.low <= 1 <= high)


def test_fewer_images_in_the_baseline_are_refused():
    with pytest.raises(ValueError, match="at least the 3 images of the other, got 2"):
        shared_hits(np.ones(3, bool), np.ones(2, bool))
    with pytest.raises(ValueError, match="at least the 3 images of the other, got 2"):
        shared_photos(np.arange(3), np.arange(2))


def test_fifty_thousand_images_take_less_than_a_second():
    rng = np.random.default_rng(0)
    winners, baseline = (rng.integers(-1, 25_000, size) for size in (50_000, 150_000))
    started = time.perf_counter()
    for overlap in (shared_photos(winners, baseline), shared_hits(winners >= 0, baseline >= 0)):
        ratio_with_interval(overlap), equal_counts_p(overlap)
    assert time.perf_counter() - started < 1
