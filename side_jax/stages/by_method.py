"""Every method by λ, and its best λ against Random: what metrics.json calls "methods"."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from side_jax.artifacts import MANIFEST, read_json
from side_jax.evidence import intervals
from side_jax.evidence.scores import Band, Nearest
from side_jax.evidence.table import RANDOM
from side_jax.stages.against_random import against_random
from side_jax.stages.audit import Audit


class Row(NamedTuple):
    """One λ of one method.

    Attributes:
      train: best matches among the training photos.
      heldout: among the held-out photos, if there are any.
      asked: whether the nearest training photo has the class asked for, bool [N]; None if classes are not of photos.
      more: of Random, `train` with the images for the comparison at equal compute.
    """

    train: Nearest
    heldout: Nearest | None
    asked: np.ndarray | None
    more: Nearest | None


def by_method(audit: Audit, sweeps: Mapping[str, Mapping[float, Row]]) -> list[dict[str, Any]]:
    """A group for each method, Random first, then as asked for.

    Args:
      audit: of all methods.
      sweeps: method -> λ -> its images; λ = 0 stands under the main one.

    Returns:
      "method"; "labels" and "guide", as in its options; "distill", what that stage said of the guide, or None;
      "scales", a row for each λ with AMS and UMS in the highest band against either set, and the share of images
      whose nearest photo has the class asked for; "against_random", `against_random` in the highest band.
    """
    methods, band = audit.methods(), audit.options.extract.bands[-1]
    random = next((sweep[0.0] for sweep in sweeps.values() if 0.0 in sweep), None)
    groups: list[dict[str, Any]] = []
    if random is not None:
        alone = {"method": RANDOM, "labels": None, "guide": "none", "distill": None}
        groups.append(alone | {"scales": [_row(0.0, random, band)], "against_random": None})
    asked_for = [name for name in audit.options.methods if name != RANDOM]
    for name in asked_for or [name for name in sweeps if name != RANDOM]:
        guided = {scale: row for scale, row in sweeps[name].items() if scale > 0}
        nearest = {scale: row.train for scale, row in guided.items()}
        compared = against_random(methods[name], nearest, random.more if random else None)
        options, manifest = methods[name].options, methods[name].folder("classifier") / MANIFEST
        group = {
            "method": name,
            "labels": options.labels.source,
            "guide": options.classifier.guide,
            "distill": read_json(manifest)["facts"] if manifest.exists() else None,
            "scales": [_row(scale, row, band) for scale, row in guided.items()],
            "against_random": compared[band[0]] if compared else None,
        }
        groups.append(group)
    return groups


def _row(scale: float, row: Row, band: Band) -> dict[str, Any]:
    sets = {"train": row.train, "heldout": row.heldout}
    scores = {
        name: {
            "ams": intervals.proportion(nearest.hits(band))._asdict(),
            "ums": intervals.unique_share(nearest.unique(band))._asdict(),
        }
        for name, nearest in sets.items()
        if nearest is not None
    }
    asked = intervals.proportion(row.asked)._asdict() if row.asked is not None else None
    return {"scale": scale, "num_images": len(row.train.best), "asked": asked} | scores
