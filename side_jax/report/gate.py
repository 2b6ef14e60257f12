"""The release gate: a condition on audit.json, with an outcome for a person, a process and a CI system.

What was not measured passes no gate, and no more does an audit whose verdict is withheld: the outcome is undecided.
"""

import dataclasses
from collections.abc import Mapping
from xml.etree import ElementTree

from side_jax.evidence.condition import OPERATORS, Condition, holds, names, parse, undecided, why
from side_jax.report.gate_metrics import (
    COMMON,
    NO_DETECT,
    NO_GUIDED,
    NO_HELDOUT,
    NO_RECALL,
    NO_UNGUIDED,
    UNGUIDED,
    descriptions,
)
from side_jax.runtime.files import Json


class Undecided(ValueError):
    """The gate's condition neither holds nor fails to: a metric was not measured, or the verdict is withheld."""


HELP = "help"
JUNIT = "audit.junit.xml"
EXAMPLE = "ums_excess > 0 and p < 0.01"
PASSED, FAILED, UNDECIDED = "passed", "FAILED", "UNDECIDED"


@dataclasses.dataclass(frozen=True)
class Gate:
    """A condition under which a release fails.

    Attributes:
      text: as it was given.
      condition: what it says.
    """

    text: str
    condition: Condition

    @classmethod
    def of(cls, text: str) -> "Gate":
        """Raises `ValueError`, one line that says where the text is not understood."""
        try:
            return cls(text, parse(text, [name for name, _ in descriptions()]))
        except ValueError as error:
            raise ValueError(f"--fail_if={error}") from error


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a gate says of an audit.

    Attributes:
      gate: the gate.
      state: PASSED; FAILED if its condition holds; UNDECIDED if that cannot be said.
      reason: the parts that decided, with their values, or what is missing: one line.
    """

    gate: Gate
    state: str
    reason: str

    @property
    def line(self) -> str:
        """One line for a log."""
        return f"gate {self.state}: --fail_if={self.gate.text!r}: {self.reason}"


def help_text() -> str:
    """The language, and every metric."""
    rows = list(descriptions())
    width = max(len(name) for name, _ in rows)
    return "\n".join(
        [
            f"--fail_if='{EXAMPLE}': exit status 3 if the condition holds, 2 if it cannot be decided.",
            f"A condition is METRIC OPERATOR NUMBER, with {' '.join(OPERATORS)}; and, or, not and () join them.",
            "Scores are in the highest band. A metric that was not measured decides nothing: audit.json says why.",
            "",
            *(f"  {name:<{width}}  {says}" for name, says in rows),
        ]
    )


def check(gate: Gate, has: Mapping[str, bool]) -> str | None:
    """A warning, before an audit runs, of metrics of the gate that it will not measure; None if there are none.

    Args:
      gate: the gate.
      has: as for `never_measured`.

    Raises:
      ValueError: if it will measure none of the gate's metrics, so that nothing could decide.
    """
    never = never_measured(has)
    used = names(gate.condition)
    missing = [f"{name} ({never[name]})" for name in used if name in never]
    said = f"--fail_if={gate.text!r}: this audit will not measure {', '.join(missing)}"
    if len(missing) == len(used):
        raise ValueError(said)
    return f"{said}; only the rest can decide" if missing else None


def never_measured(has: Mapping[str, bool]) -> dict[str, str]:
    """Metrics that an audit will not measure, known before it runs, with the reason.

    Args:
      has: whether it has "heldout" photos, "unguided" and "guided" images, and the stages "recall" and "detect".
    """
    return {name: reason for part, (names, reason) in _NEEDED.items() if not has[part] for name in names}


_NEEDED: Mapping[str, tuple[tuple[str, ...], str]] = {
    "unguided": (tuple(UNGUIDED), NO_UNGUIDED),
    "guided": (tuple(name for name in COMMON if name.startswith("guided_")), NO_GUIDED),
    "recall": (tuple(name for name in COMMON if name.startswith("recall_")), NO_RECALL),
    "detect": (("memorized_share", "membership_auroc", "membership_p", "membership_tpr"), NO_DETECT),
    "heldout": (
        (
            *("p", "detectable_share", "ams_heldout", "ums_heldout", "ams_excess", "ums_excess", "train_share_excess"),
            *("guided_p", "guided_ams_excess", "guided_ums_excess", "memorized_share", "control_excess"),
            *("photos_at_risk", "pictures_at_risk", "photos_at_risk_sure"),
        ),
        NO_HELDOUT,
    ),
}


def outcome(gate: Gate, audit: Json) -> Outcome:
    """Decides a gate. Where several sets of images were given, its condition holds if it does for any of them.

    Args:
      gate: the gate.
      audit: audit.json.
    """
    sets = {name: {**audit["metrics"], **own} for name, own in audit["sets"].items()} or {"": audit["metrics"]}
    values = {name: {metric: one["value"] for metric, one in of.items()} for name, of in sets.items()}
    found = {name: holds(gate.condition, of) for name, of in values.items()}

    def said(name: str) -> str:
        return f"{f'{name}: ' if name else ''}{why(gate.condition, values[name])}"

    true = [said(name) for name, held in found.items() if held]
    if true:
        return Outcome(gate, FAILED, "; ".join(true))
    open_ = [name for name, held in found.items() if held is None]
    if open_:
        missing = undecided(gate.condition, values[open_[0]])
        reasons = "; ".join(f"{name} was not measured: {sets[open_[0]][name]['reason']}" for name in missing)
        return Outcome(gate, UNDECIDED, f"{f'{open_[0]}: ' if open_[0] else ''}{reasons}")
    if audit["verdict"]["withheld"]:
        withheld = "the verdict is withheld, so that no number here clears a model"
        return Outcome(gate, UNDECIDED, f"{withheld}: {audit['verdict']['reasons'][0]['text']}")
    return Outcome(gate, PASSED, f"{'; '.join(map(said, found))}. Verdict: {audit['verdict']['word']}")


def junit(decided: Outcome, audit: Json) -> bytes:
    """A JUnit report of one test case, as CI systems read it: a failure if the gate fails, an error if undecided.

    Args:
      decided: the outcome.
      audit: audit.json, whose verdict goes along.
    """
    failed, errors = (str(int(decided.state == state)) for state in (FAILED, UNDECIDED))
    counts = {"tests": "1", "failures": failed, "errors": errors}
    suites = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(suites, "testsuite", {"name": "side_jax", **counts, "skipped": "0"})
    case = {"classname": "side_jax.release_gate", "name": decided.gate.text, "time": "0"}
    test = ElementTree.SubElement(suite, "testcase", case)
    if decided.state != PASSED:
        kind = "failure" if decided.state == FAILED else "error"
        ElementTree.SubElement(test, kind, {"message": _printable(decided.reason), "type": decided.state})
    verdict = audit["verdict"]
    lines = [f"{verdict['word']}. {verdict['sentence']}", *(one["text"] for one in verdict["reasons"])]
    ElementTree.SubElement(test, "system-out").text = _printable("\n".join([decided.line, *lines]))
    ElementTree.indent(suites)
    text: bytes = ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _printable(text: str) -> str:
    """Without control characters, which XML cannot hold: the name of a set may have any."""
    return "".join(one if one.isprintable() or one == "\n" else "\N{REPLACEMENT CHARACTER}" for one in text)
