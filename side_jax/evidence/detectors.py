"""Detectors compared on the same images: what is free in each is chosen on half of them, and reported on the other."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from side_jax.evidence import ranking

# Detector -> what is free in it (layer and t, or a sign) -> score of each image, higher meaning positive.
Detectors = Mapping[str, Mapping[str, np.ndarray]]


def compare(detectors: Detectors, positive: np.ndarray, indices: np.ndarray, fprs: Sequence[float]) -> dict[str, Any]:
    """Each detector's best choice on the even-numbered images, measured on the odd-numbered ones.

    Args:
      detectors: scores float [N]; the first detector is the one that the others are compared with.
      positive: bool [N].
      indices: int [N].
      fprs: at which TPR is given.

    Returns:
      "positives" and "negatives" of the odd-numbered images; "too_few", why nothing can be said, or None; "rows" with
      name, chosen, auroc, p (against .5) and tpr of each detector; "differences" in AUROC, the first detector less each
      other, with p.
    """
    even, odd = indices % 2 == 0, indices % 2 == 1
    reported = positive[odd]
    counts: dict[str, Any] = {"positives": int(reported.sum()), "negatives": int((~reported).sum())}
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
    differences = []
    for name in others:
        estimate, p = ranking.auroc_difference(scores[first], scores[name], reported)
        differences.append({"name": name, "difference": estimate._asdict(), "p": p})
    return counts | {"too_few": None, "rows": rows, "differences": differences}


def measure(
    scores: np.ndarray, positive: np.ndarray, fprs: Sequence[float], groups: np.ndarray | None = None
) -> dict[str, Any]:
    """AUROC, its p against .5 and TPR at each FPR of one score, as `ranking` has them; no p for groups of images."""
    rates = {fpr: ranking.tpr_at_fpr(scores, positive, fpr, groups) for fpr in fprs}
    return {
        "auroc": ranking.auroc(scores, positive, groups)._asdict(),
        "p": ranking.chance(scores, positive) if groups is None else None,
        "tpr": [{"asked": fpr, "fpr": found.fpr} | found.estimate._asdict() for fpr, found in rates.items()],
    }


def aurocs(draws: Sequence[np.ndarray], positive: np.ndarray) -> list[float]:
    """AUROC of each of several draws of the noise."""
    return [ranking.auroc(np.asarray(scores, np.float64), positive).value for scores in draws]
