import numpy as np
import pytest

from side_jax.evidence import ranking
from side_jax.evidence.detectors import aurocs, compare, measure


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
