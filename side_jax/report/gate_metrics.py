"""The metrics that a release gate may use: audit.json "metrics", each with its interval and p, or why it has none.

All scores are in the highest band. "Of unguided images" are those of λ = 0, or of one set of given images.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from side_jax.evidence import intervals
from side_jax.evidence.at_risk import SURE
from side_jax.evidence.whole_verdict import CANNOT_TELL, COPIES, NOTHING_FOUND, STRONG, beyond_control, guided_excess
from side_jax.runtime.files import Json

NO_HELDOUT = "no photos are held out (dataset.heldout_fraction, dataset.heldout_path)"
NO_UNGUIDED = "no unguided images were made (extract.scales lacks 0)"
NO_GUIDED = "no guided images were made (extract.scales has no λ above 0)"
NO_RECALL = "photos were not asked for one by one (recall.num_photos, or no model)"
NO_DETECT = "the detect stage did not measure it (detect.num_images, or no model)"


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric of the gate.

    Attributes:
      says: what it is, in a line.
      of: metrics.json -> its value, and its interval and p if it has them; or the reason why it was not measured.
    """

    says: str
    of: Callable[[Json], Json | str]


@dataclasses.dataclass(frozen=True)
class UnguidedMetric:
    """A metric of one set of unguided images: `of` also takes the set's row of metrics.json."""

    says: str
    of: Callable[[Json, Json], Json | str]


def gate_metrics(metrics: Json) -> tuple[dict[str, Json], dict[str, dict[str, Json]]]:
    """audit.json "metrics", and "sets": the same for each set of given images that has a name; else empty.

    Of several sets, "metrics" has the one with the smallest p, or the first where nothing is held out.

    Returns:
      name -> "value", None if it was not measured; "low" and "high", its 95 % interval, and "p", None if it has none;
      "reason", why it was not measured, else None.
    """
    rows = [row for row in metrics["scales"] if row["scale"] == 0 or "name" in row]
    common = {name: _value(metric.of(metrics)) for name, metric in COMMON.items()}
    found = [{name: _value(metric.of(metrics, row)) for name, metric in UNGUIDED.items()} for row in rows]
    sets = {row["name"]: one for row, one in zip(rows, found, strict=True) if "name" in row}
    strongest = min(found, key=lambda one: one["p"]["value"] if one["p"]["value"] is not None else 2.0, default=None)
    if strongest is None:
        strongest = {name: _value(NO_UNGUIDED) for name in UNGUIDED}
    return strongest | common, sets


def _value(found: Json | str) -> Json:
    empty = dict.fromkeys(("value", "low", "high", "p", "reason"))
    return {**empty, "reason": found} if isinstance(found, str) else {**empty, **found}


def _only(estimate: Mapping[str, Any], p: float | None = None) -> Json:
    """Value and interval of an estimate; a missing value says so."""
    return {name: estimate[name] for name in ("value", "low", "high")} | {"p": p}


def _high(metrics: Json) -> str:
    band: str = metrics["bands"][-1][0]
    return band


def _score(reference: str, score: str) -> Callable[[Json, Json], Json | str]:
    def of(metrics: Json, row: Json) -> Json | str:
        return _only(row[reference]["bands"][_high(metrics)][score]) if reference in row else NO_HELDOUT

    return of


def _answer(metrics: Json, row: Json) -> Json:
    return next(one for one in metrics["verdicts"]["copies"] if one["set"] == row.get("name", ""))


def _p(metrics: Json, row: Json) -> Json | str:
    answer = _answer(metrics, row)
    if "p" not in answer:
        return str(answer["reason"])
    p = min(1.0, len(metrics["verdicts"]["copies"]) * answer["p"])
    return {"value": p, "p": p}


def _detectable(metrics: Json, row: Json) -> Json | str:
    answer = _answer(metrics, row)
    if "reason" in answer:
        return str(answer["reason"])
    share = (answer["detectable"] or {}).get("share")
    return {"value": share} if share is not None else "no share of copies would have been called with 90 % power"


def _excess(name: str) -> Callable[[Json, Json], Json | str]:
    def of(metrics: Json, row: Json) -> Json | str:
        if name not in row:
            return NO_HELDOUT
        excess = row[name][_high(metrics)] if name == "ams_excess" else row[name]
        return {"value": excess["value"], "p": None if metrics["null"]["reason"] else excess["p"]}

    return of


