"""Every method by λ, and against Random at equal numbers of images and, where Random has enough, at equal compute."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from side_jax.audit.stage import Audit
from side_jax.audit.sweep import equal_compute
from side_jax.evidence import intervals
from side_jax.evidence.against_random import compare_at_equal_compute, compare_with_random
from side_jax.evidence.scores import Band, Nearest
from side_jax.evidence.table import RANDOM
from side_jax.runtime.files import MANIFEST, Json, read_json

if TYPE_CHECKING:
    from side_jax.audit.options import AuditOptions


class Row(NamedTuple):
    """One λ of one method.

    Attributes:
      train: best matches among the training photos.
      heldout: among the held-out photos, if there are any.
      asked: whether the nearest training photo has the class asked for, bool [N]; None if classes are not of photos.
      more: at λ = 0, `train` with the images for the comparison at equal compute; else None.
      paired: at λ = 0, scores with as many training photos as there are held-out ones, if any are.
    """

    train: Nearest
    heldout: Nearest | None
    asked: np.ndarray | None
    more: Nearest | None
    paired: Nearest | None = None


def by_method(
    audit: Audit, sweeps: Mapping[str, Mapping[float, Row]], compared: Mapping[str, Mapping[str, Json] | None]
) -> list[Json]:
    """A group for each method, Random first, then as asked for.

    Args:
      audit: of all methods.
      sweeps: method -> λ -> its images; λ = 0 stands under the main one.
      compared: method -> `against_random`.

    Returns:
      "method"; "labels" and "guide", as in its options; "saw_training_photos"; "distill", what that stage said of the
      guide, or None; "scales", a row for each λ with AMS and UMS in the highest band against either set, and the share
      of images whose nearest photo has the class asked for; "against_random", `against_random` in the highest band.
      Nothing of samples, of which no method is known.
    """
    if audit.samples:
        return []
    methods, band = audit.methods(), audit.bands()[-1]
    random = next((sweep[0.0] for sweep in sweeps.values() if 0.0 in sweep), None)
    groups: list[Json] = []
    if random is not None:
        alone = {"method": RANDOM, "labels": None, "guide": "none", "saw_training_photos": False, "distill": None}
        groups.append(alone | {"scales": [_row(0.0, random, band)], "against_random": None})
    asked_for = [name for name in audit.options.methods if name != RANDOM]
    for name in beside_controls(asked_for or [name for name in sweeps if name != RANDOM], methods):
        guided = {scale: row for scale, row in sweeps[name].items() if scale > 0}
        options, manifest = methods[name].options, methods[name].folder("classifier") / MANIFEST
        group = {
            "method": name,
            "labels": options.labels.source,
            "guide": options.classifier.guide,
            "saw_training_photos": saw_training_photos(options),
            "distill": read_json(manifest)["facts"] if manifest.exists() else None,
            "scales": [_row(scale, row, band) for scale, row in guided.items()],
            "against_random": (compared[name] or {}).get(band[0]),
        }
        groups.append(group)
    return groups


def saw_training_photos(options: "AuditOptions") -> bool:
    """True if the guide learns from training photos, or from labels or features of a classifier of them.

    Such a guide can make training photos likelier by itself, whatever the target knows (DESIGN §7).
    """
    labels = options.labels
    return options.classifier.guide != "none" and (labels.source == "dataset" or labels.has_teacher)


def beside_controls(names: Sequence[str], methods: Mapping[str, Audit]) -> list[str]:
    """The methods in this order, but a guide of held-out photos right after the guide whose control it is.

    That is the guide of the training photos themselves or, without one, the last that has seen them in any way.
    """
    controls = [name for name in names if methods[name].options.labels.source == "heldout"]
    others = [name for name in names if name not in controls]
    seen = [name for name in others if saw_training_photos(methods[name].options)]
    bounds = [name for name in seen if methods[name].options.labels.source == "dataset"]
    if not controls or not seen:
        return list(names)
    place = others.index((bounds or seen)[-1]) + 1
    return [*others[:place], *controls, *others[place:]]


def _row(scale: float, row: Row, band: Band) -> Json:
    sets = {"train": row.train, "heldout": row.heldout}
    scores = {name: nearest.ams_and_ums(band) for name, nearest in sets.items() if nearest is not None}
    asked = intervals.proportion(row.asked)._asdict() if row.asked is not None else None
    return {"scale": scale, "num_images": len(row.train.best), "asked": asked} | scores


def against_random(method: Audit, guided: Mapping[float, Nearest], random: Nearest | None) -> dict[str, Json] | None:
    """What metrics.json calls "guided_against_random", by band; None if there is nothing to compare.

    Args:
      method: the audit of the method.
      guided: λ > 0 -> its scores, N images each.
      random: at λ = 0, N images or more. Those beyond N serve the comparison at equal compute: None without them.
    """
    num_images, bands = method.options.extract.num_images, method.bands()
    if not guided or random is None or num_images < 4:
        return None
    equal = _at_equal_compute(method, guided, random)
    same = _first(random, num_images)
    return {band[0]: compare_with_random(guided, same, band) | {"equal_compute": equal.get(band)} for band in bands}


def _at_equal_compute(method: Audit, guided: Mapping[float, Nearest], random: Nearest) -> dict[Band, Json]:
    """By band, with the "cost"; empty if Random has no more images than the method, or too few of them."""
    if len(random.best) <= method.options.extract.num_images:
        return {}
    facts = _counted(method)
    if facts is None or len(random.best) < facts["random_images"]:
        return {}
    paid = _first(random, facts["random_images"])
    return {band: compare_at_equal_compute(guided, paid, band) | {"cost": facts} for band in method.bands()}


def _counted(method: Audit) -> Json | None:
    """What the extract stage counted for this method, if it did."""
    name = {"source": method.options.labels.source, "guide": method.options.classifier.guide}
    return next((facts for facts in equal_compute(method) if name.items() <= facts.items()), None)


def _first(scores: Nearest, count: int) -> Nearest:
    return Nearest(scores.best[:count], scores.winner[:count])
