import re

import pytest

from docs.evidence import summaries
from docs.evidence.__main__ import FIGURES, FILES, PAGE, gathered, render
from docs.evidence.simulation import table_rows
from side_jax.evidence import verdicts
from side_jax.evidence.null import SIGNIFICANT
from side_jax.runtime.files import read_json


@pytest.fixture(scope="module")
def stored():
    return {name: read_json(path) for name, path in FILES.items() if name != "recall"}


def test_page_is_what_its_numbers_give():
    """Nothing was typed into docs/evidence.md."""
    assert render(gathered(FILES)) == PAGE.read_text(encoding="utf-8")


def test_every_figure_of_the_page_is_there():
    names = re.findall(r"\(figures/(\S+)\)", PAGE.read_text(encoding="utf-8"))
    assert len(names) == 5
    assert all((FIGURES / name).exists() for name in names)


def test_every_row_is_in_a_table_and_has_a_description(stored):
    for rows in table_rows(stored["simulation"]).values():
        groups = summaries.by_name(rows)
        assert groups.keys() <= summaries.WHAT.keys()
        assert sum(len(found) for found in groups.values()) == len(rows)
        assert {summaries.side_of(row) for row in rows} <= {
            *("93–97 %", "above", "below"),
            *("uniform", "valid, not uniform", "valid at .05 and .01 only", "too small too often"),
        }


def test_power_of_the_page_is_that_of_the_verdict():
    """The same level, and without false hits the same number of copies for any number of images."""
    assert summaries.ALPHA == SIGNIFICANT / verdicts._TESTS
    rows = summaries.power_rows()
    copies = [row["images"] * row["shares"][0] for row in rows]
    assert max(copies) < 1.02 * min(copies)
    assert all(row["shares"] == sorted(row["shares"]) for row in rows)


def test_series_says_little_beyond_twice_the_images_and_the_model_holds(stored):
    """The page's sentences rest on it."""
    forecast = stored["forecast"]
    last = forecast["forecasts"][-1]
    assert (last["series"]["low"], last["series"]["high"]) == (forecast["tenth"]["seen"], forecast["photos"])
    assert all(row["model"]["low"] <= row["came"] <= row["model"]["high"] for row in forecast["forecasts"])
