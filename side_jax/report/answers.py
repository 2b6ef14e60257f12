"""The verdicts as the head of the page has them: question, answer, and the numbers that decide."""

import dataclasses
from collections.abc import Callable, Mapping

from side_jax.evidence.verdicts import NO, YES
from side_jax.report.wording import decimals, interval, p_value, percent, times
from side_jax.runtime.files import Json

QUESTIONS: Mapping[str, str] = {
    "copies": "Are training images given back?",
    "photos": "Which ones?",
    "guidance": "Does guidance find more different photos than Random, with as many images?",
    "guidance_at_equal_compute": "And at equal compute?",
    "membership": "Does its loss tell which photos were trained on?",
    "steering": "Does steering away help?",
}


@dataclasses.dataclass(frozen=True)
class Answer:
    """A question of the audit, its answer in a word, and the numbers that decide."""

    question: str
    answer: str
    numbers: str


def answers(metrics: Json) -> list[Answer]:
    """An answer to each question that the audit could ask."""
    given = metrics["verdicts"]
    asked = [
        (name, f"{found['set']}: {question}" if found.get("set") else question, found)
        for name, question in QUESTIONS.items()
        for found in (given[name] if name == "copies" else [given[name]] if name in given else [])
    ]
    return [
        Answer(question, found["answer"], found.get("reason") or _NUMBERS[name](found))
        for name, question, found in asked
    ]


def sensitivity(detectable: Json | None) -> str:
    """What the test of copying would have seen, and what would see half of it: the end of a sentence."""
    if detectable is None or detectable["share"] is None:
        return "no share of copies would have been called with 90 % power: more held-out photos are needed"
    said = (
        f"a share of {percent(detectable['share'])} % copies or more, each of another photo, would have been called"
        f" with 90 % power"
    )
    if detectable["to_halve"] is None:
        return f"{said}; no number of images would halve that share, only more photos would"
    return f"{said}; {detectable['to_halve']:,} images in place of {detectable['images']:,} would halve that share"


def _copies(found: Json) -> str:
    paired, heldout = (found["scored"][name] for name in ("paired", "heldout"))
    said = (
        f"{interval(paired)} % of images score in the highest band with training photos, {interval(heldout)} % with as"
        f" many held-out ones; {p_value(found['p'])}, of two tests"
    )
    return said if found["answer"] == YES else f"{said}; {sensitivity(found['detectable'])}"


def _photos(found: Json) -> str:
    if found["answer"] == NO:
        return "none comes out when asked for"
    if not found["photos"]:
        return (
            f"none at a false-discovery rate of {100 * found['rate']:g} %; {found['listed']} scored in the highest band"
        )
    pictures = f" ({found['pictures']} different pictures)" if found["pictures"] < found["photos"] else ""
    return f"{found['photos']} photos{pictures} at a false-discovery rate of {100 * found['rate']:g} %: at_risk.csv"


def _guidance(found: Json) -> str:
    ratio = f"{times(found['ratio'])} Random's, " if found["ratio"]["value"] is not None else ""
    return f"{ratio}{p_value(found['p'])}"


def _membership(found: Json) -> str:
    return f"AUROC {decimals(found['auroc'])}, {p_value(found['p'])}"


def _steering(found: Json) -> str:
    if "p" not in found:
        return "the share of memorized images falls at no weight"
    return (
        f"memorized images change by {interval(found['change'])} points at α = {found['weight']:g};"
        f" {p_value(found['p'])} for {found['weights']} weights"
    )


_NUMBERS: Mapping[str, Callable[[Json], str]] = {
    "copies": _copies,
    "photos": _photos,
    "guidance": _guidance,
    "guidance_at_equal_compute": _guidance,
    "membership": _membership,
    "steering": _steering,
}
