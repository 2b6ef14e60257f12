"""One verdict from all kinds of evidence: COPIES, NOTHING FOUND or CANNOT TELL.

    withheld by a check of the target                     -> CANNOT TELL
    some kind shows copies, alone and calibrated          -> COPIES
    some kind points to copies, weakly or uncontrolled    -> CANNOT TELL
    the copying test would have seen them, and saw none   -> NOTHING FOUND
    anything else                                         -> CANNOT TELL

The copying test of unguided images decides at p < .05. Every further kind would add its own false alarms, so it shows
copies at p < .01 only, and between the two it points to them. To know the training photos is not to copy them:
membership decides nothing. A guide that has seen training photos paints some by itself, so what it finds counts
as far as it exceeds the same guide of held-out photos.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from scipy import stats

from side_jax.evidence.at_risk import SURE
from side_jax.evidence.memorized import HELDOUT_SHARE
from side_jax.evidence.null import SIGNIFICANT
from side_jax.evidence.verdicts import NO, YES

COPIES, NOTHING_FOUND, CANNOT_TELL = "COPIES", "NOTHING FOUND", "CANNOT TELL"
SHOWS, POINTS, NONE, OPEN, KNOWN = "shows copies", "points to copies", "none", "open", "known"
STRONG = 0.01  # a p, or a false-discovery rate, from which a kind of evidence beside the copying test shows copies
_TESTS = 2  # of each λ: hits in the highest band, and the nearest photo
Facts = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What one kind of evidence says of copying.

    Attributes:
      kind: "unguided", "identical", "recall", "guided", "control", "at_risk", "memorized", "membership" or
        "recall_rank".
      says: SHOWS or POINTS (to copies); NONE, where they would have been seen; OPEN, where they might not have been;
        KNOWN, where the target knows its training photos, which is no copying.
      facts: the numbers that decide.
    """

    kind: str
    says: str
    facts: Facts


def verdict_word(found: Sequence[Evidence], withheld: bool) -> str:
    """The verdict from all evidence; a check of the target may have withheld it."""
    said = {one.says for one in found}
    if withheld:
        return CANNOT_TELL
    if SHOWS in said:
        return COPIES
    tested = [one.says for one in found if one.kind == "unguided"]
    return NOTHING_FOUND if POINTS not in said and tested and set(tested) == {NONE} else CANNOT_TELL


def evidence_of(metrics: Facts) -> list[Evidence]:
    """All that metrics.json, "verdicts" included, says of copying; the copying test first.

    What was not measured is not here.
    """
    found = [*_unguided(metrics["verdicts"]["copies"]), *_identical(metrics["samples"])]
    found += [*_recall(metrics["recall"]), *_guided(metrics)]
    found += _at_risk(metrics["at_risk"], metrics["verdicts"]["photos"])
    found += _memorized((metrics["detect"] or {}).get("generated"))
    membership = metrics["verdicts"].get("membership", {})
    if "auroc" in membership:
        says = {YES: KNOWN, NO: NONE}.get(membership["answer"], OPEN)
        found.append(Evidence("membership", says, membership))
    return found


def _graded(p: float) -> str:
    """What a p of a kind beside the copying test says."""
    return SHOWS if p < STRONG else POINTS if p < SIGNIFICANT else OPEN


def _unguided(answers: Sequence[Facts]) -> list[Evidence]:
    """The copying test of each set of images; of several sets, p is times their number (Bonferroni)."""
    found = []
    for one in answers:
        says = {YES: POINTS, NO: NONE}.get(one["answer"], OPEN)
        facts = {**one, "sets": len(answers)}
        if "p" in one:
            facts["p"] = min(1.0, len(answers) * one["p"])
            says = SHOWS if facts["p"] < SIGNIFICANT else says
        found.append(Evidence("unguided", says, facts))
    return found


def _identical(samples: Sequence[Facts] | None) -> list[Evidence]:
    """Given images that are training photos pixel for pixel; if some are held-out ones, photos lie in the folder."""
    found = []
    for one in samples or ():
        same = one["identical"]
        if same["train"]:
            facts = {"set": one["name"], "num_images": one["num_images"]} | same
            found.append(Evidence("identical", POINTS if same["heldout"] else SHOWS, facts))
    return found


def _recall(recall: Facts | None) -> list[Evidence]:
    """Whether photos come out more surely if they were trained on; and whether they are merely nearer: known."""
    if recall is None:
        return []
    reason = recall["too_few"] or recall["null"]["reason"]
    if reason:
        return [Evidence("recall", OPEN, {"reason": reason})]
    row = recall["measured"]
    says = _graded(row["excess"]["p"])
    if says == OPEN and row["train"]["high"] - row["heldout"]["value"] <= SURE:
        says = NONE
    found = [Evidence("recall", says, {name: row[name] for name in ("train", "heldout", "excess")})]
    if row["p"] < SIGNIFICANT and row["auroc"]["value"] > 0.5:
        found.append(Evidence("recall_rank", KNOWN, {"auroc": row["auroc"], "p": row["p"]}))
    return found