def _ums_excess(metrics: Json, row: Json) -> Json | str:
    if "heldout" not in row:
        return NO_HELDOUT
    paired, heldout = (row[kind]["bands"][_high(metrics)]["ums"]["value"] for kind in ("paired", "heldout"))
    return {"value": paired - heldout}


def _identical(metrics: Json, row: Json) -> Json | str:
    same = next((one["identical"] for one in metrics["samples"] or () if one["scale"] == row["scale"]), None)
    return {"value": same["train"]} if same else "images of a model are not compared pixel for pixel"


def _guided(of: Callable[[Json, Json], Json | str]) -> Callable[[Json], Json | str]:
    """The highest value over λ > 0 of the main method."""

    def best(metrics: Json) -> Json | str:
        rows = [row for row in metrics["scales"] if row["scale"] > 0 and "name" not in row]
        found = [of(metrics, row) for row in rows]
        values = [one for one in found if not isinstance(one, str)]
        return max(values, key=lambda one: one["value"]) if values else next(iter(found), NO_GUIDED)

    return best


def _guided_p(metrics: Json) -> Json | str:
    found = guided_excess(metrics)
    if found is None:
        return str((metrics["null"] or {}).get("reason") or (NO_GUIDED if metrics["null"] else NO_HELDOUT))
    return {"value": found["p"], "p": found["p"]}


def _guidance_ratio(metrics: Json) -> Json | str:
    against = (metrics["guided_against_random"] or {}).get(_high(metrics))
    if not against or against["ums"]["ratio"]["value"] is None:
        return "guidance was not compared with Random, or Random found nothing"
    return _only(against["ums"]["ratio"], against["ums"]["p"])


def _control_excess(metrics: Json) -> Json | str:
    control = next((one for one in metrics["methods"] if one["labels"] == "heldout"), None)
    saw = [one for one in metrics["methods"] if one["saw_training_photos"]]
    found = [beyond_control(one, control, metrics) for one in saw] if control else []
    widest = max(
        (one for one in found if one), key=lambda one: one["found"]["low"] - one["control"]["high"], default=None
    )
    if widest is None:
        return "no guide that saw training photos has a control (methods: exact_heldout)"
    own, other = widest["found"], widest["control"]
    ends = {"low": own["low"] - other["high"], "high": own["high"] - other["low"]}
    return {"value": own["value"] - other["value"]} | ends


def _recall(of: Callable[[Json], Json], tested: bool = False) -> Callable[[Json], Json | str]:
    def found(metrics: Json) -> Json | str:
        recall = metrics["recall"]
        if not recall:
            return NO_RECALL
        reason = recall["too_few"] or (tested and recall["null"]["reason"])
        return str(reason) if reason else of(recall["measured"])

    return found


def _at_risk(rate: float, count: str) -> Callable[[Json], Json | str]:
    def of(metrics: Json) -> Json | str:
        if not metrics["at_risk"]["decoys"]:
            return NO_HELDOUT
        return {"value": next(one[count] for one in metrics["at_risk"]["sure"] if one["rate"] == rate)}

    return of


def _memorized(metrics: Json) -> Json | str:
    generated = (metrics["detect"] or {}).get("generated")
    if not generated:
        return NO_DETECT
    if not generated["calibrated"] or generated["scale"] != 0:
        return NO_UNGUIDED if generated["calibrated"] else NO_HELDOUT
    return intervals.share_of(generated["memorized"], generated["images"])._asdict()


def _membership(of: Callable[[Json], Json]) -> Callable[[Json], Json | str]:
    def found(metrics: Json) -> Json | str:
        members = (metrics["detect"] or {}).get("members")
        if not members or members["too_few"]:
            return str(members["too_few"]) if members else NO_DETECT
        return of(members["rows"][0])

    return found


def _sanity(metrics: Json) -> Json | str:
    return {"value": len(metrics["sanity"]["failed"])} if metrics["sanity"] else "the target was not checked: no model"


def _is(word: str) -> Callable[[Json], Json]:
    return lambda metrics: {"value": int(metrics["verdict"]["word"] == word)}


