"""A guided method against Random (λ = 0): at equal numbers of images, and at equal compute.

The best λ is chosen on even-numbered images and measured on odd ones. Choosing and measuring on the same images would
favour the best of any sweep, even one of pure noise.
"""

from collections.abc import Mapping

from side_jax.evidence.intervals import Difference, share_difference, unique_difference
from side_jax.evidence.ratios import Overlap, equal_counts_p, ratio_with_interval, shared_hits, shared_photos
from side_jax.evidence.scores import Band, Nearest


def compare_with_random(guided: Mapping[float, Nearest], random: Nearest, band: Band) -> dict[str, object]:
    """The best λ against λ = 0, image i paired with image i.

    Args:
      guided: λ > 0 -> its scores; images in the same order as `random`.
      random: the scores at λ = 0.
      band: the band of AMS and UMS.

    Returns:
      "num_images" measured; "ams" and "ums", each with the chosen "scale", the "difference" from Random, its "p", and
      the "ratio" to Random.
    """
    most_hits, most_photos = _best_scales(guided, band)
    by_hits, by_photos, baseline = (
        scores.half(odd=True) for scores in (guided[most_hits], guided[most_photos], random)
    )
    hits, winners = by_hits.hits(band), by_photos.winners(band)
    hits_before, winners_before = baseline.hits(band), baseline.winners(band)
    return {
        "num_images": len(baseline.best),
        "ams": _gain(most_hits, share_difference(hits, hits_before), shared_hits(hits, hits_before)),
        "ums": _gain(most_photos, unique_difference(winners, winners_before), shared_photos(winners, winners_before)),
    }


def _gain(scale: float, difference: Difference, overlap: Overlap) -> dict[str, object]:
    return {"scale": scale} | difference.facts() | {"ratio": ratio_with_interval(overlap)._asdict()}


def compare_at_equal_compute(guided: Mapping[float, Nearest], random: Nearest, band: Band) -> dict[str, object]:
    """The best λ against Random with as many operations: surrogate and gradients would pay for more Random images.

    The best λ has the most hits, or for photos the most distinct ones. Half of everything is measured: the odd half of
    the method's N images against the odd half of Random's N_eq, so that half of the surrogate's cost is charged too.
    Distinct photos grow more slowly than images, so this is their ratio at half the audit's compute. The cost of the
    other λ, from which the best is chosen, is not charged to the method.

    Args:
      guided: λ > 0 -> its scores, N images each.
      random: the scores at λ = 0, of N_eq ≥ N images, the first N in the same order.
      band: of the score.

    Returns:
      "num_images" and "random_images" measured; "hits" and "photos", each with the chosen "scale" and the facts of
      `compare_counts`.

    Raises:
      ValueError: if N_eq < N.
    """
    most_hits, most_photos = _best_scales(guided, band)
    by_hits, by_photos, baseline = (
        scores.half(odd=True) for scores in (guided[most_hits], guided[most_photos], random)
    )
    hits = shared_hits(by_hits.hits(band), baseline.hits(band))
    photos = shared_photos(by_photos.winners(band), baseline.winners(band))
    return {
        "num_images": len(by_hits.best),
        "random_images": len(baseline.best),
        "hits": {"scale": most_hits} | compare_counts(hits),
        "photos": {"scale": most_photos} | compare_counts(photos),
    }


def compare_counts(overlap: Overlap) -> dict[str, object]:
    """Facts of two counts: "count" of the method, "random_count", their "ratio" with its interval, and "p", two-sided.

    The null: an operation brings as many hits in either. With p of the method's images and q of Random's hits that is
    N p = N_eq q, so the two counts have the same expectation. For photos it is that equally many are expected.
    """
    count, random_count = overlap.counts
    ratio = ratio_with_interval(overlap)._asdict()
    return {"count": count, "random_count": random_count, "ratio": ratio, "p": equal_counts_p(overlap)}


def _best_scales(guided: Mapping[float, Nearest], band: Band) -> tuple[float, float]:
    """The λ with the most hits and the λ with the most distinct photos among even-numbered images."""
    even = {scale: scores.half(odd=False) for scale, scores in guided.items()}
    most_hits = max(even, key=lambda scale: int(even[scale].hits(band).sum()))
    most_photos = max(even, key=lambda scale: even[scale].unique(band).distinct())
    return most_hits, most_photos
