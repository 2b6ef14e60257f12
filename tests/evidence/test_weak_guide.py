import numpy as np
import pytest

from side_jax.evidence.weak_guide import thin_classes, weaknesses


def distilled(**changes):
    facts = {"guide": "time_dependent", "num_classes": 100, "thin_classes": 10, "agreement_images": 1_000}
    return facts | {"agreement": {"900": 0.01, "0": 0.4}, "ceiling": {"900": 0.01, "0": 0.6}} | changes


def test_classes_of_one_image_or_none_are_counted_and_images_of_no_class_are_not():
    assert thin_classes(np.array([0, 0, 1, -1, -1, 3], np.int32), 5) == 4  # 1 and 3 have one image, 2 and 4 none


def test_a_guide_of_full_classes_above_chance_has_no_weakness():
    assert weaknesses(distilled(), "clusters") == []
    old = distilled()
    del old["thin_classes"]
    assert weaknesses(old, "clusters") == []


@pytest.mark.parametrize("thin", [50, 51, 65])
def test_most_classes_with_one_image_or_none_is_said_with_the_numbers(thin):
    said = weaknesses(distilled(thin_classes=thin), "clusters")
    assert [f"{thin} of its 100 classes have one image or none" in one for one in said] == [True] * (thin > 50)


@pytest.mark.parametrize(
    ("labels", "guide", "weak"),
    [
        ("random", "time_dependent", False),
        ("dataset", "exact", False),
        ("heldout", "exact", False),
        ("dataset", "time_independent", True),
        ("classifier", "exact", True),
    ],
)
def test_classes_of_one_image_are_no_weakness_where_they_are_meant(labels, guide, weak):
    assert bool(weaknesses(distilled(guide=guide, thin_classes=100), labels)) == weak


@pytest.mark.parametrize(("known", "weak"), [(10, True), (17, True), (18, False), (100, False)])
def test_agreement_is_at_chance_if_its_interval_reaches_one_in_k(known, weak):
    """By hand: of 1,000 images, 18 is the least number whose exact 95 % interval, [1.07, 2.83] %, lies above 1 %."""
    said = weaknesses(distilled(agreement={"0": known / 1_000, "900": 0.9}, ceiling={"0": 0.6, "900": 0.6}), "clusters")
    assert bool(said) == weak
    if weak:
        (text,) = said
        assert f"at the least noise (t = 0) it gives {known} of 1,000 images their label" in text
        assert "chance is 1.0 %" in text and "reaches 60.0 %: train it longer" in text


def test_few_images_cannot_tell_a_guide_from_chance():
    """5 of 8 with 4 classes: the interval begins at 24.5 %."""
    few = distilled(agreement_images=8, num_classes=4, thin_classes=0, agreement={"0": 5 / 8}, ceiling={"0": 1.0})
    (text,) = weaknesses(few, "clusters")
    assert "62.5 % [24.5, 91.5], and chance is 25.0 %" in text


@pytest.mark.parametrize("guide", ["time_dependent", "exact"])
def test_labels_that_no_guide_could_learn_are_told_from_a_guide_that_did_not(guide):
    facts = distilled(guide=guide, agreement={"0": 0.011}, ceiling={"0": 0.011})
    (text,) = weaknesses(facts, "clusters")
    assert "its ceiling, does no better" in text and "train" not in text


def test_without_a_measured_image_nothing_is_said_of_agreement():
    nothing = {"0": float("nan")}
    assert weaknesses(distilled(agreement=nothing, ceiling=nothing, agreement_images=0), "repeats") == []
