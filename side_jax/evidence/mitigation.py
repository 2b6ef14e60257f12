"""What steering buys and what it costs: scores of steered images less those of the same noise unsteered."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from side_jax.evidence.intervals import Estimate, proportion, share_difference, unique_difference, unique_share
from side_jax.evidence.quality import frechet_distance, kid, unit_scale
from side_jax.evidence.scores import Band, Nearest
from side_jax.extraction.matching import match


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The images of one weight α, image i of the same noise at every α.

    Attributes:
      train: best matches among m training photos, [N].
      heldout: best matches among as many held-out photos, [N].
      descriptors: unit rows, float32 [N, D].
    """

    train: Nearest
    heldout: Nearest
    descriptors: np.ndarray

    @classmethod
    def of(cls, descriptors: np.ndarray, train: np.ndarray, heldout: np.ndarray) -> "Outcome":
        """From descriptors of the images [N, D], of training photos [M, D] and of held-out photos [M, D]."""

        def nearest(photos: np.ndarray) -> Nearest:
            found = match(descriptors, photos, k=1)
            return Nearest(found.scores[:, 0], found.indices[:, 0])

        return cls(nearest(train), nearest(heldout), descriptors)


def effect(
    steered: Outcome, unsteered: Outcome, photos: np.ndarray, threshold: float, bands: Sequence[Band]
) -> dict[str, Any]:
    """One row of the mitigation table.

    Args:
      steered: images of one α; `unsteered` itself for the row of α = 0.
      unsteered: images of α = 0.
      photos: descriptors of held-out photos, which quality is measured by, [M, D].
      threshold: `memorized`'s; a better score with a training photo counts as memorized.
      bands: of the scores.

    Returns:
      bands -> AMS and UMS against training and held-out photos, and their change; share memorized and its change; KID
      and Fréchet distance to the held-out photos and KID's change; KID to the unsteered images.
    """
    features = [unit_scale(descriptors) for descriptors in (steered.descriptors, unsteered.descriptors, photos)]
    quality, before = kid(features[0], features[2]), kid(features[1], features[2])
    copies, copies_before = (outcome.train.best > threshold for outcome in (steered, unsteered))
    return {
        "num_images": len(steered.descriptors),
        "bands": {band[0]: _scores(steered, unsteered, band) for band in bands},
        "memorized": proportion(copies)._asdict() | {"change": _change(share_difference(copies, copies_before))},
        "kid": quality.estimate()._asdict() | {"change": _change(quality.minus(before))},
        "frechet": frechet_distance(features[0], features[2]),
        "kid_to_unsteered": kid(features[0], features[1], paired=True).estimate()._asdict(),
    }


def _scores(steered: Outcome, unsteered: Outcome, band: Band) -> dict[str, Any]:
    """AMS and UMS of one band, against both sets of photos."""
    found = {}
    for name in ("train", "heldout"):
        ours, before = getattr(steered, name), getattr(unsteered, name)
        hits, winners = ours.hits(band), ours.winners(band)
        found[name] = {
            "ams": proportion(hits)._asdict() | {"change": _change(share_difference(hits, before.hits(band)))},
            "ums": unique_share(ours.unique(band))._asdict()
            | {"change": _change(unique_difference(winners, before.winners(band)))},
        }
    return found


def _change(tested: tuple[Estimate, float]) -> dict[str, Any]:
    """A difference from α = 0, with its interval and p."""
    return {"difference": tested[0]._asdict(), "p": tested[1]}
