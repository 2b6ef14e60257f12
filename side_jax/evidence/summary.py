"""From the match table to metrics.json: every score, with its interval, for every λ and reference set."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from side_jax.evidence import intervals, null
from side_jax.evidence.metrics import CARLINI_THRESHOLD, RATIO_THRESHOLD, TOP_PERCENTS, top_percent_mean
from side_jax.evidence.ratios import ratio_with_interval, shared_hits, shared_photos
from side_jax.evidence.scores import Band, Nearest, Scores


def summarize(scores: Scores, bands: Sequence[Band]) -> dict[str, Any]:
    """Every score of one λ against one reference set."""
    best = scores.best.astype(np.float64)  # means of many float32 would lose digits
    return {
        "num_images": len(scores.best),
        "bands": {
            band[0]: {
                "ams": intervals.proportion(scores.hits(band))._asdict(),
                "ums": intervals.unique_share(scores.unique(band))._asdict(),
                "ums_all": intervals.unique_share(scores.all_in_band(band))._asdict(),
            }
            for band in bands
        },
        "top_percent": {str(p): top_percent_mean(best, p) for p in TOP_PERCENTS},
        "percentile_95": float(np.percentile(best, 95)),
        "carlini_below_1": intervals.proportion(scores.carlini < CARLINI_THRESHOLD)._asdict(),
        "nearest_ratio_below_third": intervals.proportion(scores.ratio < RATIO_THRESHOLD)._asdict(),
    }


def calibrate(paired: Scores, heldout: Scores, labels: null.Relabellings, bands: Sequence[Band]) -> dict[str, Any]:
    """Scores against m training images less those against m held-out ones, with the relabelling null.

    Args:
      paired: scores against the training images, first m of the pool.
      heldout: scores against the held-out images, last m of the pool.
      labels: `null.relabellings` of the pool.
      bands: bands of AMS.
    """
    size = len(labels.bits) // 2
    nearest = np.where(paired.best > heldout.best, paired.winner, size + heldout.winner)
    excess = null.share_excess(paired.above, heldout.above, labels, bands)
    return {
        "train_share": intervals.proportion(nearest < size)._asdict(),
        "train_share_excess": null.nearest_excess(nearest, labels)._asdict(),
        "ams_excess": {band[0]: found._asdict() for band, found in zip(bands, excess, strict=True)},
    }


def null_facts(labels: null.Relabellings) -> dict[str, Any]:
    """What the relabelling test can find at all, as metrics.json has it."""
    return {"least_p": labels.least_p, "relabelled": labels.relabelled, "reason": labels.reason}


def compare_with_random(guided: Mapping[float, Nearest], random: Nearest, band: Band) -> dict[str, Any]:
    """Does the best λ beat λ = 0? The best is chosen on even-numbered images, the difference measured on odd ones.

    Choosing and measuring on the same images would favour the winner of any sweep, even one of pure noise.

    Args:
      guided: λ > 0 -> its scores; images in the same order as `random`.
      random: the scores at λ = 0.
      band: the band of AMS and UMS.

    Returns:
      "num_images" measured; "ams" and "ums", each with the chosen "scale", the "difference" from Random, its "p", and
      the "ratio" to Random.
    """
    baseline = random.half(odd=True)
    even = {scale: scores.half(odd=False) for scale, scores in guided.items()}
    best_ams = max(even, key=lambda scale: even[scale].hits(band).mean())
    best_ums = max(even, key=lambda scale: even[scale].unique(band).distinct())
    hits, hits_before = guided[best_ams].half(odd=True).hits(band), baseline.hits(band)
    winners, winners_before = guided[best_ums].half(odd=True).winners(band), baseline.winners(band)
    results = {
        "ams": (best_ams, intervals.share_difference(hits, hits_before), shared_hits(hits, hits_before)),
        "ums": (best_ums, intervals.unique_difference(winners, winners_before), shared_photos(winners, winners_before)),
    }
    return {"num_images": len(baseline.best)} | {
        name: {
            "scale": scale,
            "difference": difference._asdict(),
            "ratio": ratio_with_interval(overlap)._asdict(),
            "p": p,
        }
        for name, (scale, (difference, p), overlap) in results.items()
    }
