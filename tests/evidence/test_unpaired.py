"""Shares of two sets without pairs: published values, and coverage in simulation."""

import numpy as np
import pytest
from scipy import stats

from side_jax.evidence.unpaired import unpaired_share_difference


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
