"""What a reader's marks of pairs say of the bands: the share of scores in a band that a person calls a copy."""

from collections.abc import Mapping, Sequence

import numpy as np

from side_jax.audit.by_method import Row
from side_jax.evidence.intervals import proportion
from side_jax.evidence.metrics import in_band
from side_jax.evidence.scores import Band
from side_jax.report.marks import Mark
from side_jax.runtime.files import Json


def precision_of_bands(
    marks: Sequence[Mark], sweep: Mapping[float, Row], drawn: Mapping[float, np.ndarray], bands: Sequence[Band]
) -> list[Json]:
    """The precision of each band, from all marks and from those of randomly drawn pairs alone.

    The best pairs of a page are the surest of their band, so that all marks together say too much. Randomly drawn pairs
    are a sample of the sweep's images, and those of a band a sample of the band.

    Args:
      marks: of images of the main method.
      sweep: λ -> its images.
      drawn: λ -> indices of the randomly drawn pairs.
      bands: of the audit.

    Returns:
      For each band its name; and for "all" and "drawn" the number "marked", of them "kept", and the "precision" with
      Clopper–Pearson's interval, None without marks.

    Raises:
      ValueError: for a mark of an image that the sweep does not have.
    """
    for mark in marks:
        if mark.scale not in sweep or not 0 <= mark.index < len(sweep[mark.scale].train.best):
            raise ValueError(f"report.marks: the sweep has no image {mark.index} at λ = {mark.scale:g}")
    best = np.array([sweep[mark.scale].train.best[mark.index] for mark in marks], np.float64)
    kept = np.array([mark.kept for mark in marks], bool)
    random = np.array([mark.index in drawn.get(mark.scale, ()) for mark in marks], bool)
    rows = []
    for name, low, high in bands:
        here = in_band(best, low, high)
        rows.append({"band": name, "all": _precision(kept[here]), "drawn": _precision(kept[here & random])})
    return rows


def _precision(kept: np.ndarray) -> Json:
    estimate = proportion(kept)._asdict() if len(kept) else None
    return {"marked": len(kept), "kept": int(kept.sum()), "precision": estimate}
