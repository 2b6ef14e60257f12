"""Whether a guide can guide: labels of classes with one image teach it little, and one at chance knows no class."""

import numpy as np

from side_jax.evidence.intervals import share_of
from side_jax.runtime.files import Json

_MOST = 0.5  # of the classes


def thin_classes(labels: np.ndarray, num_classes: int) -> int:
    """The number of classes that one image has, or none.

    Args:
      labels: int [N]; below 0 for an image of no class.
      num_classes: K.
    """
    return int((np.bincount(labels[labels >= 0], minlength=num_classes) <= 1).sum())


def weaknesses(distill: Json, labels: str) -> list[str]:
    """Why a guide may not guide, a sentence without its full stop each; none if nothing speaks against it.

    Classes of one image are no fault where they are meant: every image a class of its own (labels "random"), and an
    exact guide over photos, which steers to each of them.

    Args:
      distill: facts of the stage: "guide", "num_classes", "thin_classes" (missing in older ones), "agreement" and
        "ceiling" (timestep -> share of images that get their label), "agreement_images".
      labels: labels.source.
    """
    return [*_thin(distill, labels), *_at_chance(distill)]


def _thin(distill: Json, labels: str) -> list[str]:
    count, thin = distill["num_classes"], distill.get("thin_classes", 0)
    by_design = labels == "random" or (labels in ("dataset", "heldout") and distill["guide"] == "exact")
    if by_design or thin <= _MOST * count:
        return []
    several = "a guide learns a class from several; label more images, or fewer classes"
    return [f"{thin:,} of its {count:,} classes have one image or none, and {several}"]


def _at_chance(distill: Json) -> list[str]:
    """At the least noise, where an image shows its class if it ever does."""
    agreement, images, chance = distill["agreement"], distill["agreement_images"], 1 / distill["num_classes"]
    if not images:
        return []
    t = min(agreement, key=int)
    known = round(agreement[t] * images)
    share, best = share_of(known, images), share_of(round(distill["ceiling"][t] * images), images)
    if share.low > chance:
        return []
    value, low, high = (f"{100 * one:.1f}" for one in share)
    text = (
        f"at the least noise (t = {t}) it gives {known:,} of {images:,} images their label, {value} % [{low}, {high}],"
        f" and chance is {100 * chance:.1f} %"
    )
    if distill["guide"] == "exact" or best.low <= chance:
        return [f"{text}; the exact guide, its ceiling, does no better: other images of a class do not show it"]
    return [f"{text}; the exact guide, its ceiling, reaches {100 * best.value:.1f} %: train it longer"]
