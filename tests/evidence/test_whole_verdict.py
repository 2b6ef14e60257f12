import pytest

from side_jax.evidence.whole_verdict import (
    CANNOT_TELL,
    COPIES,
    KNOWN,
    NONE,
    NOTHING_FOUND,
    OPEN,
    POINTS,
    SHOWS,
    beyond_control,
    evidence_of,
    guided_excess,
    verdict_word,
)
from tests.evidence.whole_metrics import ESTIMATE, at_risk, copying_test, estimate, method, metrics, recall


def says(found, kind):
    return [one.says for one in evidence_of(found) if one.kind == kind]


def word(found, withheld=False):
    return verdict_word(evidence_of(found), withheld)


def test_nothing_found_needs_a_copying_test_that_would_have_seen_copies():
    assert word(metrics()) == NOTHING_FOUND
    assert word(metrics(copies=[copying_test("not enough data", 0.5)])) == CANNOT_TELL
    assert (
        word(metrics(copies=[{"set": "", "answer": "not enough data", "reason": "nothing is held out"}])) == CANNOT_TELL
    )
    assert word(metrics(copies=[])) == CANNOT_TELL  # λ = 0 was not asked for
    two = [copying_test("no", 0.5, "A"), copying_test("not enough data", 0.5, "B")]
    assert word(metrics(copies=two)) == CANNOT_TELL


def test_copying_test_alone_decides_at_5_percent_of_all_sets_together():
    assert word(metrics(copies=[copying_test("yes", 0.04)])) == COPIES
    two = [copying_test("yes", 0.04, "A"), copying_test("no", 0.5, "B")]
    assert says(metrics(copies=two), "unguided") == [POINTS, NONE]
    assert word(metrics(copies=two)) == CANNOT_TELL
    assert word(metrics(copies=[copying_test("yes", 0.01, "A"), copying_test("no", 0.5, "B")])) == COPIES


def test_a_withheld_verdict_cannot_tell_whatever_the_numbers_say():
    assert word(metrics(copies=[copying_test("yes", 0.0001)]), withheld=True) == CANNOT_TELL
    assert word(metrics(), withheld=True) == CANNOT_TELL


@pytest.mark.parametrize(
    ("p", "said", "verdict"),
    [(0.009, SHOWS, COPIES), (0.03, POINTS, CANNOT_TELL), (0.4, NONE, NOTHING_FOUND)],
)
def test_recall_shows_copies_by_itself_only_if_strong(p, said, verdict):
    found = metrics(recall=recall(p))
    assert says(found, "recall") == [said]
    assert word(found) == verdict


def test_recall_that_was_too_small_or_not_testable_is_open():
    assert says(metrics(recall=recall(0.4, high=0.5)), "recall") == [OPEN]
    assert says(metrics(recall={"too_few": "no photo", "scales": []}), "recall") == [OPEN]
    assert says(metrics(recall=recall(0.0001) | {"null": {"reason": "they share no class"}}), "recall") == [OPEN]
    assert says(metrics(), "recall") == []


def test_membership_is_no_copying():
    known = {"answer": "yes", "p": 1e-9, "auroc": estimate(0.986), "attack": "loss"}
    found = metrics(membership=known)
    assert says(found, "membership") == [KNOWN]
    assert word(found) == NOTHING_FOUND
    ranked = metrics(recall=recall(0.4, auroc_p=0.001))
    assert says(ranked, "recall_rank") == [KNOWN]
    assert word(ranked) == NOTHING_FOUND


@pytest.mark.parametrize(
    ("photos", "said", "verdict"),
    [
        ({0.01: 120, 0.05: 150, 0.1: 160}, SHOWS, COPIES),
        ({0.01: 0, 0.05: 25, 0.1: 30}, POINTS, CANNOT_TELL),
        ({0.01: 0, 0.05: 0, 0.1: 0}, OPEN, NOTHING_FOUND),
    ],
)
def test_list_of_photos_counts_by_its_false_discovery_rate(photos, said, verdict):
    found = metrics(at_risk=at_risk(photos))
    assert says(found, "at_risk") == [said]
    assert word(found) == verdict
    assert says(metrics(at_risk=at_risk(photos) | {"decoys": 0}), "at_risk") == []


def test_plain_copies_forbid_nothing_found():
    """25 of 64 images above every held-out score: no hub-proof test, yet no chance either."""
    generated = {"calibrated": True, "scale": 0.0, "images": 64, "memorized": 25}
    assert word(metrics(detect={"generated": generated, "members": None})) == CANNOT_TELL
    few = generated | {"memorized": 4}
    assert word(metrics(detect={"generated": few, "members": None})) == NOTHING_FOUND
    uncalibrated = generated | {"calibrated": False}
    assert says(metrics(detect={"generated": uncalibrated, "members": None}), "memorized") == []
    many = generated | {"images": 100_000, "memorized": 110}  # where chance puts 100
    assert says(metrics(detect={"generated": many, "members": None}), "memorized") == []


def test_pixel_for_pixel_photos_are_copies_unless_photos_lie_in_the_folder():
    one = {"name": "A", "num_images": 20, "identical": {"train": 1, "heldout": 0, "ids": ["x.png"]}}
    assert word(metrics(samples=[one])) == COPIES
    mixed = one | {"identical": {"train": 1, "heldout": 2, "ids": ["x.png"]}}
    assert word(metrics(samples=[mixed])) == CANNOT_TELL


def test_guide_that_saw_training_photos_shows_no_copies_by_its_finds():
    found = metrics(guided_p=0.0001, saw=True)
    assert says(found, "guided") == [POINTS]
    assert word(found) == CANNOT_TELL
    assert word(metrics(guided_p=0.0001, saw=False)) == COPIES
    assert word(metrics(guided_p=0.3, saw=True)) == NOTHING_FOUND


def test_guide_that_saw_training_photos_shows_copies_as_far_as_it_exceeds_its_control():
    bound, control = method("exact_train", "dataset", 60), method("exact_heldout", "heldout", 10)
    found = metrics(guided_p=0.0001, saw=True, methods=[bound, control])
    assert says(found, "control") == [OPEN, SHOWS]  # side, as much as its control; the bound
    assert says(found, "guided") == []
    assert word(found) == COPIES
    alike = metrics(guided_p=0.0001, saw=True, methods=[method("exact_train", "dataset", 15), control])
    assert word(alike) == NOTHING_FOUND


def test_share_beyond_the_control_is_of_photos():
    """60 of 100 training photos against 10 of 50 held-out ones, with 200 images each."""
    bound, control = method("exact_train", "dataset", 60), method("exact_heldout", "heldout", 10)
    found = beyond_control(bound, control, metrics())
    assert found["found"]["value"] == pytest.approx(0.6)
    assert found["control"]["value"] == pytest.approx(0.2)
    assert found["beyond"] and found["scale"] == 2.0
    other = control | {"scales": [control["scales"][0] | {"scale": 5.0}]}
    assert beyond_control(bound, other, metrics()) is None


def test_strongest_scale_pays_for_two_tests_and_for_every_scale():
    found = metrics(guided_p=0.002, saw=False)
    assert guided_excess(found) == {"scale": 2.0, "scales": 2, "p": pytest.approx(2 * 2 * 0.002)}
    assert guided_excess(found | {"null": {"reason": "they share no class"}}) is None


def test_evidence_of_a_clean_audit_is_never_more_than_open():
    assert {one.says for one in evidence_of(metrics(recall=recall(0.4)))} <= {NONE, OPEN}
    assert ESTIMATE["low"] <= ESTIMATE["value"] <= ESTIMATE["high"]
