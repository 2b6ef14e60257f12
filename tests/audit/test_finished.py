import dataclasses
import re
import shutil

import pytest

import side_jax
from side_jax.report.answers import answers
from side_jax.runtime.files import AuditError


@pytest.fixture
def alone(finished_smoke, tmp_path):
    """The numbers and the report of a finished audit, without its photos, model and images."""
    shutil.copy(finished_smoke / "audit.json", tmp_path)
    shutil.copytree(finished_smoke / "report", tmp_path / "report")
    return tmp_path


def test_finished_audit_shows_its_verdict_and_pairs_without_model_and_photos(alone, finished_smoke):
    audit = side_jax.load_audit(alone)
    page, text = audit._repr_html_(), repr(audit)
    assert "No verdict: the target does not make images of this kind" in page
    assert "No verdict: the target does not make images of this kind" in text
    titles = re.findall(r"<h3>(.*)</h3>", page)
    assert titles and set(titles) <= set(re.findall(r"<h3>(.*)</h3>", (finished_smoke / "report.html").read_text()))
    assert page.count('alt="training s') == 4 * len(titles)  # report.pairs of the smoke run
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_text_of_a_finished_audit_has_a_line_for_every_answer(alone):
    audit = side_jax.load_audit(alone)
    checked = dataclasses.replace(audit, page=dataclasses.replace(audit.page, metrics=audit.metrics | {"sanity": None}))
    said = [f"{one.question}: {one.answer}: {one.numbers}" for one in answers(audit.metrics)]
    assert repr(checked).splitlines()[2:] == said
    assert repr(checked).splitlines()[1].startswith("CANNOT TELL. ")


@pytest.mark.parametrize(
    ("missing", "message"),
    [("audit.json", "the report stage writes audit.json"), ("report/page.zip", "the workdir has no finished report")],
)
def test_audit_that_is_not_finished_names_what_it_lacks(alone, missing, message):
    (alone / missing).unlink()
    with pytest.raises((ValueError, AuditError), match=message):
        side_jax.load_audit(alone)
