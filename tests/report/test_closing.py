from side_jax.report.closing import closing
from tests.report.crafted_audit import crafted


def test_terminal_says_the_verdict_and_its_numbers_in_few_lines():
    audit = crafted()
    lines = closing(audit, "runs/mine")
    assert lines[0] == f"{audit['verdict']['word']}. {audit['verdict']['sentence']}"
    assert len(lines) <= 9  # the page's path is the tenth
    assert any(line.startswith("unguided: ") and "match a training photo" in line for line in lines)
    assert all("\n" not in line for line in lines)


def test_what_was_not_measured_is_not_said():
    audit = crafted()
    for one in audit["metrics"].values():
        one |= {"value": None, "low": None, "high": None, "p": None}
    said = len(audit["verdict"]["disagreements"][:2])
    assert len(closing(audit, "runs/mine")) == 1 + said
