import numpy as np
import pytest

from side_jax.evidence.scores import Nearest
from side_jax.evidence.table import table1

BANDS = (("mid", 0.5, 0.6), ("high", 0.6, 1.0))


def scores(best, winner):
    return Nearest(np.asarray(best, np.float32), np.asarray(winner, np.int32))


def test_rows_are_means_over_the_scales_by_hand():
    """SIDE: high hits 2 and 1 of 4 images, photos {0, 1} and {0}: AMS (2/4 + 1/4) / 2, UMS (2/4 + 1/4) / 2."""
    random = scores([0.7, 0.1, 0.1, 0.1], [0, 1, 2, 3])
    side = [scores([0.7, 0.9, 0.1, 0.55], [0, 1, 2, 3]), scores([0.7, 0.1, 0.1, 0.1], [0, 1, 2, 3])]
    first, second = table1({"random": [random], "side": side}, {"side": side}, BANDS)
    assert first["method"] == "random"
    assert first["gain"] is first["heldout"] is None
    assert second["train"]["high"]["ams"]["value"] == second["train"]["high"]["ums"]["value"] == 3 / 8
    assert second["train"]["mid"]["ams"]["value"] == 1 / 8
    assert second["heldout"] == second["train"]
    assert second["gain"]["high"]["ams"]["difference"]["value"] == pytest.approx(1 / 8)
    assert second["gain"]["high"]["ums"]["difference"]["value"] == pytest.approx(1 / 8)
    assert second["gain"]["high"]["ams"]["p"] > 0.2
