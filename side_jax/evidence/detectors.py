"""Detectors compared on the same images: free parameters are chosen on one half and results reported on the other."""

from collections.abc import Mapping, Sequence

import numpy as np

from side_jax.evidence import ranking
from side_jax.evidence.memorized import MemorizedImages

# Detector -> choice of its free parameters (layer and t, or a sign) -> score of each image, higher meaning positive.
Detectors = Mapping[str, Mapping[str, np.ndarray]]


def compare(
    detectors: Detectors, positive: np.ndarray, indices: np.ndarray, fprs: Sequence[float]
) -> dict[str, object]:
    """Each detector's best choice on the even-numbered images, measured on the odd-numbered ones.

    Args:
      detectors: scores float [N]; the others are compared with the first detector.
      positive: bool [N].
      indices: numbers of the images, int [N].
      fprs: FPRs at which TPR is measured.

    Returns:
      "positives" and "negatives" of the odd-numbered images; "too_few", the reason why there is no result, or None;
      "rows" with name, chosen, auroc, p (against .5) and tpr of each detector; "differences" in AUROC, the first
      detector minus each other one, with p.
    """
    even, odd = indices % 2 == 0, indices % 2 == 1
    reported = positive[odd]
    counts: dict[str, object] = {"positives": int(reported.sum()), "negatives": int((~reported).sum())}
    for half, name in ((even, "even"), (odd, "odd")):
        reason = ranking.too_few(positive[half])
        if reason:
            return counts | {"too_few": f"of the {name}-numbered, {reason}", "rows": [], "differences": []}
    chosen = {
        name: ranking.best({choice: scores[even] for choice, scores in choices.items()}, positive[even])
        for name, choices in detectors.items()
    }
    scores = {name: np.asarray(detectors[name][choice], np.float64)[odd] for name, choice in chosen.items()}
    first, *others = scores
    rows = [{"name": name, "chosen": chosen[name]} | measure(scores[name], reported, fprs) for name in scores]
    differences = [
        {"name": name} | ranking.auroc_difference(scores[first], scores[name], reported).facts() for name in others
    ]
    return counts | {"too_few": None, "rows": rows, "differences": differences}


def compare_by_scale(
    found: Mapping[float, Detectors], labels: MemorizedImages, draws: np.ndarray, fprs: Sequence[float]
) -> dict[str, object]:
    """`compare` on the smallest λ, whose images differ least from photos in other ways; and a row for every λ.

    The rows are of the first detector, with the choice of the smallest λ. The last row is of all λ together, where the
    images of one index count as one draw.

    Args:
      found: λ -> scores of its images.
      labels: of the same images.
      draws: scores of the first detector at the smallest λ, by draw of the noise: [N, choices…, D].
      fprs: FPRs at which TPR is measured.

    Returns:
      As `compare`; "draws", the AUROC of every draw; "scales", the rows.
    """
    smallest, first = min(found), next(iter(found[min(found)]))
    clear = labels.clear[smallest]
    indices = labels.indices[smallest][clear]
    here = {name: {key: s[clear] for key, s in choices.items()} for name, choices in found[smallest].items()}
    summary: dict = compare(here, labels.positive[smallest][clear], indices, fprs)
    if summary["too_few"]:
        return summary | {"draws": [], "scales": []}
    chosen = summary["rows"][0]["chosen"]
    place = list(found[smallest][first]).index(chosen)
    odd = {scale: labels.clear[scale] & (labels.indices[scale] % 2 == 1) for scale in found}
    by_draw = draws.reshape(len(draws), -1, draws.shape[-1])[odd[smallest], place]
    scores = {scale: np.asarray(found[scale][first][chosen], np.float64)[odd[scale]] for scale in found}
    positive = {scale: labels.positive[scale][odd[scale]] for scale in found}
    rows = {scale: labels.indices[scale][odd[scale]] for scale in found}
    scales = [_scale_row(scale, scores[scale], positive[scale], fprs) for scale in found]
    if len(found) > 1:
        all_scores, all_positive, groups = (
            np.concatenate([part[scale] for scale in found]) for part in (scores, positive, rows)
        )
        scales.append(_scale_row(None, all_scores, all_positive, fprs, groups))
    return summary | {"draws": aurocs(list(by_draw.T), positive[smallest]), "scales": scales}


def _scale_row(
    scale: float | None,
    scores: np.ndarray,
    positive: np.ndarray,
    fprs: Sequence[float],
    groups: np.ndarray | None = None,
) -> dict[str, object]:
    counts = {"scale": scale, "positives": int(positive.sum()), "negatives": int((~positive).sum())}
    reason = ranking.too_few(positive)
    return counts | {"too_few": reason} | ({} if reason else measure(scores, positive, fprs, groups))


def measure(
    scores: np.ndarray, positive: np.ndarray, fprs: Sequence[float], groups: np.ndarray | None = None
) -> dict[str, object]:
    """AUROC, its p against .5 and TPR at each FPR of one score, by the functions of `ranking`; no p for groups."""
    rates = [(fpr, *ranking.tpr_at_fpr(scores, positive, fpr, groups)) for fpr in fprs]
    return {
        "auroc": ranking.auroc(scores, positive, groups)._asdict(),
        "p": ranking.chance(scores, positive) if groups is None else None,
        "tpr": [{"asked": asked, "fpr": fpr} | estimate._asdict() for asked, estimate, fpr in rates],
    }


def aurocs(draws: Sequence[np.ndarray], positive: np.ndarray) -> list[float]:
    """AUROC of the scores of each draw of the noise."""
    return [ranking.auroc(np.asarray(scores, np.float64), positive).value for scores in draws]
