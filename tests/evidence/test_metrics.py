import re
from pathlib import Path

import numpy as np
import pytest

import side_jax
from side_jax.evidence.metrics import average_over_scales, top_percent_mean
from side_jax.evidence.scores import in_band
from side_jax.matching.columns import carlini_ratio, nearest_ratio
from side_jax.matching.search import Matches
from tests.golden.ours import BANDS, our_scores
from tests.golden.scores import plain_scores, random_scores

# Five images, best scores 1.0, .65, .55, .55, .2; best training images 3, 3, 1, 2, 0.
SCORES = np.array([[1.0, 0.58], [0.65, 0.5], [0.55, 0.5], [0.55, 0.1], [0.2, 0.1]], np.float32)
MATCHES = Matches(SCORES, np.array([[3, 1], [3, 0], [1, 2], [2, 1], [0, 1]], np.int32))


def test_ams_by_hand():
    """Eq. (12): high holds 1.0 (closed above) and .65; mid the two .55."""
    assert side_jax.ams(MATCHES, 0.6, 1.0) == pytest.approx(2 / 5)
    assert side_jax.ams(MATCHES, 0.5, 0.6) == pytest.approx(2 / 5)
    assert side_jax.ams(MATCHES, 0.4, 0.5) == 0


def test_ums_counts_distinct_winners_by_hand():
    """Eq. (13): high finds image 3 twice, mid finds 1 and 2."""
    assert side_jax.ums(MATCHES, 0.6, 1.0) == pytest.approx(1 / 5)
    assert side_jax.ums(MATCHES, 0.5, 0.6) == pytest.approx(2 / 5)
    assert side_jax.ums(MATCHES, 0.7, 0.9) == 0


def test_bands_are_closed_below_and_open_above_except_at_one():
    scores = np.array([0.5, 0.6, 1.0, 1.0000002])
    np.testing.assert_array_equal(in_band(scores, 0.5, 0.6), [True, False, False, False])
    np.testing.assert_array_equal(in_band(scores, 0.6, 1.0), [False, True, True, True])


def test_reversed_band_is_refused():
    with pytest.raises(ValueError, match="low < high, got 0.6 and 0.5"):
        side_jax.ams(MATCHES, 0.6, 0.5)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_scores_equal_a_plain_reading_on_random_matches_with_ties(seed):
    scores = random_scores(seed)
    for low, high in BANDS:
        assert our_scores(scores, low, high) == plain_scores(scores, low, high)


def test_top_percent_is_the_mean_of_the_highest():
    best = np.arange(1000) / 1000
    assert top_percent_mean(best, 0.1) == pytest.approx(0.999)
    assert top_percent_mean(best, 10.0) == pytest.approx(np.arange(900, 1000).mean() / 1000)
    assert top_percent_mean(best[:5], 0.1) == pytest.approx(0.004)


def test_distance_ratios_by_hand():
    distances = np.array([[1.0, 4.0, 4.0], [2.0, 2.0, 2.0]])
    np.testing.assert_allclose(carlini_ratio(distances), [1 / 1.5, 2.0])
    np.testing.assert_allclose(nearest_ratio(distances), [0.25, 1.0])
    assert np.isnan(nearest_ratio(np.ones((1, 1)))).all()


# Table 2 of seed 002, rows 5 … 9: λ -> mid-band AMS and UMS in %.
TABLE_2 = {5: (0.952, 0.436), 6: (1.092, 0.414), 7: (1.110, 0.446), 8: (1.148, 0.444), 9: (1.274, 0.478)}


def test_table_2_averaged_over_lambda_5_to_9_is_table_1():
    rows = [{"ams": ams, "ums": ums} for ams, ums in TABLE_2.values()]
    mean = average_over_scales(rows)
    assert round(mean["ams"], 3) == 1.115
    assert round(mean["ums"], 3) == 0.444


def test_table_2_rows_are_the_papers():
    seeds = Path(__file__).parents[3] / "shared" / "seeds"
    if not seeds.exists():  # a clone without the papers beside it still has the rows above
        assert len(TABLE_2) == 5
        return
    text = next(seeds.glob("002_*.txt")).read_text()
    for scale, (ams, ums) in TABLE_2.items():
        assert re.search(rf"^{scale}\s+{ams:.3f}\s+{ums:.3f}\s", text, re.MULTILINE)
