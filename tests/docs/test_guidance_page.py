from etils import epath

from docs.guidance.__main__ import NUMBERS, PAGE, render
from side_jax.runtime.files import read_json


def test_page_is_what_its_numbers_give():
    """Nothing was typed into docs/guidance.md."""
    assert render(read_json(epath.Path(NUMBERS))) == PAGE.read_text(encoding="utf-8")


def test_measured_push_of_the_default_order_is_towards_the_class_and_that_of_the_old_order_away():
    """In clipped pixels, wherever there are some; the page's sentence rests on it."""
    rows = [row for row in read_json(epath.Path(NUMBERS))["push"]["rows"] if row["clipped"] > 1e-3]
    assert rows
    assert all(row["before_guide/clipped"] > 0 > row["after_guide/clipped"] for row in rows)


def test_steps_and_targets_limit_the_student_and_images_do_not():
    """The page's sentences rest on it: agreement at t = 400, in points of the 512 images."""
    rows = {row["name"]: 100 * row["agreement"]["400"] for row in read_json(epath.Path(NUMBERS))["student"]["rows"]}
    paper = rows["the paper's: p(y|x), t uniform, 500 steps, 921 images"]
    both, best = rows["posterior, 1,500 steps"], rows["exact guide, 921 images"]
    assert paper + 4 < rows["posterior"] < rows["1,500 steps"] < both < best
    for little in ("2,560 images", "not from the teacher's weights", "undecided t"):
        assert abs(rows[little] - paper) < 4
    assert rows["that, of half the width"] < paper - 4


def test_ol_ti_finds_more_than_random_and_its_turned_gradient_next_to_nothing():
    """The page's sentences rest on it."""
    random, own, *turned = read_json(epath.Path(NUMBERS))["direction"]["rows"]
    assert own["ams"]["ratio"]["low"] > 1 and own["ums"]["ratio"]["low"] > 1
    assert own["asked"] < 0.1
    for row in turned:
        assert row["hits"] < random["hits"] and row["ams"]["p"] < 0.05