def _guided(metrics: Facts) -> list[Evidence]:
    """The main method's guided images against held-out photos; a guide that saw photos against its control."""
    control = next((one for one in metrics["methods"] if one["labels"] == "heldout"), None)
    saw = [one for one in metrics["methods"] if one["saw_training_photos"]]
    found = []
    if control:
        compared = (beyond_control(one, control, metrics) for one in saw)
        found = [_against_control(facts) for facts in compared if facts is not None]
    main = next((one for one in metrics["methods"] if one["method"] == metrics["method"]), None)
    blind = main is not None and not main["saw_training_photos"]
    facts = guided_excess(metrics)
    if facts is None or (main is not None and main["labels"] == "heldout") or (control and not blind):
        return found
    says = _graded(facts["p"])
    says = POINTS if says == SHOWS and not blind else says
    return [Evidence("guided", says, {**facts, "blind": blind}), *found]


def guided_excess(metrics: Facts) -> Facts | None:
    """The λ > 0 of the main method with the strongest excess over held-out photos; None if none was tested.

    Returns:
      "scale"; "p", twice the smaller of its two, times the number of λ (Bonferroni); "scales", their number.
    """
    band = metrics["bands"][-1][0]
    rows = [row for row in metrics["scales"] if row["scale"] > 0 and "name" not in row and "ams_excess" in row]
    if not rows or (metrics["null"] or {}).get("reason"):
        return None
    smaller = {row["scale"]: min(row["ams_excess"][band]["p"], row["train_share_excess"]["p"]) for row in rows}
    scale = min(smaller, key=lambda one: smaller[one])
    return {"scale": scale, "p": min(1.0, _TESTS * len(rows) * smaller[scale]), "scales": len(rows)}


def beyond_control(method: Facts, control: Facts, metrics: Facts) -> Facts | None:
    """Whether a guide that saw training photos finds a larger share of them than its control of held-out ones.

    The share of different photos found, so that one photo that many images resemble counts once. The control has at
    most as many photos for equally many images, which favours it. Interval clears interval: p is well below .01.

    Returns:
      "method"; "scale", the λ at which they differ most; "found" and "control", estimates of the shares there;
      "scales", their number; "beyond". None if they have no λ in common, or no image finds a photo.
    """
    duplicates, images = metrics["duplicates"], metrics["images"]
    counts = {row["scale"]: row for row in control["scales"] if "heldout" in row}
    found = []
    for row in method["scales"]:
        if row["scale"] in counts and images["paired"]:
            by_picture = "ums_pictures" in row["train"] and duplicates
            photos = duplicates["pictures"] if by_picture else images["train"]
            own = _of_photos(row["train"]["ums_pictures" if by_picture else "ums"], row["num_images"], photos)
            against = counts[row["scale"]]
            other = _of_photos(against["heldout"]["ums"], against["num_images"], images["paired"])
            found.append({"scale": row["scale"], "found": own, "control": other, "beyond": own["low"] > other["high"]})
    if not found:
        return None
    widest = max(found, key=lambda one: one["found"]["low"] - one["control"]["high"])
    return {"method": method["method"], "scales": len(found), **widest}


def _of_photos(ums: Facts, num_images: int, photos: int) -> dict[str, float]:
    """UMS, a share of images, as a share of photos; both have the same count above the line."""
    return {name: min(1.0, ums[name] * num_images / photos) for name in ("value", "low", "high")}


def _against_control(facts: Facts) -> Evidence:
    return Evidence("control", SHOWS if facts["beyond"] else OPEN, facts)


def _at_risk(at_risk: Facts, answer: Facts) -> list[Evidence]:
    """Photos of at_risk.csv: a list at a rate of 1 % shows copies, one at 10 % points to them."""
    if not at_risk["decoys"]:
        return []
    listed = [one for one in at_risk["sure"] if one["photos"]]
    strict = min((one["rate"] for one in listed), default=None)
    says = NONE if answer["answer"] == NO else OPEN
    if strict is not None:
        says = SHOWS if strict <= STRONG else POINTS
    best = next((one for one in listed if one["rate"] == strict), {"photos": 0, "rate": SURE})
    return [Evidence("at_risk", says, {"photos": best["photos"], "rate": best["rate"], "listed": at_risk["listed"]})]


def _memorized(generated: Facts | None) -> list[Evidence]:
    """Unguided images above the threshold of the held-out scores, if they are more than chance puts there.

    Of n images, n/1000 lie above by their held-out score, one at least; if neither kind of photo is nearer, an image
    above is there by either with equal chance. Images that resemble one photo are not independent, so this only points.
    """
    if not generated or not generated["calibrated"] or generated["scale"] != 0:
        return []
    chance = max(1, round(HELDOUT_SHARE * generated["images"]))
    p = float(stats.binom.cdf(chance, chance + generated["memorized"], 0.5))
    if p >= STRONG:
        return []
    return [Evidence("memorized", POINTS, {"memorized": generated["memorized"], "images": generated["images"]})]
