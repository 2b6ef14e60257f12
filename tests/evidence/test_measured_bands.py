import numpy as np
import pytest

from side_jax.evidence.bands import measured_bands


@pytest.mark.given(
    kind=12,
    input="2,000 held-out photos, without published bands",
    before="",
    now="10, 1 and 0.1 % of them reach low, mid and high, each rate with its interval",
)
def test_at_most_the_fixed_share_of_held_out_photos_reaches_each_band():
    best = np.random.default_rng(0).uniform(0.2, 0.9, 2000).astype(np.float32)
    found = measured_bands(best)
    assert [(name, round(rate.value * 2000)) for name, rate in found.rates.items()] == [
        ("low", 200),
        ("mid", 20),
        ("high", 2),
    ]
    for (name, low, _), (_, start, _) in zip(found.bands, (*found.bands[1:], ("", 1.0, 1)), strict=True):
        rate = found.rates[name]
        assert rate.value == (best >= low).mean()
        assert rate.low < rate.value < rate.high
        assert low < start <= 1
    assert [end for _, _, end in found.bands] == [found.bands[1][1], found.bands[2][1], 1.0]


@pytest.mark.given(
    kind=12,
    input="14 held-out photos, without published bands",
    before="",
    now="none reaches high, and its rate has an interval",
)
def test_few_photos_reach_no_high_band_and_the_interval_says_how_little_that_is():
    best = np.linspace(0.3, 0.71, 14).astype(np.float32)
    found = measured_bands(best)
    assert [name for name, _, _ in found.bands] == ["low", "high"]  # mid would begin where high does
    assert found.bands[1][1] == pytest.approx(0.71, abs=2e-4)
    assert found.bands[1][1] > best.max()
    assert found.rates["high"].value == 0
    assert found.rates["high"].high == pytest.approx(1 - 0.025 ** (1 / 14))
    assert measured_bands(np.array([0.5], np.float32)).bands == (("high", 0.5001, 1.0),)


@pytest.mark.parametrize(("score", "limit"), [(1.0, 0.9999), (0.99999, 0.9999), (-0.25, -0.2499), (0.0, 0.0001)])
def test_equal_scores_are_all_below_or_all_in_a_band(score, limit):
    found = measured_bands(np.full(50, score, np.float32))
    assert found.bands == (("high", limit, 1.0),)
    assert found.rates["high"].value == (score >= limit)
