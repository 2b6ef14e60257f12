"""What metrics.json says beyond scores: photos one by one, and the questions of the audit, answered."""

from collections.abc import Mapping

from side_jax.audit.at_risk import COLUMNS, FILE, RECALL, RECALL_COLUMNS, SweepFinds, at_risk, recall_rows, write_table
from side_jax.audit.by_method import Row
from side_jax.audit.stage import Audit
from side_jax.audit.stages.recall import RecallStage, read_recall
from side_jax.evidence import verdicts
from side_jax.evidence.recall import recall
from side_jax.runtime.files import Json


def photo_by_photo(audit: Audit, finds: SweepFinds) -> Json:
    """Recall, and the photos at risk; writes at_risk.csv and recall.csv."""
    recalled = read_recall(audit) if RecallStage().complete(audit) else None
    rows, facts = at_risk(audit, finds, recalled)
    write_table(audit.workdir / FILE, rows, COLUMNS)
    if recalled:
        write_table(audit.workdir / RECALL, recall_rows(audit, recalled), RECALL_COLUMNS)
    found = recall(recalled.asked, audit.bands()[-1], audit.options.dataset.split_seed) if recalled else None
    return {"recall": found, "at_risk": facts}


def answered(audit: Audit, metrics: Json, sweep: Mapping[float, Row]) -> Json:
    """The questions of the audit, answered by `evidence.verdicts`: metrics.json "verdicts".

    Args:
      audit: of the main method.
      metrics: the rest of metrics.json.
      sweep: λ -> its images.

    Returns:
      "copies": an answer for the unguided images, or for each "set" of samples; and one answer for each other question.
    """
    band, share = audit.bands()[-1], audit.options.report.relevant_share
    null, copies = metrics["null"] or {}, []
    for row in metrics["scales"]:
        if row["scale"] == 0 or "name" in row:
            found, detectable = sweep[row["scale"]], None
            if found.paired and found.heldout and null["reason"] is None:
                detectable = verdicts.detectable_copies(found.paired, found.heldout, row, null["relabelled"], band)
            answer = verdicts.copies(row, detectable, null.get("reason"), band[0], share)
            copies.append({"set": row.get("name", "")} | answer)
    answers: Json = {"copies": copies, "photos": verdicts.which_photos(metrics["at_risk"], metrics["recall"])}
    against = (metrics["guided_against_random"] or {}).get(band[0])
    if against:
        answers["guidance"] = verdicts.guidance(against["ums"])
        answers["guidance_at_equal_compute"] = verdicts.guidance((against["equal_compute"] or {}).get("photos"))
    if audit.options.modelless:
        return answers
    detect, steer = metrics["detect"], metrics["steer"]
    answers["membership"] = verdicts.membership(detect["members"] if detect else None)
    answers["steering"] = verdicts.steering((steer or {}).get("rows"), (steer or {}).get("reason"), share)
    return answers
