from etils import epath

from docs.guidance.__main__ import NUMBERS, PAGE, render
from side_jax.artifacts import read_json


def test_page_is_what_its_numbers_give():
    """Nothing was typed into docs/guidance.md."""
    assert render(read_json(epath.Path(NUMBERS))) == PAGE.read_text(encoding="utf-8")


def test_measured_push_of_the_default_order_is_towards_the_class_and_that_of_the_old_order_away():
    """In clipped pixels, wherever there are some; the page's sentence rests on it."""
    rows = [row for row in read_json(epath.Path(NUMBERS))["push"]["rows"] if row["clipped"] > 1e-3]
    assert rows
    assert all(row["before_guide/clipped"] > 0 > row["after_guide/clipped"] for row in rows)
