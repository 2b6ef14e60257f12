"""audit.json: what scripts may rely on, in fields that keep their names and meanings within a version.

audit.schema.json, beside this file, is its JSON Schema. A later version of the program may add fields; a field that
goes, or means something else, raises `SCHEMA_VERSION`.
"""

import json
from collections.abc import Iterator

from etils import epath

from side_jax.report.gate_metrics import gate_metrics
from side_jax.runtime.files import Json

FILE = "audit.json"
SCHEMA = "audit.schema.json"
SCHEMA_VERSION = 1
_ANSWERS = ("copies", "photos", "guidance", "guidance_at_equal_compute", "membership", "steering")


class Unreadable(ValueError):
    """An audit.json that is not there, is none, or is of another version: the file is bad, and not the run."""


def audit_json(metrics: Json, facts: Json, withheld: bool) -> Json:
    """audit.json.

    Args:
      metrics: metrics.json, "verdict" included.
      facts: options, provenance and stage manifests, as `Page.facts`.
      withheld: whether a check of the target withholds the verdict.
    """
    provenance, (values, sets) = facts["provenance"], gate_metrics(metrics)
    return {
        "schema_version": SCHEMA_VERSION,
        "side_jax": provenance["versions"]["side_jax"],
        "config_hash": provenance["config_hash"],
        "verdict": metrics["verdict"] | {"withheld": withheld},
        "questions": [
            {"question": name, "set": found.get("set", ""), "answer": found["answer"], "p": found.get("p")}
            for name in _ANSWERS
            for found in _asked(metrics["verdicts"], name)
        ],
        "metrics": values,
        "sets": sets,
        "level": metrics["level"],
        "bands": [{"name": name, "low": low, "high": high} for name, low, high in metrics["bands"]],
        "images": [
            {"scale": row["scale"], "set": row.get("name", ""), "num_images": row["train"]["num_images"]}
            for row in metrics["scales"]
        ],
        "photos": {name: metrics["images"][name] for name in ("train", "heldout", "paired")}
        | {"skipped": len(metrics["skipped"])},
        "at_risk": {
            "listed": metrics["at_risk"]["listed"],
            "sure": [
                {name: one[name] for name in ("rate", "photos", "pictures")} for one in metrics["at_risk"]["sure"]
            ],
        },
        "attacks": list(_attacks(metrics)),
        "not_measured": [{"metric": name, "reason": one["reason"]} for name, one in values.items() if one["reason"]],
        "provenance": {
            "versions": provenance["versions"],
            "commit": provenance["commit"],
            "devices": provenance["devices"],
            "seed": facts["options"]["seed"],
            "split_seed": facts["options"]["dataset"]["split_seed"],
            "left_out": provenance["left_out"],
            "descriptor": {name: metrics["descriptor"][name] for name in ("name", "weights", "sha256")},
            "stages": {name: manifest["fingerprint"] for name, manifest in sorted(facts["stages"].items())},
        },
    }


def _asked(verdicts: Json, name: str) -> list[Json]:
    found = verdicts.get(name)
    return found if isinstance(found, list) else [found] if found else []


def _attacks(metrics: Json) -> Iterator[Json]:
    """Every set of images that was looked through, and every way in which photos were asked about."""
    for row in () if metrics["methods"] else metrics["scales"]:  # of given images no method is known
        name = row.get("name", f"given images, λ = {row['scale']:g}")
        yield {"attack": name, "amount": row["train"]["num_images"]}
    for method in metrics["methods"]:
        for row in method["scales"]:
            yield {"attack": f"{method['method']}, λ = {row['scale']:g}", "amount": row["num_images"]}
    recall = metrics["recall"]
    if recall and not recall["too_few"]:
        photos = recall["measured"]["train"]["photos"] + recall["measured"]["heldout"]["photos"]
        yield {"attack": "recall: photos asked for one by one", "amount": photos}
    members = (metrics["detect"] or {}).get("members")
    if members and not members["too_few"]:
        names = ", ".join(row["name"] for row in members["rows"])
        yield {"attack": f"membership: {names}", "amount": members["positives"] + members["negatives"]}


def read_audit(path: epath.PathLike) -> Json:
    """audit.json of a workdir, or of a path to the file.

    Raises:
      Unreadable: one line, if it is missing, is no audit.json, or is of another version.
    """
    file = epath.Path(path)
    file = file / FILE if file.is_dir() else file
    if not file.exists():
        raise Unreadable(f"{str(file)!r} does not exist: the report stage writes {FILE}")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # of JSON, or of UTF-8
        raise Unreadable(f"{str(file)!r} is no {FILE}: {error}") from error
    if not isinstance(found, dict) or "schema_version" not in found:
        raise Unreadable(f"{str(file)!r} is no {FILE} of side_jax: it has no schema_version")
    version = found["schema_version"]
    if version != SCHEMA_VERSION:
        raise Unreadable(
            f"{str(file)!r} has schema_version {version!r}, and this side_jax reads {SCHEMA_VERSION}: make the report"
            " again, or use the side_jax that wrote it"
        )
    return found
