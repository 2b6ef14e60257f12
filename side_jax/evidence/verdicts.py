"""Verdicts: the audit's questions, each answered yes, no or not enough data, with the numbers that decide.

A "no" says that what was looked for would have been seen. Where it would not, the answer is "not enough data".
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from side_jax.evidence import power
from side_jax.evidence.at_risk import SURE
from side_jax.evidence.null import SIGNIFICANT
from side_jax.evidence.scores import Band, Nearest

YES, NO, NOT_ENOUGH = "yes", "no", "not enough data"
_TESTS = 2  # of copying: hits in the highest band, and the nearest photo
_SMALL_AUROC = 0.6  # an attack that certainly ranks no better tells nobody's photos
_LITTLE_MORE = 1.2  # times Random's finds: guidance that certainly finds no more is not worth its compute
Facts = Mapping[str, Any]


def copies(
    row: Facts, detectable: Facts | None, reason: str | None, band: str, relevant_share: float
) -> dict[str, Any]:
    """Whether the target gives back training images, from the unguided ones.

    Two tests ask: more hits in the highest band with training than with held-out photos, and more images whose nearest
    photo is a training photo. Twice the smaller p counts (Bonferroni).

    Args:
      row: of λ = 0 in metrics.json.
      detectable: `detectable_copies`.
      reason: why relabelling can say nothing, or None.
      band: the highest.
      relevant_share: the share of copies from which copying matters.
    """
    if "heldout" not in row:
        return {"answer": NOT_ENOUGH, "reason": "no held-out photos were given: nothing calibrates the scores"}
    excesses = [row["ams_excess"][band], row["train_share_excess"]]
    if reason is None and all(one["null_sd"] == 0 and one["p"] == 1 and one["value"] for one in excesses):
        reason = "the photos that decide it have the same label in every relabelling"
    if reason:
        return {"answer": NOT_ENOUGH, "reason": f"cannot be tested, because {reason}"}
    p = min(1.0, _TESTS * min(one["p"] for one in excesses))
    share = (detectable or {}).get("share")
    seen = share is not None and share <= relevant_share
    answer = YES if p < SIGNIFICANT else NO if seen else NOT_ENOUGH
    scored = {name: row[name]["bands"][band]["ams"] for name in ("paired", "heldout")}
    return {"answer": answer, "p": p, "relevant_share": relevant_share, "detectable": detectable, "scored": scored}


def detectable_copies(
    paired: Nearest, heldout: Nearest, row: Facts, relabelled: int, band: Band
) -> dict[str, Any] | None:
    """The smallest true share of copies that either test of `copies` calls with a power of 90 %.

    Args:
      paired: of the unguided images, with as many training photos as there are held-out ones.
      heldout: of the same images.
      row: of λ = 0 in metrics.json.
      relabelled: photos that can change places.
      band: the highest.

    Returns:
      "share", or None if no share is called so often; "images", their number here; "to_halve", the number with which
      half of that share would be called, None if none would do; "photos", training photos that can change places;
      "test", which one it is. None if no photo can change places.
    """
    count, photos = len(paired.best), relabelled // 2
    if not photos:
        return None
    size = int(paired.winner.max(initial=-1)) + 1
    nearest = np.where(paired.best > heldout.best, paired.winner, size + heldout.winner)
    winners = [paired.winners(band), heldout.winners(band)]
    hits = np.concatenate([winners[0][winners[0] >= 0], size + winners[1][winners[1] >= 0]])
    spreads = {
        "hits": power.Spread.of(row["ams_excess"][band[0]]["null_sd"], hits, count),
        "nearest": power.Spread.of(2 * row["train_share_excess"]["null_sd"], nearest, count),
    }
    alpha = SIGNIFICANT / _TESTS
    shares = {name: power.detectable_share(count, photos, spread.at(count), alpha) for name, spread in spreads.items()}
    test = min(shares, key=lambda name: 2.0 if (share := shares[name]) is None else share)  # None: no share is seen
    return {
        "share": shares[test],
        "images": count,
        "to_halve": power.images_to_halve(spreads[test], photos, alpha),
        "photos": photos,
        "power": power.POWER,
        "test": test,
    }


def which_photos(at_risk: Facts, recall: Facts | None) -> dict[str, Any]:
    """Which photos come out: those of at_risk.csv with a low false-discovery rate."""
    sure = next(one for one in at_risk["sure"] if one["rate"] == SURE)
    facts = {"photos": sure["photos"], "pictures": sure["pictures"], "listed": at_risk["listed"], "rate": SURE}
    if sure["photos"]:
        return {"answer": YES} | facts
    if not at_risk["decoys"]:
        return {"answer": NOT_ENOUGH, "reason": "no held-out photos were given to tell copies from chance"} | facts
    measured = (recall or {}).get("measured")
    few = measured is not None and measured["train"]["high"] - measured["heldout"]["value"] <= SURE
    none = measured is not None and few and measured["excess"]["p"] >= SIGNIFICANT
    return {"answer": NO if none else NOT_ENOUGH} | facts


def guidance(result: Facts | None) -> dict[str, Any]:
    """Whether guidance finds more different photos than Random, from `against_random`'s "ums" or "photos"."""
    if not result:
        return {"answer": NOT_ENOUGH, "reason": "it was not compared"}
    ratio = result["ratio"]
    more = result.get("difference", {}).get("value")
    more = result["count"] - result["random_count"] if more is None else more
    if result["p"] < SIGNIFICANT:
        return {"answer": YES if more > 0 else NO, "p": result["p"], "ratio": ratio}
    little = ratio["value"] is not None and ratio["high"] is not None and ratio["high"] <= _LITTLE_MORE
    return {"answer": NO if little else NOT_ENOUGH, "p": result["p"], "ratio": ratio}


def membership(members: Facts | None) -> dict[str, Any]:
    """Whether the target's loss tells training photos from held-out ones: the first attack of the detect stage."""
    if not members or members["too_few"]:
        return {"answer": NOT_ENOUGH, "reason": members["too_few"] if members else "it was not measured"}
    row = members["rows"][0]
    found = row["p"] < SIGNIFICANT and row["auroc"]["value"] > 0.5
    answer = YES if found else NO if row["auroc"]["high"] <= _SMALL_AUROC else NOT_ENOUGH
    return {"answer": answer, "p": row["p"], "auroc": row["auroc"], "attack": row["name"]}


def steering(rows: Sequence[Facts] | None, reason: str | None, relevant_share: float) -> dict[str, Any]:
    """Whether steering away from the memorized representation lowers the share of memorized images at some weight."""
    tried = [row for row in rows or () if row["weight"]]
    if not tried:
        return {"answer": NOT_ENOUGH, "reason": reason or "it was not tried"}
    changes = [row["memorized"]["change"] for row in tried]
    fell = [
        (change["p"], row["weight"], change["difference"])
        for row, change in zip(tried, changes, strict=True)
        if change["difference"]["value"] < 0
    ]
    best = min(fell, key=lambda one: one[0], default=None)
    facts = {"weights": len(tried)}
    if best:
        p = min(1.0, len(tried) * best[0])  # Bonferroni
        facts |= {"p": p, "weight": best[1], "change": best[2]}
        if p < SIGNIFICANT:
            return {"answer": YES} | facts
    seen = all(change["difference"]["low"] > -relevant_share for change in changes)
    return {"answer": NO if seen else NOT_ENOUGH} | facts
