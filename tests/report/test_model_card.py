from side_jax.report.gate_metrics import descriptions
from side_jax.report.model_card import model_card
from tests.evidence.whole_metrics import copying_test, estimate, recall
from tests.report.crafted_audit import crafted


def test_section_says_what_was_withstood_at_which_size_and_never_safe():
    card = model_card(crafted(membership={"answer": "yes", "p": 1e-9, "auroc": estimate(0.986), "attack": "loss"}))
    assert card.startswith(
        "## Training data extraction\n\n**NOTHING FOUND.** This model withstood these attacks at this"
    )
    assert card.index("Where kinds of evidence disagree:") < card.index("Reasons:")
    assert "- Known, but not extracted by these attacks: its loss tells which photos were trained on" in card
    assert "100 training photos, beside 50 held-out ones" in card
    assert "safe" not in card.lower()


def test_every_measured_metric_has_a_row_and_every_other_a_reason():
    audit = crafted(recall=recall(0.0001))
    card, words = model_card(audit), ("copies", "nothing_found", "cannot_tell")
    for name, says in descriptions():
        row, reason = f"| `{name}`: {says} | ", f"- Not measured: `{name}`, since "
        measured = audit["metrics"][name]["value"] is not None
        assert (row in card) is (measured and name not in words)
        assert (reason in card) is not measured
    assert "| `recall_share`: share of training photos drawn out when asked for | 0.02 | 0 to 0.05 |  |" in card
    assert "| recall: photos asked for one by one | 200 |" in card


def test_tables_are_tables():
    """A heading, a rule and rows of as many cells, without a line between."""
    lines = model_card(crafted()).splitlines()
    for rule in [i for i, line in enumerate(lines) if line.startswith("|---")]:
        end = next(i for i in range(rule, len(lines)) if not lines[i].startswith("|"))
        assert end - rule > 1
        assert {line.count("|") for line in lines[rule - 1 : end]} == {lines[rule].count("|")}


def test_name_of_a_set_is_no_markdown():
    card = model_card(crafted(copies=[copying_test("no", 0.5, "<b>|x|`"), copying_test("no", 0.5, "B")]))
    assert r"| \<b\>\|x\|\` | 2,000 |" in card
