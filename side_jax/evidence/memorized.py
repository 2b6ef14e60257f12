"""The generated images that count as memorized: nearer to a training photo than held-out photos explain."""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float

BestScores = dict[str, np.ndarray]  # reference set, if there are such photos -> best score of each image, float64 [N]
HELDOUT_SHARE = 0.001  # of the held-out scores, at or above the threshold


def memorized(train: Float[np.ndarray, " n"], heldout: Float[np.ndarray, " n"]) -> tuple[Bool[np.ndarray, " n"], float]:
    """The images whose best score with a training photo is above the threshold, and the threshold: bool [N], float.

    A thousandth of the best scores with held-out photos lies at or above the threshold. Of fewer than 1,000 images the
    highest of these scores is the threshold.

    Args:
      train: best score of each generated image with m training photos, [N].
      heldout: best score with equally many held-out photos, [N].
    """
    threshold = float(np.quantile(heldout, 1 - HELDOUT_SHARE, method="higher"))
    return train > threshold, threshold


@dataclasses.dataclass(frozen=True)
class MemorizedImages:
    """The images of each λ that are looked at, and those of them that count as memorized.

    Attributes:
      indices: λ -> indices of the images, ascending, int [N].
      best: λ -> best score with a training photo, float64 [N].
      positive: λ -> True for a memorized image, bool [N].
      clear: λ -> bool [N]. A copy of an unpaired training photo is not clear, because only the scores with paired
        photos are calibrated.
      facts: threshold, whether held-out photos calibrate it, and how many images of the smallest λ are memorized.
    """

    indices: dict[float, np.ndarray]
    best: dict[float, np.ndarray]
    positive: dict[float, np.ndarray]
    clear: dict[float, np.ndarray]
    facts: dict[str, float]


def label_images(scores: Mapping[float, BestScores], low: float, count: int) -> MemorizedImages:
    """Labels at most `count` images of every λ.

    One threshold serves all λ, from the held-out scores of all images of the smallest: what counts as a copy is a
    property of two photos, and guided images, which look less like photos, would only lower it.

    Args:
      scores: λ -> best scores with all training photos (""), with the paired ones ("paired_") and with as many held-out
        photos ("heldout_").
      low: the lowest score of a memorized image where no photo is held out.
      count: images of every λ.
    """
    smallest = min(scores)
    calibrated = "heldout_" in scores[smallest]
    threshold = float(np.nextafter(low, 0))
    if calibrated:
        threshold = memorized(scores[smallest]["paired_"], scores[smallest]["heldout_"])[1]
    facts = {"threshold": threshold if calibrated else low, "calibrated": calibrated, "scale": smallest}
    labels = MemorizedImages({}, {}, {}, {}, facts)
    for scale, found in scores.items():
        train, compared = found[""], found["paired_" if calibrated else ""]
        positive = compared > threshold
        clear = positive | (train <= threshold)
        chosen = _choose(positive, clear, count)
        labels.indices[scale], labels.best[scale] = chosen, train[chosen]
        labels.positive[scale], labels.clear[scale] = positive[chosen], clear[chosen]
        if scale == smallest:
            facts |= {"images": len(positive), "memorized": int(positive.sum()), "ambiguous": int((~clear).sum())}
    return labels


def _choose(positive: np.ndarray, clear: np.ndarray, count: int) -> np.ndarray:
    """All images if they are at most `count`; else the first memorized ones, up to half of `count`, and others.

    Copies may be one in a thousand. Neither AUROC nor TPR at an FPR depends on how many there are of each kind.
    """
    if len(positive) <= count:
        return np.arange(len(positive))
    copies = np.flatnonzero(positive)[: count // 2]
    return np.sort(np.concatenate([copies, np.flatnonzero(clear & ~positive)[: count - len(copies)]]))
