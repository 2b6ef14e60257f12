"""Benefit and cost of steering: scores of steered images minus those of unsteered images of the same noise."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from side_jax.evidence.intervals import proportion, share_difference, unique_difference
from side_jax.evidence.quality import frechet_distance, kid, unit_scale
from side_jax.evidence.scores import Band, Nearest
from side_jax.matching.search import match


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

    def nearest(self) -> dict[str, Nearest]:
        """The best matches by set of photos."""
        return {"train": self.train, "heldout": self.heldout}

    @classmethod
    def of(cls, descriptors: np.ndarray, train: np.ndarray, heldout: np.ndarray) -> "Outcome":
        """From descriptors of the images, [N, D] or also mirrored [N, 2, D], and of either's photos, [M, D]."""

        def nearest(photos: np.ndarray) -> Nearest:
            matches = match(descriptors, photos, k=1)
            return Nearest(matches.scores[:, 0], matches.indices[:, 0])

        return cls(nearest(train), nearest(heldout), descriptors if descriptors.ndim == 2 else descriptors[:, 0])


def effect(steered: Outcome, unsteered: Outcome, photos: np.ndarray, threshold: float) -> dict[str, object]:
    """One row of the mitigation table, but for the scores in bands.

    Args:
      steered: images of one α; `unsteered` itself for the row of α = 0.
      unsteered: images of α = 0.
      photos: descriptors of the held-out photos that quality is measured against, [M, D].
      threshold: that of `memorized`; a higher score with a training photo counts as memorized.

    Returns:
      Share memorized and its change; KID and Fréchet distance to the held-out photos and KID's change; KID to the
      unsteered images.
    """
    ours, before, real = map(unit_scale, (steered.descriptors, unsteered.descriptors, photos))
    quality, copies, copies_before = kid(ours, real), steered.train.best > threshold, unsteered.train.best > threshold
    return {
        "num_images": len(steered.descriptors),
        "memorized": proportion(copies)._asdict() | {"change": share_difference(copies, copies_before).facts()},
        "kid": quality.estimate()._asdict() | {"change": quality.minus(kid(before, real)).facts()},
        "frechet": frechet_distance(ours, real),
        "kid_to_unsteered": kid(ours, before, paired=True).estimate()._asdict(),
    }


def effect_by_band(
    steered: Mapping[str, Nearest], unsteered: Mapping[str, Nearest], bands: Sequence[Band]
) -> dict[str, dict[str, object]]:
    """AMS and UMS of one α by band and set of photos, "train" or "heldout", and their change from α = 0."""
    return {
        band[0]: {name: _scores(nearest, unsteered[name], band) for name, nearest in steered.items()} for band in bands
    }


def _scores(steered: Nearest, unsteered: Nearest, band: Band) -> dict[str, object]:
    """AMS and UMS of one band against one set of photos, with their change from α = 0."""
    scores = steered.ams_and_ums(band)
    changes = {
        "ams": share_difference(steered.hits(band), unsteered.hits(band)),
        "ums": unique_difference(steered.winners(band), unsteered.winners(band)),
    }
    return {name: scores[name] | {"change": change.facts()} for name, change in changes.items()}
