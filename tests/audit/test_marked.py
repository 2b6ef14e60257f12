import numpy as np
import pytest

from side_jax.audit.by_method import Row
from side_jax.audit.marked import precision_of_bands
from side_jax.evidence.scores import Nearest
from side_jax.report.marks import Mark

BANDS = (("mid", 0.5, 0.6), ("high", 0.6, 1.0))
BEST = np.array([0.9, 0.8, 0.7, 0.55, 0.1], np.float32)
SWEEP = {0.0: Row(Nearest(BEST, np.arange(5)), None, None, None, None)}


def test_precision_counts_copies_among_marks_of_a_band_and_of_drawn_pairs():
    marks = [Mark(0.0, 0, True), Mark(0.0, 1, True), Mark(0.0, 2, False), Mark(0.0, 3, False), Mark(0.0, 4, False)]
    mid, high = precision_of_bands(marks, SWEEP, {0.0: np.array([2, 3])}, BANDS)
    assert (high["all"]["marked"], high["all"]["kept"]) == (3, 2)
    assert high["all"]["precision"]["value"] == pytest.approx(2 / 3)
    assert high["all"]["precision"]["low"] == pytest.approx(0.0943, abs=1e-4)  # Clopper–Pearson, 2 of 3
    assert (high["drawn"]["marked"], high["drawn"]["kept"]) == (1, 0)
    assert (mid["all"]["marked"], mid["drawn"]["kept"]) == (1, 0)


def test_a_band_without_marks_has_no_precision():
    mid, _ = precision_of_bands([Mark(0.0, 0, True)], SWEEP, {}, BANDS)
    assert mid["all"] == {"marked": 0, "kept": 0, "precision": None}


@pytest.mark.parametrize("mark", [Mark(3.0, 0, True), Mark(0.0, 5, True), Mark(0.0, -1, True)])
def test_a_mark_of_an_image_that_is_not_there_is_one_line(mark):
    with pytest.raises(ValueError, match="the sweep has no image"):
        precision_of_bands([mark], SWEEP, {}, BANDS)
