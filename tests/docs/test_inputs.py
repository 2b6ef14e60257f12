import re

from docs import inputs


def test_page_is_what_the_marks_give():
    """Made again by python -m docs.inputs."""
    assert inputs.PAGE.read_text(encoding="utf-8") == inputs.page()


def test_every_mark_is_a_row():
    """Also one that stands elsewhere than at a test would be counted, and is no row."""
    marks = [re.findall(r"mark\.given\(", path.read_text(encoding="utf-8")) for path in inputs.TESTS.rglob("*.py")]
    assert len(inputs.collect()) == sum(map(len, marks)) > 0
    assert {given.kind for given in inputs.collect()} == set(inputs.KINDS)
