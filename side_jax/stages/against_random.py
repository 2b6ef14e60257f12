"""The guided method against Random: at equal numbers of images and, where Random has enough, at equal compute."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from side_jax.artifacts import MANIFEST, read_json
from side_jax.cost.equal_compute import random_images_at_equal_compute
from side_jax.cost.jobs import CLASSES, Setting
from side_jax.evidence.equal_compute import compare_at_equal_compute
from side_jax.evidence.scores import Band, Nearest
from side_jax.evidence.summary import compare_with_random
from side_jax.stages.audit import Audit, read_architecture

FACTS = "equal_compute"  # of the extract stage's manifest, if it counted already


def count_random_images(method: Audit) -> tuple[int, dict[str, Any]]:
    """`random_images_at_equal_compute` of a method whose target stage is done, with the audit's own UNet and images.

    One device is counted, so that the number does not depend on the machine.
    """
    labels = method.split.train.labels
    classes = len(np.unique(labels[labels >= 0])) or CLASSES
    unet = read_architecture(method.workdir)
    assert unet is not None  # the target stage left it
    setting = Setting(method.options, unet, 1, len(method.split.train), classes)
    return random_images_at_equal_compute(setting, method.options, method.options.extract.num_images)


def against_random(
    method: Audit, guided: Mapping[float, Nearest], random: Nearest | None
) -> dict[str, dict[str, Any]] | None:
    """What metrics.json calls "guided_against_random", by band; None if there is nothing to compare.

    Args:
      method: the audit of the method.
      guided: λ > 0 -> its scores, N images each.
      random: at λ = 0, N images or more. Those beyond N serve the comparison at equal compute: None without them.
    """
    num_images, bands = method.options.extract.num_images, method.options.extract.bands
    if not guided or random is None or num_images < 4:
        return None
    equal = _at_equal_compute(method, guided, random)
    same = _first(random, num_images)
    return {band[0]: compare_with_random(guided, same, band) | {"equal_compute": equal.get(band)} for band in bands}


def _at_equal_compute(method: Audit, guided: Mapping[float, Nearest], random: Nearest) -> dict[Band, dict[str, Any]]:
    """By band, with the "cost"; empty if Random has no more images than the method, or too few of them."""
    if len(random.best) <= method.options.extract.num_images:
        return {}
    facts = _counted(method) or count_random_images(method)[1]
    if len(random.best) < facts["random_images"]:
        return {}
    paid = _first(random, facts["random_images"])
    bands = method.options.extract.bands
    return {band: compare_at_equal_compute(guided, paid, band) | {"cost": facts} for band in bands}


def _counted(method: Audit) -> dict[str, Any] | None:
    """What the extract stage counted, if it did, for as many images."""
    manifest = method.folder("extract") / MANIFEST
    facts: dict[str, Any] = read_json(manifest)["facts"].get(FACTS) or {} if manifest.exists() else {}
    return facts if facts.get("num_images") == method.options.extract.num_images else None


def _first(scores: Nearest, count: int) -> Nearest:
    return Nearest(scores.best[:count], scores.winner[:count])
