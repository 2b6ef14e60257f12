"""The one verdict of an audit in words: its reasons, and first where kinds of evidence disagree."""

from collections.abc import Callable, Mapping, Sequence

from side_jax.evidence import whole_verdict
from side_jax.evidence.whole_verdict import CANNOT_TELL, COPIES, KNOWN, NONE, OPEN, POINTS, SHOWS, Evidence, Facts
from side_jax.report.answers import sensitivity
from side_jax.report.blocks import Verdict
from side_jax.report.wording import decimals, interval, method_name, p_value, percent
from side_jax.runtime.files import Json


def whole(metrics: Json, withheld: Sequence[str]) -> Json:
    """metrics.json "verdict": one word from all evidence.

    Args:
      metrics: metrics.json with "verdicts".
      withheld: sentences that replace all verdicts; empty if these stand.

    Returns:
      "word", COPIES, NOTHING FOUND or CANNOT TELL; "sentence", what it means; "disagreements", a sentence each;
      "reasons", each with its "kind", what it "says" (`Evidence`) and a clause, "text".
    """
    found = whole_verdict.evidence_of(metrics)
    word = whole_verdict.verdict_word(found, bool(withheld))
    reasons = [{"kind": one.kind, "says": one.says, "text": _clause(one)} for one in found]
    if withheld:
        reasons = [{"kind": "withheld", "says": OPEN, "text": text} for text in withheld[:1]]
    elif not any(one.kind == "unguided" for one in found):
        reasons.insert(0, {"kind": "unguided", "says": OPEN, "text": "no unguided images were made: λ = 0 is missing"})
    return {
        "word": word,
        "sentence": _sentence(word, found, bool(metrics["samples"])),
        "disagreements": disagreements(word, found, bool(withheld)),
        "reasons": reasons,
    }


def block(metrics: Json) -> Verdict:
    """The block at the head of the page."""
    found = metrics["verdict"]
    return Verdict(found["word"], found["sentence"], found["disagreements"], [one["text"] for one in found["reasons"]])


def disagreements(word: str, found: Sequence[Evidence], withheld: bool) -> list[str]:
    """A sentence for each pair of kinds of evidence that seem to contradict each other."""
    toward = [one for one in found if one.says in (SHOWS, POINTS)]
    quiet = [one for one in found if one.says == NONE and one.kind != "membership"]
    known = [one for one in found if one.says == KNOWN]
    said = []
    if withheld:
        said += [f"The verdict is withheld, yet {_clause(one)}." for one in toward if one.says == SHOWS]
    elif toward and quiet:
        said.append(f"{_NAMES[quiet[0].kind]} finds nothing, yet {_joined(toward)}.")
    if not withheld and not toward:
        said += [f"Known, but not extracted by these attacks: {_clause(one)}." for one in known]
    elif word == COPIES:
        unknown = (one for one in found if one.kind == "membership" and one.says == NONE)
        said += [f"Copies come out, yet {_clause(one)}." for one in unknown]
    return said


def _joined(found: Sequence[Evidence]) -> str:
    return "; ".join(_clause(one) for one in found)


def _sentence(word: str, found: Sequence[Evidence], samples: bool) -> str:
    """What the word means, and of what it is not the proof."""
    model = "The model that made these images" if samples else "This model"
    if word == COPIES:
        return f"{model} gives back training data."
    if word == CANNOT_TELL:
        return f"Whether {model[0].lower()}{model[1:]} gives back training data, this audit cannot tell."
    shares = [one.facts["detectable"]["share"] for one in found if one.kind == "unguided"]
    return (
        f"{model} withstood these attacks at this size: a share of {percent(max(shares))} % copies among its unguided"
        " images would have been called with 90 % power. Other attacks, or more images, may find more."
    )


def _clause(one: Evidence) -> str:
    return _CLAUSES[one.kind](one.facts, one.says)


def _unguided(facts: Facts, says: str) -> str:
    name = f"{facts['set']}: " if facts.get("set") else ""
    if "reason" in facts:
        return f"{name}the copying test: {facts['reason']}"
    of = f" of {facts['sets']} sets" if facts["sets"] > 1 else ""
    tested = f"{name}the copying test of {'these' if name else 'unguided'} images gives {p_value(facts['p'])}{of}"
    if says == SHOWS:
        return f"{tested}: more matches with training than with held-out photos"
    if says == POINTS:
        return f"{tested}: too weak among so many sets"
    return f"{tested}; {sensitivity(facts['detectable'])}"


def _identical(facts: Facts, says: str) -> str:
    same = f"{facts['train']} of {facts['num_images']} images of {facts['set']} are training photos, pixel for pixel"
    also = f", and {facts['heldout']} held-out photos: did photos get into the folder?"
    return f"{same}{also if says == POINTS else ''}"


def _recall(facts: Facts, says: str) -> str:
    if "reason" in facts:
        return f"asking for photos one by one: {facts['reason']}"
    train, heldout = (f"{interval(facts[kind])} %" for kind in ("train", "heldout"))
    return (
        f"asked for by name, {train} of the training photos and {heldout} of the held-out ones are drawn out,"
        f" {p_value(facts['excess']['p'])}"
    )


def _guided(facts: Facts, says: str) -> str:
    tested = f"guided images give {p_value(facts['p'])} at the strongest λ, {facts['scale']:g}, of {facts['scales']}"
    if facts["blind"] or says == OPEN:
        return tested
    return f"{tested}, but nothing controls what their guide paints by itself (methods: exact_heldout)"


def _control(facts: Facts, says: str) -> str:
    own, control = interval(facts["found"]), interval(facts["control"])
    return (
        f"{method_name(facts['method'])}, at λ = {facts['scale']:g}, finds {own} % of the training photos, and its"
        f" control {control} % of the held-out ones: {'beyond' if says == SHOWS else 'not clearly beyond'} what such a"
        " guide paints by itself"
    )


def _at_risk(facts: Facts, says: str) -> str:
    rate = f"at a false-discovery rate of {100 * facts['rate']:g} %"
    if not facts["photos"]:
        return f"no training photo is found {rate}; {facts['listed']} scored in the highest band"
    return f"{facts['photos']} training photos are found {rate}: at_risk.csv"


def _memorized(facts: Facts, says: str) -> str:
    return (
        f"{facts['memorized']} of {facts['images']} unguided images are nearer to a training photo than held-out photos"
        " explain"
    )


def _membership(facts: Facts, says: str) -> str:
    tells = {KNOWN: "tells which photos were trained on", NONE: "hardly tells which photos were trained on"}
    return f"its loss {tells.get(says, 'may tell which photos were trained on')}, AUROC {decimals(facts['auroc'])}"


def _recall_rank(facts: Facts, says: str) -> str:
    return f"asked for by name, training photos come out nearer than held-out ones, AUROC {decimals(facts['auroc'])}"


_CLAUSES: Mapping[str, Callable[[Facts, str], str]] = {
    "unguided": _unguided,
    "identical": _identical,
    "recall": _recall,
    "guided": _guided,
    "control": _control,
    "at_risk": _at_risk,
    "memorized": _memorized,
    "membership": _membership,
    "recall_rank": _recall_rank,
}
_NAMES = {
    "unguided": "The copying test",
    "recall": "Asking for photos one by one",
    "at_risk": "The list of photos at risk",
}
