import re
from pathlib import Path

import numpy as np
import pytest

from side_jax.report import page, sections
from side_jax.report.blocks import Figure, Note, Picture, Sentences, Table, Text
from side_jax.report.section import Page, Section
from tests.report.test_page import FACTS, metrics


@pytest.fixture
def shown(monkeypatch):
    """What the page makes of some blocks."""

    def render(*blocks):
        monkeypatch.setattr(page, "SECTIONS", [Section("one", "One", lambda _: blocks)])
        text = page.render(Page(metrics(10), FACTS, [], {}))
        return text[text.index("<h2>One</h2>") :]

    return render


def test_heading_with_a_reference_set_colours_its_column(shown):
    text = shown(Table(["λ", Text("AMS", "train"), Text("AMS, held-out", "heldout")], [["0", "1.2", "3.4"]]))
    assert '<th scope="col">λ</th><th scope="col"><span class="train">AMS</span></th>' in text
    assert '<tr><td>0</td><td class="train">1.2</td><td class="heldout">3.4</td></tr>' in text


def test_caption_names_the_photos_that_a_table_or_figure_is_against(shown):
    for block in (Table(["λ"], [["0"]], "AMS", {"train": 30, "heldout": 20}), Figure("", "", {"heldout": 20})):
        text = re.sub(r"\s+|</?span[^>]*>", " ", shown(block))
        assert re.search("scored against .*20 held-out photos", text)
    assert "scored against" not in shown(Table(["λ"], [["0"]], "AMS"), Figure("", ""))


def test_last_cell_of_a_short_row_spans_the_rest(shown):
    text = shown(Table(["λ", "AMS", "UMS"], [["0", "too few"], ["1", "2", "3"]]))
    assert '<tr><td>0</td><td colspan="2">too few</td></tr>' in text
    assert "<tr><td>1</td><td>2</td><td>3</td></tr>" in text


def test_cell_has_lines_of_different_reference_sets_and_pictures(shown):
    picture = Picture(np.zeros((2, 2, 1), np.uint8), "image 5")
    text = shown(Table(["", ""], [[[Text("1", "train"), Text("2", "heldout"), "3"], picture]]))
    assert '<td><span class="train">1</span><br><span class="heldout">2</span><br>3</td>' in text
    assert re.search(r'<img src="data:image/png;base64,[^"]+" alt="image 5">', text)


def test_groups_and_foot_frame_a_table(shown):
    groups, foot = [("", 1), ("high", 2)], [["mean", "5", "6"]]
    text = shown(Table(["method", "AMS", "UMS"], [["SIDE", "1", "2"]], groups=groups, foot=foot))
    assert '<tr><td colspan="1"></td><th scope="colgroup" colspan="2">high</th></tr>' in text
    assert re.search(r"<tfoot>\s*<tr><td>mean</td><td>5</td><td>6</td></tr>\s*</tfoot>", text)


def test_text_of_every_block_is_escaped(shown):
    bad, safe = "<b>&", "&lt;b&gt;&amp;"
    assert shown(Table([bad], [[bad]], bad), Note(bad), Sentences([bad]), Figure("", bad)).count(safe) == 8


def test_sections_hold_no_html():
    for path in Path(sections.__file__).parent.glob("*.py"):
        assert not re.search(r"</?[a-z]+[ >]", path.read_text()), path.name
