import itertools

import numpy as np
import pytest

from side_jax.evidence.forecast import chao1, expected_umem, extrapolated, rarefied, smoothed, unseen_mass
from side_jax.evidence.intervals import Finds


def probabilities(kind, total=0.5, count=200):
    weights = np.ones(count) if kind == "uniform" else 1 / np.arange(1, count + 1)
    return total * weights / weights.sum()


def simulated_counts(rng, p, num_images):
    """How often each of M photos is found by images that find at most one."""
    return rng.multinomial(num_images, [*p, 1 - p.sum()])[:-1]


def finds_of(counts, num_images):
    """Image n finds one photo; the rest of the images find none."""
    winners = np.full(num_images, -1)
    winners[: counts.sum()] = np.repeat(np.arange(len(counts)), counts)
    return Finds.of(winners)


@pytest.mark.parametrize("num_images", [10, 1_000, 100_000, 1_000_000])
@pytest.mark.parametrize("kind", ["uniform", "zipf"])
def test_expectation_is_what_simulation_gives(kind, num_images):
    """NUMBERS §2: p uniform and Zipf, N_G from 10 to 10⁶; within 4 standard errors of 200 sweeps."""
    p = probabilities(kind, count=20_000)
    rng = np.random.default_rng(0)
    counts = np.stack([simulated_counts(rng, p, num_images) for _ in range(200)])
    values, expected = (counts > 0).sum(1), expected_umem(p, num_images)
    error = values.std(ddof=1) / len(values) ** 0.5
    assert abs(values.mean() - expected) <= 4 * error + 1e-9 * expected
    assert error < 0.05 * expected


def test_small_cases_are_exact():
    """All 4³ outcomes of three images over three photos, written out."""
    p = np.array([0.5, 0.2, 0.1])
    outcomes = list(itertools.product(range(4), repeat=3))
    weights = [np.prod([[*p, 0.2][photo] for photo in outcome]) for outcome in outcomes]
    distinct = sum(w * len(set(o) - {3}) for w, o in zip(weights, outcomes, strict=True))
    assert expected_umem(p, 3) == pytest.approx(distinct, rel=1e-14)
    assert expected_umem(np.array([1.0, 0.0]), 5) == 1
    assert expected_umem(p, 0) == 0


def test_tiny_probabilities_lose_no_digits():
    """1 − (1 − p)^N at p = 1e-20: N p, where the plain formula gives 0."""
    assert 1 - (1 - 1e-20) ** 10**6 == 0
    assert expected_umem(np.full(1_000, 1e-20), 10**6) == pytest.approx(1e-11, rel=1e-10)


def test_rarefaction_averages_over_all_choices_of_images():
    found = Finds(np.array([0, 0, 1, 2, 4]), np.array([3, 5, 3, 1, 3]), 5)
    for n in range(6):
        choices = list(itertools.combinations(range(5), n))
        mean = np.mean([len(set(found.photos[np.isin(found.images, choice)])) for choice in choices])
        assert rarefied(found, n) == pytest.approx(mean, abs=1e-12)


@pytest.mark.parametrize("kind", ["uniform", "zipf"])
def test_rarefaction_is_unbiased(kind):
    p, rng = probabilities(kind), np.random.default_rng(1)
    values = [rarefied(finds_of(simulated_counts(rng, p, 400), 400), 150) for _ in range(300)]
    assert abs(np.mean(values) - expected_umem(p, 150)) < 4 * np.std(values) / 300**0.5


@pytest.mark.parametrize("kind", ["uniform", "zipf"])
@pytest.mark.parametrize("total", [400, 600, 800])
def test_extrapolation_covers_what_more_images_find(kind, total):
    """To 1, 1.5 and 2 times 400 images: the 95 % interval holds what does come in at least 92 % of 300 sweeps."""
    p, rng = probabilities(kind), np.random.default_rng(2)
    covered, errors = 0, []
    for _ in range(300):
        first = simulated_counts(rng, p, 400)
        later = int((first + simulated_counts(rng, p, total - 400) > 0).sum())
        estimate = extrapolated(finds_of(first, 400), total)
        assert estimate.low <= estimate.value <= estimate.high
        covered += estimate.low <= later <= estimate.high
        errors.append(estimate.value - later)
    assert covered >= 0.92 * 300
    assert abs(np.mean(errors)) < 0.02 * expected_umem(p, total)


