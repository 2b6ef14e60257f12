import math

import numpy as np
import pytest

from side_jax.evidence.same_picture import (
    IDENTICAL,
    OTHER,
    SAME,
    SAME_BY_SCORES,
    pixel_difference,
    same_picture,
    score_difference,
)

IMAGE = np.random.default_rng(0).integers(0, 256, (8, 8, 1), np.uint8)


def test_difference_of_pixels_by_hand():
    recorded = np.zeros((2, 2, 1), np.uint8)
    image = np.array([[[3]], [[0]]] * 1, np.uint8).repeat(2, 1)  # two of four values differ by 3
    share, largest, psnr = pixel_difference(image, recorded)
    assert (share, largest) == (0.5, 3)
    assert psnr == pytest.approx(10 * math.log10(255**2 / 4.5))


def test_no_gray_level_wraps_around():
    assert pixel_difference(np.zeros((1, 1, 1), np.uint8), np.full((1, 1, 1), 255, np.uint8)).largest == 255


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        (lambda image: image, IDENTICAL),
        (lambda image: image ^ 1, SAME),  # a gray level in every pixel: 48 dB
        (lambda image: image[::-1], OTHER),
        (lambda image: np.clip(image.astype(int) + 12, 0, 255).astype(np.uint8), OTHER),  # 26 dB
    ],
)
def test_pixels_decide_where_they_were_kept(change, answer):
    assert same_picture(pixel_difference(np.ascontiguousarray(change(IMAGE)), IMAGE), scores=0.5) == answer


def test_scores_decide_where_pixels_were_not_kept():
    recorded = np.array([0.9813, 0.91], np.float32)
    close = score_difference(np.array([0.9812, 0.9102], np.float32), recorded)
    assert close == pytest.approx(2e-4, rel=1e-2)
    assert same_picture(None, close) == SAME_BY_SCORES
    assert same_picture(None, score_difference(np.array([0.9813, 0.88], np.float32), recorded)) == OTHER
