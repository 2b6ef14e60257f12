import numpy as np
import pytest

from side_jax.evidence import verdicts
from side_jax.evidence.verdicts import NO, NOT_ENOUGH, YES


def row(band_p, nearest_p, sd=0.01):
    excess = {"value": 0.1, "null_low": -0.02, "null_high": 0.02, "null_sd": sd}
    return {
        **{name: {"bands": {"high": {"ams": {"value": 0.0}}}} for name in ("paired", "heldout")},
        "ams_excess": {"high": excess | {"p": band_p}},
        "train_share_excess": excess | {"p": nearest_p},
    }


@pytest.mark.parametrize(
    ("band_p", "nearest_p", "share", "answer"),
    [
        (0.02, 0.5, 0.5, YES),  # whatever could have been seen
        (0.03, 0.04, 0.005, NO),  # twice the smaller
        (0.5, 0.5, 0.01, NO),
        (0.5, 0.5, 0.011, NOT_ENOUGH),
        (0.5, 0.5, None, NOT_ENOUGH),
    ],
)
def test_a_no_says_that_copies_would_have_been_seen(band_p, nearest_p, share, answer):
    found = verdicts.copies(row(band_p, nearest_p), {"share": share}, None, "high", 0.01)
    assert found["answer"] == answer and found["p"] == pytest.approx(2 * min(band_p, nearest_p))


def test_what_cannot_be_tested_is_not_answered():
    assert verdicts.copies({}, None, None, "high", 0.01)["answer"] == NOT_ENOUGH
    found = verdicts.copies(row(0.001, 0.001), {"share": 0.001}, "they share no class", "high", 0.01)
    assert found == {"answer": NOT_ENOUGH, "reason": "cannot be tested, because they share no class"}
    same = verdicts.copies(row(1.0, 1.0, sd=0.0), {"share": 0.001}, None, "high", 0.01)
    assert same["answer"] == NOT_ENOUGH


def at_risk(photos, decoys=50):
    return {"sure": [{"rate": 0.1, "photos": photos, "pictures": photos}], "listed": 3, "decoys": decoys}


def recalled(p, high):
    return {"measured": {"excess": {"p": p}, "train": {"high": high}, "heldout": {"value": 0.0}}}


def test_which_photos():
    assert verdicts.which_photos(at_risk(2), None)["answer"] == YES
    assert verdicts.which_photos(at_risk(0, decoys=0), None)["answer"] == NOT_ENOUGH
    assert verdicts.which_photos(at_risk(0), None)["answer"] == NOT_ENOUGH
    assert verdicts.which_photos(at_risk(0), recalled(0.6, 0.04))["answer"] == NO
    assert verdicts.which_photos(at_risk(0), recalled(0.6, 0.3))["answer"] == NOT_ENOUGH
    assert verdicts.which_photos(at_risk(0), {"too_few": "…"})["answer"] == NOT_ENOUGH


@pytest.mark.parametrize(
    ("p", "more", "ratio", "answer"),
    [
        (0.01, 0.05, (2.0, 1.4, 2.9), YES),
        (0.01, -0.05, (0.5, 0.3, 0.8), NO),
        (0.4, 0.01, (1.1, 0.7, 1.7), NOT_ENOUGH),
        (0.4, 0.01, (1.02, 0.9, 1.15), NO),
        (0.4, 0.0, (None, 0.0, None), NOT_ENOUGH),
    ],
)
def test_guidance(p, more, ratio, answer):
    ratio = dict(zip(("value", "low", "high"), ratio, strict=True))
    assert verdicts.guidance({"p": p, "difference": {"value": more}, "ratio": ratio})["answer"] == answer
    equal = {"p": p, "count": 100 + int(100 * more), "random_count": 100, "ratio": ratio}
    assert verdicts.guidance(equal)["answer"] == answer


def test_guidance_that_was_not_compared():
    assert verdicts.guidance(None)["answer"] == NOT_ENOUGH


@pytest.mark.parametrize(
    ("p", "auroc", "answer"),
    [(0.001, (0.7, 0.6, 0.8), YES), (0.3, (0.52, 0.47, 0.57), NO), (0.3, (0.55, 0.4, 0.7), NOT_ENOUGH)],
)
def test_membership(p, auroc, answer):
    estimate = dict(zip(("value", "low", "high"), auroc, strict=True))
    members = {"too_few": None, "rows": [{"name": "loss", "p": p, "auroc": estimate}]}
    assert verdicts.membership(members)["answer"] == answer
    assert verdicts.membership({"too_few": "3 photos"}) == {"answer": NOT_ENOUGH, "reason": "3 photos"}


def steered(*changes):
    made = [{"weight": 0.0, "memorized": {}}]
    for weight, (p, value, low) in enumerate(changes, 1):
        change = {"p": p, "difference": {"value": value, "low": low, "high": value}}
        made.append({"weight": -float(weight), "memorized": {"change": change}})
    return made


def test_steering_counts_the_weights_that_were_tried():
    fell = (0.02, -0.1, -0.2)
    assert verdicts.steering(steered(fell), None, 0.01)["answer"] == YES
    three = verdicts.steering(steered(fell, (0.5, 0.0, -0.1), (0.5, 0.0, -0.1)), None, 0.01)
    assert three["answer"] == NOT_ENOUGH and three["p"] == pytest.approx(0.06) and three["weight"] == -1
    assert verdicts.steering(steered((0.5, 0.001, -0.005)), None, 0.01)["answer"] == NO
    assert verdicts.steering(None, "no direction", 0.01) == {"answer": NOT_ENOUGH, "reason": "no direction"}


def test_detectable_copies_is_that_of_the_better_test():
    from side_jax.evidence.scores import Nearest

    rng = np.random.default_rng(0)
    paired, heldout = (
        Nearest(rng.uniform(0.5, 0.8, 480).astype(np.float32), rng.integers(0, 100, 480).astype(np.int32))
        for _ in range(2)
    )
    facts = row(0.5, 0.5)
    facts["ams_excess"]["high"]["null_sd"] = 0.0
    facts["train_share_excess"]["null_sd"] = 0.03
    found = verdicts.detectable_copies(paired, heldout, facts, 200, ("high", 0.98, 1.0))
    assert found["test"] == "hits" and found["share"] == pytest.approx(0.0192, abs=1e-3)
    assert found["photos"] == 100 and found["to_halve"] == pytest.approx(960, rel=0.02)
    assert verdicts.detectable_copies(paired, heldout, facts, 0, ("high", 0.98, 1.0)) is None
