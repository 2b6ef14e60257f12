import numpy as np
import pytest

from side_jax.evidence import ranking
from side_jax.evidence.detectors import aurocs, compare, compare_by_scale, measure
from side_jax.evidence.memorized import MemorizedImages

FPRS = (0.01,)


def test_choice_is_made_on_even_images_and_measured_on_odd_ones():
    """A score that is perfect on even images and useless on odd ones is chosen, and found to be useless."""
    rng, indices = np.random.default_rng(0), np.arange(400)
    positive, noise = rng.random(400) < 0.5, rng.normal(size=400)
    lucky = np.where(indices % 2 == 0, positive.astype(float), noise)
    steady = noise + positive
    found = compare(
        {"both": {"lucky": lucky, "steady": steady}, "other": {"steady": steady}}, positive, indices, (0.01,)
    )
    row, other = found["rows"]
    assert row["chosen"] == "lucky"
    assert row["auroc"]["low"] < 0.5 < row["auroc"]["high"]
    assert row["p"] > 0.05 > other["p"]
    odd = indices % 2 == 1
    assert other["auroc"]["value"] == ranking.auroc(steady[odd], positive[odd]).value
    assert found["positives"] == positive[odd].sum()
    assert found["differences"][0]["difference"]["high"] < 0 and found["differences"][0]["p"] < 0.05


def test_many_useless_candidates_do_not_look_useful():
    """The best of 50 noises on one half is chance on the other: p < .05 in some 5 % of cases."""
    significant = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        noises = {str(i): rng.normal(size=120) for i in range(50)}
        found = compare({"noise": noises}, np.arange(120) % 4 < 2, np.arange(120), ())
        significant.append(found["rows"][0]["p"] < 0.05)
    assert sum(significant) <= 6


def test_rows_have_the_asked_rates_and_those_realised():
    scores, positive = np.arange(60.0), np.arange(60) >= 30
    row = measure(scores, positive, (0.001, 0.1))
    assert row["auroc"]["value"] == 1
    assert [(rate["asked"], rate["fpr"], rate["value"]) for rate in row["tpr"]] == [(0.001, 0, 1), (0.1, 0.1, 1)]
    assert aurocs([scores, -scores], positive) == [1, 0]


@pytest.mark.parametrize(("half", "there"), [("odd", 0), ("even", 1)])
def test_half_without_positives_is_named(half, there):
    indices = np.arange(100)
    found = compare({"a": {"": np.arange(100.0)}}, (indices % 2 == there) & (indices < 60), indices, ())
    assert found["too_few"].startswith(f"of the {half}-numbered, all 50 images are negatives")
    assert found["rows"] == []


def labels(positive, clear=None, scale=0.0):
    clear = {key: np.ones_like(value) for key, value in positive.items()} if clear is None else clear
    indices = {key: np.arange(len(value)) for key, value in positive.items()}
    return MemorizedImages(indices, {}, positive, clear, {"scale": scale, "threshold": 0.5, "calibrated": True})


def spiky(positive, strength, seed=0):
    """Scores of one measure, one layer, one t, and draws of the noise [N, L, T, D]."""
    scores = np.random.default_rng(seed).normal(size=len(positive)) + strength * positive
    return {"std": {"up, t = 10": scores}, "loss": {"t = 10": -scores}}, scores[:, None, None, None].astype(np.float32)


def test_headline_is_of_the_smallest_scale_and_other_scales_keep_its_choice():
    positive = np.arange(200) % 4 < 2
    here, draws = spiky(positive, 3)
    guided, _ = spiky(positive, 0, seed=1)
    summary = compare_by_scale({0.0: here, 5.0: guided}, labels({0.0: positive, 5.0: positive}), draws, FPRS)
    assert summary["rows"][0]["chosen"] == "up, t = 10"
    assert summary["rows"][0]["auroc"]["low"] > 0.9
    assert summary["differences"][0]["name"] == "loss" and summary["differences"][0]["difference"]["low"] > 0.5
    assert summary["draws"] == [pytest.approx(summary["rows"][0]["auroc"]["value"])]
    first, second, together = summary["scales"]
    assert first["auroc"] == summary["rows"][0]["auroc"]
    assert second["auroc"]["low"] < 0.5 < second["auroc"]["high"]
    assert (together["scale"], together["positives"]) == (None, 100)


def test_a_sign_is_never_flipped_after_seeing_the_data():
    positive = np.arange(200) % 4 < 2
    here, draws = spiky(positive, -3)
    summary = compare_by_scale({0.0: here}, labels({0.0: positive}), draws, FPRS)
    assert summary["rows"][0]["auroc"]["high"] < 0.1


def test_too_few_memorized_images_are_said_with_their_number():
    few = np.arange(200) < 6
    here, draws = spiky(few, 3)
    summary = compare_by_scale({0.0: here}, labels({0.0: few}), draws, FPRS)
    assert summary["rows"] == [] and summary["scales"] == []
    assert summary["too_few"].startswith(
        "of the even-numbered, 3 positives and 97 negatives, an interval needs at least 10"
    )


def test_a_scale_without_enough_copies_has_a_row_that_says_so():
    many, few = np.arange(200) % 4 < 2, np.arange(200) < 4
    here, draws = spiky(many, 3)
    summary = compare_by_scale({0.0: here, 9.0: here}, labels({0.0: many, 9.0: few}), draws, FPRS)
    assert "2 positives and 98 negatives" in summary["scales"][1]["too_few"]


def test_images_that_are_neither_are_left_out():
    positive = np.arange(200) % 4 < 2
    clear = np.arange(200) >= 20
    here, draws = spiky(positive, 3)
    summary = compare_by_scale({0.0: here}, labels({0.0: positive}, {0.0: clear}), draws, FPRS)
    assert summary["positives"] + summary["negatives"] == 90
