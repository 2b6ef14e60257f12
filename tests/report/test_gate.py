from xml.etree import ElementTree

import pytest

from side_jax.report.gate import FAILED, PASSED, UNDECIDED, Gate, check, help_text, junit, never_measured, outcome
from side_jax.report.gate_metrics import descriptions
from tests.evidence.whole_metrics import copying_test, recall
from tests.report.crafted_audit import crafted

SETS = [copying_test("no", 0.5, "A"), copying_test("yes", 0.004, "B")]


def decided(text, **changes):
    return outcome(Gate.of(text), crafted(**changes))


def test_one_line_says_which_part_held():
    found = decided("ums_excess > 0 and p < 0.01 or recall_p < 0.01", recall=recall(0.004))
    assert found.state == FAILED
    text = "'ums_excess > 0 and p < 0.01 or recall_p < 0.01'"
    assert found.line == f"gate FAILED: --fail_if={text}: recall_p = 0.004 < 0.01"


def test_a_pass_names_the_verdict_since_a_condition_may_pass_for_want_of_power():
    found = decided("p < 0.01", copies=[copying_test("not enough data", 0.5)])
    assert found.state == PASSED
    assert found.reason == "p = 0.5 is not < 0.01. Verdict: CANNOT TELL"
    assert decided("nothing_found == 0", copies=[copying_test("not enough data", 0.5)]).state == FAILED
    assert decided("nothing_found == 0").state == PASSED


def test_what_was_not_measured_passes_no_gate_unless_another_part_decides():
    found = decided("recall_p < 0.01")
    assert found.state == UNDECIDED
    assert found.reason.startswith("recall_p was not measured: photos were not asked for one by one")
    assert decided("recall_p < 0.01 or p < 0.01").state == UNDECIDED
    assert decided("recall_p < 0.01 and p < 0.01").state == PASSED
    assert decided("recall_p < 0.01 or p > 0.01").state == FAILED
    assert decided("not recall_p < 0.01").state == UNDECIDED


def test_a_withheld_verdict_passes_no_gate():
    found = decided("p < 0.01", withheld=["No verdict: noise."])
    assert found.state == UNDECIDED and found.reason.endswith("clears a model: No verdict: noise.")
    assert decided("cannot_tell == 1", withheld=["No verdict: noise."]).state == FAILED


def test_of_several_sets_any_one_fails_the_gate_and_is_named():
    found = decided("p < 0.01", copies=SETS)
    assert (found.state, found.reason) == (FAILED, "B: p = 0.008 < 0.01")
    assert decided("p < 0.001", copies=SETS).reason.startswith("A: p = 1 is not < 0.001; B: p = 0.008 is not")


@pytest.mark.parametrize(
    ("text", "message"), [("p < ", "--fail_if='p < ', position 5"), ("ams_exces > 0", "near it: ams_excess")]
)
def test_bad_condition_is_one_line(text, message):
    with pytest.raises(ValueError, match=message):
        Gate.of(text)


HAS = dict.fromkeys(("heldout", "unguided", "guided", "recall", "detect"), True)


def test_a_gate_that_an_audit_could_never_decide_is_refused_before_it_runs():
    gate = Gate.of("recall_p < 0.01 or p < 0.01")
    assert check(gate, HAS) is None
    assert check(gate, HAS | {"recall": False}).startswith(
        "--fail_if='recall_p < 0.01 or p < 0.01': this audit will not measure recall_p (photos were not asked for"
    )
    with pytest.raises(ValueError, match=r"will not measure recall_p .*, p \(no photos are held out"):
        check(gate, HAS | {"recall": False, "heldout": False})


@pytest.mark.parametrize(("part", "changes"), [("recall", {}), ("detect", {}), ("unguided", {"copies": []})], ids=str)
def test_what_is_known_to_be_missing_before_is_missing_afterwards(part, changes):
    missing = never_measured(HAS | {part: False})
    assert missing
    assert missing.items() <= {one["metric"]: one["reason"] for one in crafted(**changes)["not_measured"]}.items()


def test_help_lists_every_metric_once_with_what_it_is():
    lines = help_text().splitlines()
    for name, says in descriptions():
        assert [line.split(maxsplit=1) for line in lines].count([name, says]) == 1


@pytest.mark.parametrize(("text", "failures", "errors"), [("p > 0", 1, 0), ("p < 0", 0, 0), ("recall_p < 0.01", 0, 1)])
def test_junit_has_one_case_of_the_gate_with_the_verdict(text, failures, errors):
    audit = crafted()
    found = outcome(Gate.of(text), audit)
    suites = ElementTree.fromstring(junit(found, audit))
    (suite,) = suites
    assert suite.attrib == {
        "name": "side_jax",
        "tests": "1",
        "failures": str(failures),
        "errors": str(errors),
        "skipped": "0",
    }
    (case,) = suite
    assert case.attrib["name"] == text and case.attrib["classname"] == "side_jax.release_gate"
    assert len(case.findall("failure")) == failures and len(case.findall("error")) == errors
    assert case.findtext("system-out").splitlines()[:2] == [
        found.line,
        f"{audit['verdict']['word']}. {audit['verdict']['sentence']}",
    ]


def test_name_of_a_set_cannot_break_the_junit_file():
    copies = [copying_test("yes", 0.001, "<a>&\x00\x1b"), copying_test("no", 0.5, "B")]
    audit = crafted(copies=copies)
    found = outcome(Gate.of("p < 0.01"), audit)
    assert found.state == FAILED
    (suite,) = ElementTree.fromstring(junit(found, audit))
    assert "<a>&\N{REPLACEMENT CHARACTER}" in suite[0].find("failure").attrib["message"]
