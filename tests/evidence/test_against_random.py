import numpy as np
import pytest

from side_jax.evidence.against_random import compare_at_equal_compute, compare_counts
from side_jax.evidence.ratios import shared_hits, shared_photos
from side_jax.evidence.scores import Nearest

BAND = ("high", 0.6, 1.0)


def scores(winners):
    """Image i finds photo `winners[i]` with score .9; for −1 nothing."""
    winners = np.asarray(winners, np.int32)
    return Nearest(np.where(winners >= 0, 0.9, 0.1).astype(np.float32), np.maximum(winners, 0))


def test_counts_are_of_the_methods_images_and_of_all_of_randoms():
    method, random = scores([1, 1, 2, -1]), scores([1, -1, -1, -1, 3, 3, 4, 5])
    hits = compare_counts(shared_hits(method.hits(BAND), random.hits(BAND)))
    photos = compare_counts(shared_photos(method.winners(BAND), random.winners(BAND)))
    assert (hits["count"], hits["random_count"]) == (3, 5)
    assert (photos["count"], photos["random_count"]) == (2, 4)
    assert hits["ratio"]["value"] == 3 / 5
    assert hits["ratio"]["low"] < 3 / 5 < hits["ratio"]["high"]
    assert hits["p"] == pytest.approx(1 - 20 / 64)  # 2 alone against 4: 1 − C(6, 3) / 2⁶


def test_best_scale_is_chosen_on_even_images_and_measured_on_half_of_everything():
    """λ = 3 has its hits on even images, λ = 7 a photo more there: each is chosen for that, and measured on odd."""
    lucky = [5, -1] * 20
    varied = [6, -1, 7, 8] * 10
    random = [-1, 4] * 50
    found = compare_at_equal_compute({3.0: scores(lucky), 7.0: scores(varied)}, scores(random), BAND)
    assert (found["num_images"], found["random_images"]) == (20, 50)
    assert (found["hits"]["scale"], found["hits"]["count"], found["hits"]["random_count"]) == (3.0, 0, 50)
    assert (found["photos"]["scale"], found["photos"]["count"], found["photos"]["random_count"]) == (7.0, 1, 1)


def test_gain_at_equal_images_may_be_none_at_equal_compute():
    """Twice Random's hits, for three times the operations."""
    method, random = np.arange(400) % 4 < 2, np.arange(1200) % 8 < 2
    at_images = compare_counts(shared_hits(method, random[:400]))
    at_compute = compare_counts(shared_hits(method, random))
    assert at_images["ratio"]["value"] == 2 and at_images["p"] < 0.001
    assert at_compute["ratio"]["value"] == pytest.approx(2 / 3) and at_compute["p"] < 0.001
