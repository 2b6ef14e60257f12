"""The guided method against Random: at equal numbers of images and, where Random has enough, at equal compute."""

from collections.abc import Mapping
from typing import Any

from side_jax.evidence.equal_compute import compare_at_equal_compute
from side_jax.evidence.scores import Band, Nearest
from side_jax.evidence.summary import compare_with_random
from side_jax.stages.audit import Audit
from side_jax.stages.extract import equal_compute


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
    facts = _counted(method)
    if facts is None or len(random.best) < facts["random_images"]:
        return {}
    paid = _first(random, facts["random_images"])
    bands = method.options.extract.bands
    return {band: compare_at_equal_compute(guided, paid, band) | {"cost": facts} for band in bands}


def _counted(method: Audit) -> dict[str, Any] | None:
    """What the extract stage counted for this method, if it did."""
    name = {"source": method.options.labels.source, "guide": method.options.classifier.guide}
    return next((facts for facts in equal_compute(method) if name.items() <= facts.items()), None)


def _first(scores: Nearest, count: int) -> Nearest:
    return Nearest(scores.best[:count], scores.winner[:count])
