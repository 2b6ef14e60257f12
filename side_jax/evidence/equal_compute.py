"""A guided method against Random at equal compute: surrogate and gradients would pay for more Random images."""

from collections.abc import Mapping
from typing import Any

from side_jax.evidence.ratios import Overlap, equal_counts_p, ratio_with_interval, shared_hits, shared_photos
from side_jax.evidence.scores import Band, Nearest


def hits_at_equal_compute(method: Nearest, random: Nearest, band: Band) -> dict[str, Any]:
    """Images in the band, N of the method against N_eq of Random for the same operations.

    The null: an operation brings as many hits in either. With p of the method's images and q of Random's hits that is
    N p = N_eq q, so the two counts have the same expectation.

    Args:
      method: N images at one λ > 0.
      random: N_eq ≥ N images at λ = 0, of which the first N have the noise of the method's.
      band: of the score.

    Returns:
      "count" of the method (AMS · N) and "random_count", their "ratio" with its interval, and "p", two-sided.

    Raises:
      ValueError: if N_eq < N.
    """
    return _compared(shared_hits(method.hits(band), random.hits(band)))


def photos_at_equal_compute(method: Nearest, random: Nearest, band: Band) -> dict[str, Any]:
    """Distinct photos, as `hits_at_equal_compute`: "count" is UMS · N. The null: equally many are expected."""
    return _compared(shared_photos(method.winners(band), random.winners(band)))


def _compared(overlap: Overlap) -> dict[str, Any]:
    count, random_count = overlap.counts
    ratio = ratio_with_interval(overlap)
    return {
        "count": count,
        "random_count": random_count,
        "ratio": ratio._asdict(),
        "p": equal_counts_p(overlap),
    }


def compare_at_equal_compute(guided: Mapping[float, Nearest], random: Nearest, band: Band) -> dict[str, Any]:
    """Does the best λ beat Random, given as many operations? Chosen on even-numbered images, measured on odd ones.

    The best λ has the most hits, or for photos the most distinct ones. Half of everything is measured: the odd half of
    the method's N images against the odd half of Random's N_eq, so that half of the surrogate's cost is charged too.
    Distinct photos grow more slowly than images, so this is their ratio at half the audit's compute. What the other λ
    cost, from which the best is chosen, is not charged to the method.

    Args:
      guided: λ > 0 -> its scores, N images each.
      random: the scores at λ = 0, of N_eq ≥ N images, the first N in the same order.
      band: of the score.

    Returns:
      "num_images" and "random_images" measured; "hits" and "photos", each with the chosen "scale" and what
      `hits_at_equal_compute` gives.

    Raises:
      ValueError: if N_eq < N.
    """
    even = {scale: scores.half(odd=False) for scale, scores in guided.items()}
    most_hits = max(even, key=lambda scale: int(even[scale].hits(band).sum()))
    most_photos = max(even, key=lambda scale: even[scale].unique(band).distinct())
    baseline = random.half(odd=True)
    by_hits, by_photos = guided[most_hits].half(odd=True), guided[most_photos].half(odd=True)
    return {
        "num_images": len(by_hits.best),
        "random_images": len(baseline.best),
        "hits": {"scale": most_hits} | hits_at_equal_compute(by_hits, baseline, band),
        "photos": {"scale": most_photos} | photos_at_equal_compute(by_photos, baseline, band),
    }
