import pytest

from side_jax.report.verdict import block, whole
from tests.evidence.whole_metrics import copying_test, estimate, metrics, recall

KNOWN = {"answer": "yes", "p": 1e-9, "auroc": estimate(0.986), "attack": "loss"}


def test_nothing_found_says_what_was_withstood_at_which_size_and_never_safe():
    found = whole(metrics(), [])
    assert found["word"] == "NOTHING FOUND"
    assert found["sentence"].startswith("This model withstood these attacks at this size: a share of 0.40 % copies")
    assert found["disagreements"] == []
    assert "safe" not in str(found).lower()
    (tested, *_) = found["reasons"]
    assert tested["text"].startswith("the copying test of unguided images gives p = 0.500; a share of 0.40 % copies")


def test_a_known_photo_that_was_not_extracted_stands_first():
    found = whole(metrics(membership=KNOWN), [])
    assert found["word"] == "NOTHING FOUND"
    said = "its loss tells which photos were trained on, AUROC 0.986 [0.966, 1.006]"
    assert found["disagreements"] == [f"Known, but not extracted by these attacks: {said}."]


def test_a_test_that_finds_nothing_beside_photos_that_come_out_is_a_disagreement():
    found = whole(metrics(recall=recall(0.0001)), [])
    assert found["word"] == "COPIES" and found["sentence"] == "This model gives back training data."
    (sentence,) = found["disagreements"]
    assert sentence.startswith("The copying test finds nothing, yet asked for by name, 2.00 [0.00, 5.00] % of the")
    assert sentence.endswith("p < 0.001.")


def test_copies_out_of_a_model_whose_loss_tells_nothing_are_a_disagreement():
    quiet = {"answer": "no", "p": 0.5, "auroc": estimate(0.5), "attack": "loss"}
    found = whole(metrics(copies=[copying_test("yes", 0.001)], membership=quiet), [])
    assert found["disagreements"] == [
        "Copies come out, yet its loss hardly tells which photos were trained on, AUROC 0.500 [0.480, 0.520]."
    ]


def test_a_withheld_verdict_gives_its_reason_alone_and_says_what_it_overrides():
    found = whole(metrics(copies=[copying_test("yes", 0.0001)], membership=KNOWN), ["No verdict: noise.", "Check it."])
    assert found["word"] == "CANNOT TELL"
    assert found["reasons"] == [{"kind": "withheld", "says": "open", "text": "No verdict: noise."}]
    (sentence,) = found["disagreements"]
    assert sentence.startswith("The verdict is withheld, yet the copying test of unguided images gives p < 0.001")


def test_audit_without_unguided_images_says_so():
    found = whole(metrics(copies=[]), [])
    assert found["word"] == "CANNOT TELL"
    assert found["reasons"][0]["text"] == "no unguided images were made: λ = 0 is missing"


@pytest.mark.parametrize("given", ["unguided", "identical", "recall", "guided", "control", "at_risk", "memorized"])
def test_every_kind_of_evidence_has_a_clause_with_numbers(given):
    from tests.evidence.whole_metrics import at_risk, method

    generated = {"calibrated": True, "scale": 0.0, "images": 64, "memorized": 25}
    one = {"name": "A", "num_images": 20, "identical": {"train": 1, "heldout": 2, "ids": ["x.png"]}}
    everything = {
        "recall": recall(0.03),
        "at_risk": at_risk({0.01: 0, 0.05: 25, 0.1: 30}),
        "detect": {"generated": generated, "members": None},
        "samples": [one],
        "guided_p": 0.0001,
    }
    if given == "control":
        everything["methods"] = [method("exact_train", "dataset", 60), method("exact_heldout", "heldout", 10)]
    texts = [reason["text"] for reason in whole(metrics(**everything), [])["reasons"] if reason["kind"] == given]
    assert texts
    assert all(any(character.isdigit() for character in text) for text in texts)


def test_block_of_the_page_has_word_disagreements_and_reasons():
    found = metrics(membership=KNOWN)
    found["verdict"] = whole(found, [])
    made = block(found)
    assert made.word == "NOTHING FOUND" and len(made.disagreements) == 1
    assert made.reasons == [one["text"] for one in found["verdict"]["reasons"]]
