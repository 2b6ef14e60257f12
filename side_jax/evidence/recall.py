"""Recall, photo by photo: whether a guide that knows all photos draws out those that were trained on more surely.

Each photo is asked for by the exact posterior over training and held-out photos together, which does not know which is
which. If nothing was learnt of one photo alone, a training and a held-out photo are exchangeable, whatever the guide
paints by itself: relabelling gives the distribution of any difference. The statistic of a photo is the best score of
its images with the photo itself.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float, Int

from side_jax.evidence import null, ranking
from side_jax.evidence.intervals import proportion
from side_jax.evidence.scores import Band, in_band

FPRS = (0.001, 0.01)
Choice = tuple[float, int]  # λ, and images per photo


@dataclasses.dataclass(frozen=True)
class Asked:
    """The photos that were asked for, and how well each came out.

    Attributes:
      scores: λ -> score of each image with the photo that it was asked for: R rounds of P photos.
      member: True for a training photo.
      half: 0 or 1; one half chooses λ and the number of images for the other. Either has photos of both kinds.
      strata: within which photos are exchangeable.
    """

    scores: Mapping[float, Float[np.ndarray, "r p"]]
    member: Bool[np.ndarray, " p"]
    half: Int[np.ndarray, " p"]
    strata: Int[np.ndarray, " p"]

    def best(self, choice: Choice) -> Float[np.ndarray, " p"]:
        """The best score of each photo at a λ, over its first images: [P]."""
        scale, images = choice
        best: np.ndarray = self.scores[scale][:images].max(0).astype(np.float64)
        return best

    def choose(self, half: int) -> Choice:
        """The λ and the number of images with the highest AUROC on one half of the photos; of equals the cheapest."""
        here = self.half == half
        choices = {
            (scale, images): self.best((scale, images))[here]
            for images in range(1, 1 + min(len(rounds) for rounds in self.scores.values()))
            for scale in self.scores
        }
        names = {str(choice): choice for choice in choices}
        positive = self.member[here]
        return names[ranking.best({str(choice): scores for choice, scores in choices.items()}, positive)]

    def cross_fitted(self) -> Float[np.ndarray, " p"]:
        """The best score of each photo, at the choice that the other half made: [P]. No photo's label chose its own."""
        others = [self.best(self.choose(1 - half)) for half in (0, 1)]
        return np.where(self.half == 0, *others)


def recall(asked: Asked, band: Band, seed: int) -> dict[str, object]:
    """λ and images per photo chosen on half 0 of the photos, and measured on half 1.

    Args:
      asked: the photos.
      band: a photo is drawn out if its best score lies in it or above.
      seed: of the relabellings.

    Returns:
      "too_few", the reason why nothing can be said, or None; "chosen", λ and images; "measured", as `_measure`;
      "scales", the same at every λ with all images, on the same photos.
    """
    for half in (0, 1):
        if reason := ranking.too_few(asked.member[asked.half == half]):
            return {"too_few": f"of half of the photos, {reason}", "scales": []}
    there = asked.half == 1
    labels = null.relabellings(asked.member[there], asked.strata[there], seed)
    chosen = asked.choose(0)

    def row(choice: Choice) -> dict[str, object]:
        return _measure(asked.best(choice)[there], asked.member[there], labels, band)

    rounds = {scale: len(scores) for scale, scores in asked.scores.items()}
    return {
        "too_few": None,
        "chosen": {"scale": chosen[0], "images": chosen[1]},
        "null": {"least_p": labels.least_p, "reason": labels.reason},
        "measured": row(chosen),
        "scales": [{"scale": scale, "images": images} | row((scale, images)) for scale, images in rounds.items()],
    }


def _measure(best: np.ndarray, member: np.ndarray, labels: null.Relabellings, band: Band) -> dict[str, object]:
    """Shares drawn out of either kind of photo, their difference with its p by relabelling, AUROC and TPR.

    Args:
      best: best score of each photo, [P].
      member: bool [P].
      labels: relabellings of these photos.
      band: as for `recall`.
    """
    drawn = in_band(best, band[1], 1.0)
    rates = [(fpr, *ranking.tpr_at_fpr(best, member, fpr)) for fpr in FPRS]
    return {
        "train": proportion(drawn[member])._asdict() | {"photos": int(member.sum())},
        "heldout": proportion(drawn[~member])._asdict() | {"photos": int((~member).sum())},
        "excess": null.photo_excess(drawn, labels)._asdict(),
        "auroc": ranking.auroc(best, member)._asdict(),
        "p": ranking.chance(best, member),
        "tpr": [{"asked": asked, "fpr": fpr} | estimate._asdict() for asked, estimate, fpr in rates],
    }