def test_bad_input_is_refused():
    for bad in (-0.1, 1.5, np.nan):
        with pytest.raises(ValueError, match=rf"p\[1\] must be a probability, got {bad}"):
            expected_umem(np.array([0.1, bad]), 10)
    with pytest.raises(ValueError, match="num_images must be 0 or more, got -1"):
        expected_umem(np.array([0.1]), -1)
    found = Finds.of(np.array([0, -1]))
    with pytest.raises(ValueError, match="between 0 and 2, the images there are, got 3"):
        rarefied(found, 3)
    with pytest.raises(ValueError, match="between 2 and 4, twice the sweep, got 5"):
        extrapolated(found, 5)
    with pytest.raises(ValueError, match="above 4, twice the sweep, got 4"):
        smoothed(found, 4)


@pytest.mark.parametrize("share", [0.3, 0.02, 0.002])
@pytest.mark.parametrize("kind", ["uniform", "zipf"])
def test_interval_of_the_unseen_mass_holds_it(kind, share):
    """The share of images whose photo no image has found: in at least 93 % of 300 sweeps of 480 images."""
    p, rng, covered = probabilities(kind, share), np.random.default_rng(3), 0
    for _ in range(300):
        counts = simulated_counts(rng, p, 480)
        estimate = unseen_mass(finds_of(counts, 480))
        covered += estimate.low <= p[counts == 0].sum() <= estimate.high
    assert covered >= 0.93 * 300


def test_unseen_mass_by_hand():
    """100 images: ten photos once, three twice, the others no match."""
    estimate, spread = unseen_mass(finds_of(np.array([1] * 10 + [2] * 3), 100)), 1.96 * (10 * 0.9 + 6) ** 0.5 / 100
    assert estimate == pytest.approx((0.1, 0.1 - spread, max(0.1 + spread, 0.1762)), abs=1e-4)
    assert unseen_mass(Finds.of(np.array([3, 5, 3, -1])))[:2] == (1 / 4, 0)


def test_a_sweep_that_found_nothing_forecasts_little_and_not_nothing():
    nothing = finds_of(np.zeros(10, int), 100)
    upper = 1 - 0.025 ** (1 / 100)  # Clopper-Pearson's for 0 of 100
    assert unseen_mass(nothing) == (0, 0, pytest.approx(upper))
    assert extrapolated(nothing, 100) == (0, 0, 0)
    assert extrapolated(nothing, 200) == (0, 0, pytest.approx(100 * upper))
    assert chao1(nothing, 10) == (0, 0, 0)


@pytest.mark.parametrize("share", [0.3, 0.02])
@pytest.mark.parametrize("kind", ["uniform", "zipf"])
def test_the_lower_bound_is_one(kind, share):
    p, rng = probabilities(kind, share), np.random.default_rng(4)
    bounds = [chao1(finds_of(simulated_counts(rng, p, 480), 480), 200) for _ in range(200)]
    assert np.mean([bound.low <= 200 for bound in bounds]) >= 0.97
    assert all(bound.low <= bound.value <= bound.high <= 200 for bound in bounds)


def test_the_lower_bound_by_hand():
    """φ_1 = 4, φ_2 = 1 of 10 images: 5 + 0.9 · 4 · 3 / (2 · 2)."""
    assert chao1(finds_of(np.array([1, 1, 1, 1, 2]), 10), 100).value == pytest.approx(7.7)


def test_smoothed_series_is_near_what_five_times_as_many_images_find():
    """Few hits, as in an audit: its bias is less than a quarter of what comes."""
    p, rng, errors, covered = probabilities("zipf", 0.05), np.random.default_rng(5), [], 0
    for _ in range(200):
        first = simulated_counts(rng, p, 480)
        later = int((first + simulated_counts(rng, p, 4 * 480) > 0).sum())
        estimate = smoothed(finds_of(first, 480), 5 * 480)
        errors.append((estimate.value - later) / later)
        covered += estimate.low <= later <= estimate.high
    assert abs(np.mean(errors)) < 0.25
    assert covered >= 0.85 * 200
