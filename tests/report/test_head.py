import numpy as np

from side_jax.report.blocks import Pair, Sheet
from side_jax.report.head import head, todo
from side_jax.report.section import Page
from tests.report.test_page import FACTS, metrics

IMAGE = np.zeros((8, 8, 1), np.uint8)


def pair(index, scale, photo, score):
    return Pair(index, index, scale, f"λ = {scale:g}", IMAGE, (IMAGE, photo, score), None)


def page(numbers, sheets=()):
    return Page(numbers, FACTS, list(sheets), {})


def test_pictures_are_the_nearest_pairs_each_of_another_photo():
    unguided = Sheet("λ = 0, best", [pair(1, 0.0, "a", 0.9), pair(2, 0.0, "b", 0.7), pair(3, 0.0, "c", 0.6)])
    guided = Sheet("λ = 2, best", [pair(4, 2.0, "a", 0.95), pair(5, 2.0, "b", 0.7), pair(6, 2.0, "d", 0.5)])
    shown = head(page(metrics(10), [unguided, guided]), withheld=False).pairs
    assert [(one.train[1], one.index) for one in shown] == [("a", 4), ("b", 2), ("c", 3)]


def test_withheld_verdicts_leave_no_answers_and_one_thing_to_do():
    shown = head(page(metrics(40)), withheld=True)
    assert not shown.answers
    assert len(shown.todo) == 1
    assert "sanity check" in shown.todo[0]


def test_copies_are_to_be_removed_and_not_released():
    numbers = metrics(40)
    numbers["verdicts"]["photos"] |= {"photos": 3}
    numbers["verdict"]["word"] = "COPIES"
    sentences = todo(page(numbers), withheld=False)
    assert sentences[0].startswith("Remove 3 training photos and train again")
    assert any("Do not release" in sentence for sentence in sentences)


def test_too_few_images_ask_for_more_and_missing_heldout_photos_for_some():
    assert todo(page(metrics(0)), withheld=False) == [
        "Generate 83 images (extract.num_images) to halve the share that would be seen."
    ]
    assert "dataset.heldout_path" in todo(page(metrics(0, heldout=False)), withheld=False)[0]


def test_a_no_has_nothing_to_do_and_says_what_it_would_have_missed():
    numbers = metrics(0, share=0.5)
    numbers["verdict"]["word"] = "NOTHING FOUND"
    shown = head(page(numbers), withheld=False)
    assert shown.todo == ["Keep this page with the model, and audit again after the next training."]
    assert any(sentence.startswith("Copies rarer than 22") for sentence in shown.unsaid)
    assert "safe" not in " ".join([*shown.todo, *shown.unsaid])


def test_what_to_do_follows_the_one_verdict_and_not_one_test():
    """Recall may show copies where the unguided images do not."""
    numbers = metrics(0, share=0.5)
    numbers["verdict"]["word"] = "COPIES"
    assert [sentence[:14] for sentence in todo(page(numbers), withheld=False)] == ["Do not release"]
    numbers["verdict"]["word"] = "CANNOT TELL"
    assert "cannot tell" in todo(page(numbers), withheld=False)[0]