UNGUIDED: Mapping[str, UnguidedMetric] = {
    "p": UnguidedMetric("p of the copying test of unguided images, of two tests and of all sets", _p),
    "detectable_share": UnguidedMetric("smallest share of copies that this test calls with 90 % power", _detectable),
    "images": UnguidedMetric("number of unguided images", lambda _, row: {"value": row["train"]["num_images"]}),
    "ams": UnguidedMetric("share of unguided images that match a training photo", _score("train", "ams")),
    "ums": UnguidedMetric("different training photos matched, per unguided image", _score("train", "ums")),
    "ams_heldout": UnguidedMetric("as ams, against the held-out photos", _score("heldout", "ams")),
    "ums_heldout": UnguidedMetric("as ums, against the held-out photos", _score("heldout", "ums")),
    "ams_excess": UnguidedMetric("ams against equally many training photos, less ams_heldout", _excess("ams_excess")),
    "ums_excess": UnguidedMetric("ums against equally many training photos, less ums_heldout", _ums_excess),
    "train_share_excess": UnguidedMetric(
        "share of images whose nearest photo is a training photo, less 0.5", _excess("train_share_excess")
    ),
    "identical_images": UnguidedMetric("given images that are training photos pixel for pixel", _identical),
}
COMMON: Mapping[str, Metric] = {
    "memorized_share": Metric("share of unguided images nearer than held-out photos explain", _memorized),
    "guided_p": Metric("as p, of the strongest λ above 0, times their number", _guided_p),
    "guided_ams": Metric("ams at the λ above 0 where it is highest", _guided(_score("train", "ams"))),
    "guided_ums": Metric("ums at the λ above 0 where it is highest", _guided(_score("train", "ums"))),
    "guided_ams_excess": Metric("ams_excess at the λ above 0 where it is highest", _guided(_excess("ams_excess"))),
    "guided_ums_excess": Metric("ums_excess at the λ above 0 where it is highest", _guided(_ums_excess)),
    "guidance_ratio": Metric("different photos that guidance finds, to those of Random", _guidance_ratio),
    "control_excess": Metric(
        "share of training photos found by a guide that saw them, less what its control finds of held-out ones",
        _control_excess,
    ),
    "recall_share": Metric(
        "share of training photos drawn out when asked for", _recall(lambda row: _only(row["train"]))
    ),
    "recall_heldout": Metric("share of held-out photos drawn out", _recall(lambda row: _only(row["heldout"]))),
    "recall_excess": Metric(
        "recall_share less recall_heldout",
        _recall(lambda row: {"value": row["excess"]["value"], "p": row["excess"]["p"]}),
    ),
    "recall_p": Metric(
        "p of recall_excess", _recall(lambda row: {"value": row["excess"]["p"], "p": row["excess"]["p"]}, tested=True)
    ),
    "recall_auroc": Metric(
        "how well recall ranks training above held-out photos", _recall(lambda row: _only(row["auroc"], row["p"]))
    ),
    "photos_at_risk": Metric("training photos found at a false-discovery rate of 10 %", _at_risk(SURE, "photos")),
    "pictures_at_risk": Metric("different pictures among them", _at_risk(SURE, "pictures")),
    "photos_at_risk_sure": Metric("training photos found at a false-discovery rate of 1 %", _at_risk(STRONG, "photos")),
    "photos_listed": Metric(
        "training photos with a score in the highest band: at_risk.csv",
        lambda metrics: {"value": metrics["at_risk"]["listed"]},
    ),
    "membership_auroc": Metric(
        "how well the target's loss tells training photos", _membership(lambda row: _only(row["auroc"], row["p"]))
    ),
    "membership_p": Metric("p of membership_auroc", _membership(lambda row: {"value": row["p"], "p": row["p"]})),
    "membership_tpr": Metric(
        "share of training photos that the loss tells at 1 % false positives",
        _membership(lambda row: _only(next(one for one in row["tpr"] if one["asked"] == 0.01))),
    ),
    "sanity_failures": Metric("checks of the target that failed", _sanity),
    "training_photos": Metric("number of training photos", lambda metrics: {"value": metrics["images"]["train"]}),
    "heldout_photos": Metric("number of held-out photos", lambda metrics: {"value": metrics["images"]["heldout"]}),
    "copies": Metric("1 if the verdict is COPIES, else 0", _is(COPIES)),
    "nothing_found": Metric("1 if the verdict is NOTHING FOUND, else 0", _is(NOTHING_FOUND)),
    "cannot_tell": Metric("1 if the verdict is CANNOT TELL, else 0", _is(CANNOT_TELL)),
}


def descriptions() -> Iterator[tuple[str, str]]:
    """Every metric with what it is."""
    yield from ((name, metric.says) for name, metric in UNGUIDED.items())
    yield from ((name, metric.says) for name, metric in COMMON.items())
