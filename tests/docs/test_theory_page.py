import re

from etils import epath

from docs.evidence import __main__ as evidence
from docs.guidance import __main__ as guidance
from docs.theory.__main__ import FIGURES, NUMBERS, PAGE, render
from side_jax.runtime.files import read_json


def test_page_is_what_its_numbers_give():
    """Nothing was typed into docs/theory.md, and no chapter was made without the page."""
    assert render(read_json(epath.Path(NUMBERS))) == PAGE.read_text(encoding="utf-8")


def test_every_figure_is_there_and_shown():
    """By this page, or that of guidance or evidence."""
    pages = "".join(page.read_text(encoding="utf-8") for page in (PAGE, guidance.PAGE, evidence.PAGE))
    assert set(re.findall(r"figures/(\w+\.svg)", pages)) == {path.name for path in FIGURES.glob("*.svg")}
