"""Two sets without pairs: published values, and coverage in simulation."""

import numpy as np
import pytest
from scipy import stats

from side_jax.evidence.intervals import Estimate, mean
from side_jax.evidence.unpaired import difference_of_estimates, unpaired_share_difference


def sets(a, n, b, m):
    return np.arange(n) < a, np.arange(m) < b


def test_interval_is_newcombes():
    """Newcombe 1998, table II, method 10: 56/70 − 48/80, and 0/10 − 0/20."""
    found = unpaired_share_difference(*sets(56, 70, 48, 80)).estimate
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    none = unpaired_share_difference(*sets(0, 10, 0, 20)).estimate
    assert (none.low, none.high) == pytest.approx((-0.1611, 0.2775), abs=5e-5)


def test_p_is_fishers():
    found = unpaired_share_difference(*sets(8, 10, 3, 12))
    assert found.p == pytest.approx(stats.fisher_exact([[8, 2], [3, 9]]).pvalue)
    assert unpaired_share_difference(*sets(0, 10, 0, 20)).p == 1


def test_interval_covers_as_often_as_it_says():
    rng, inside = np.random.default_rng(0), []
    for _ in range(600):
        found = unpaired_share_difference(rng.random(120) < 0.15, rng.random(80) < 0.05).estimate
        inside.append(found.low <= 0.1 <= found.high)
    assert 0.92 < np.mean(inside) < 0.98


def test_difference_of_estimates_covers_and_its_p_is_no_smaller_than_it_says():
    """Of two means of 40 normal draws, 2,000 times."""
    draws = np.random.default_rng(0).normal(size=(2_000, 2, 40))
    found = [difference_of_estimates(mean(one), mean(other)) for one, other in draws]
    assert np.mean([one.estimate.low <= 0 <= one.estimate.high for one in found]) > 0.94
    assert np.mean([one.p < 0.05 for one in found]) < 0.06


def test_difference_of_skewed_estimates_by_hand():
    """Ends from 0.1 − 0.02 and 0.1 + 0.03, 0.3 − 0.04 and 0.3 + 0.04: hypotenuses of those that point the same way."""
    found = difference_of_estimates(Estimate(0.1, 0.08, 0.13), Estimate(0.3, 0.26, 0.34))
    np.testing.assert_allclose(found.estimate, [-0.2, -0.2 - np.hypot(0.02, 0.04), -0.2 + 0.05])
    assert found.p < 0.001
