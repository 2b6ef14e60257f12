"""What metrics.json says beyond scores: photos one by one, and the questions of the audit, answered."""

from side_jax.audit.at_risk import FILE, SweepFinds, at_risk, write_at_risk
from side_jax.audit.by_method import Row
from side_jax.audit.stage import Audit
from side_jax.audit.stages.recall import RecallStage, read_recall
from side_jax.evidence import verdicts
from side_jax.evidence.recall import recall
from side_jax.runtime.files import Json


def photo_by_photo(audit: Audit, finds: SweepFinds) -> Json:
    """Recall, and the photos at risk; writes at_risk.csv."""
    recalled = read_recall(audit) if RecallStage().complete(audit) else None
    rows, facts = at_risk(audit, finds, recalled)
    write_at_risk(audit.workdir / FILE, rows)
    found = recall(recalled.asked, audit.bands()[-1], audit.options.dataset.split_seed) if recalled else None
    return {"recall": found, "at_risk": facts}


def answered(audit: Audit, metrics: Json, random: Row | None) -> Json:
    """The questions of the audit, answered by `evidence.verdicts`: metrics.json "verdicts".

    Args:
      audit: of the main method.
      metrics: the rest of metrics.json.
      random: its row of λ = 0, if it has one.
    """
    band, share = audit.bands()[-1], audit.options.report.relevant_share
    unguided = next((row for row in metrics["scales"] if row["scale"] == 0), None)
    answers: Json = {}
    if unguided and random:
        null_of, detectable = metrics["null"] or {}, None
        if random.heldout and null_of["reason"] is None:
            paired = random.paired or random.train
            detectable = verdicts.detectable_copies(paired, random.heldout, unguided, null_of["relabelled"], band)
        answers["copies"] = verdicts.copies(unguided, detectable, null_of.get("reason"), band[0], share)
    answers["photos"] = verdicts.which_photos(metrics["at_risk"], metrics["recall"])
    against = (metrics["guided_against_random"] or {}).get(band[0])
    if against:
        answers["guidance"] = verdicts.guidance(against["ums"])
        answers["guidance_at_equal_compute"] = verdicts.guidance((against["equal_compute"] or {}).get("photos"))
    detect, steer = metrics["detect"], metrics["steer"]
    answers["membership"] = verdicts.membership(detect["members"] if detect else None)
    answers["steering"] = verdicts.steering((steer or {}).get("rows"), (steer or {}).get("reason"), share)
    return answers
