import itertools
import re

import pytest

from side_jax.evidence.condition import All, Any, Comparison, Not, holds, names, parse, undecided, why

METRICS = ("ums_excess", "p", "recall_p", "photos_at_risk")


def read(text):
    return parse(text, METRICS)


def test_and_binds_closer_than_or_and_not_closest():
    a, b, c = (Comparison(*one) for one in (("p", "<", 0.01), ("ums_excess", ">", 0.0), ("recall_p", "<", 0.05)))
    assert read("p < .01 or ums_excess > 0 and recall_p < 5e-2") == Any((a, All((b, c))))
    assert read("(p<.01 or ums_excess>0) and recall_p<0.05") == All((Any((a, b)), c))
    assert read("not p < 0.01 and ums_excess > 0") == All((Not(a), b))
    assert read("not (p < 0.01 and ums_excess > 0)") == Not(All((a, b)))
    assert read("((p < 1e-2))") == a


@pytest.mark.parametrize(
    ("text", "value", "found"),
    [
        ("p < 0.01", 0.01, False),
        ("p <= 0.01", 0.01, True),
        ("p > -1", 0.0, True),
        ("p >= +.5", 0.5, True),
        ("p == 1", 1.0, True),
        ("p != 1", 1.0, False),
    ],
)
def test_every_operator(text, value, found):
    assert holds(read(text), {"p": value}) is found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "position 1: wanted a metric, got the end"),
        ("p <", "position 4: wanted a number, got the end"),
        ("p 0.01", "position 3: wanted one of < <= > >= == !=, got '0.01'"),
        ("p < 0.01 recall_p < 1", "position 10: wanted 'and', 'or' or the end, got 'recall_p'"),
        ("0 < p", "position 1: wanted a metric, got '0'"),
        ("0 < p < 1", "position 1: wanted a metric, got '0'"),
        ("p < 0.01 < 1", "position 10: wanted 'and', 'or' or the end, got '<'"),
        ("(p < 1", "position 7: wanted ')', 'and' or 'or', got the end"),
        ("p < 1)", "position 6: wanted 'and', 'or' or the end, got ')'"),
        ("p < 1 and", "position 10: wanted a metric, got the end"),
        ("not", "position 4: wanted a metric, got the end"),
        ("p = 1", "position 3: '= 1' is not understood"),
        ("p < 5%", "position 6: '%' is not understood"),
        ("p < 1 & p > 0", "position 7: '& p > 0' is not understood"),
        ("p < 1e999", "position 5: wanted a number, got '1e999'"),
        ("p < 1.2.3", "position 5: '1.2.3' is not understood"),
        ("p < nan", "position 5: wanted a number, got 'nan'"),
        ("p < recall_p", "position 5: wanted a number, got 'recall_p'"),
        ("p.__class__ < 1", "position 2: '.__class__' is not understood"),
        ("__import__('os') == 1", "position 12: "),
        (
            "p < 1 and ums_exces > 0",
            "position 11: no metric 'ums_exces'; near it: ums_excess; --fail_if=help lists all",
        ),
        ("zzz > 0", "position 1: no metric 'zzz'; --fail_if=help lists all"),
        ("(" * 60 + "p < 1" + ")" * 60, "position 52: wanted at most 50 parentheses"),
        ("not " * 5000 + "p < 1", "wanted at most 50 parentheses"),
    ],
)
def test_what_is_no_condition_is_one_line_with_its_position(text, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        read(text)
    assert "\n" not in str(error.value)


def test_unknown_is_decided_only_by_what_is_known():
    """Kleene: of all values of three metrics, the condition is known exactly where every completion agrees."""
    for text in ("p < 1 and recall_p < 1", "p < 1 or recall_p < 1", "not p < 1 or recall_p < 1 and ums_excess < 1"):
        condition = read(text)
        for values in itertools.product((0.0, 2.0, None), repeat=3):
            known = dict(zip(("p", "recall_p", "ums_excess"), values, strict=True))
            completions = itertools.product(*[(0.0, 2.0) if one is None else (one,) for one in values])
            found = {holds(condition, dict(zip(known, full, strict=True))) for full in completions}
            assert holds(condition, known) is (found.pop() if len(found) == 1 else None)


def test_why_names_the_parts_that_decided_with_their_values():
    values = {"p": 0.004, "ums_excess": 0.125, "recall_p": 0.6, "photos_at_risk": 3}
    assert why(read("ums_excess > 0 and p < 0.01"), values) == "ums_excess = 0.125 > 0 and p = 0.004 < 0.01"
    assert why(read("recall_p < 0.05 or photos_at_risk > 0"), values) == "photos_at_risk = 3 > 0"
    assert why(read("ums_excess > 0 and recall_p < 0.05"), values) == "recall_p = 0.6 is not < 0.05"
    assert why(read("not (p < 0.01 and recall_p < 0.05)"), values) == "recall_p = 0.6 is not < 0.05"
    assert why(read("p < 0.01 or recall_p < 0.05"), values | {"recall_p": None}) == "p = 0.004 < 0.01"


def test_undecided_names_only_what_would_decide():
    values = {"p": 0.5, "recall_p": None}
    condition = read("(ums_excess > 0 and p < 0.01) or recall_p < 0.05")
    assert holds(condition, values) is None
    assert undecided(condition, values) == ["recall_p"]
    assert names(condition) == ["ums_excess", "p", "recall_p"]
