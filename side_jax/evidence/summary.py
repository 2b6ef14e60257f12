"""Scores of the match table for metrics.json: every score, with its interval, for every λ and reference set."""

from collections.abc import Sequence

import numpy as np

from side_jax.evidence import intervals, null
from side_jax.evidence.metrics import CARLINI_THRESHOLD, RATIO_THRESHOLD, TOP_PERCENTS, top_percent_mean
from side_jax.evidence.scores import Band, Scores


def summarize(scores: Scores, bands: Sequence[Band]) -> dict[str, object]:
    """Every score of one λ against one reference set."""
    best = scores.best.astype(np.float64)  # means of many float32 would lose digits
    return {
        "num_images": len(scores.best),
        "bands": {
            band[0]: scores.ams_and_ums(band) | {"ums_all": intervals.unique_share(scores.all_in_band(band))._asdict()}
            for band in bands
        },
        "top_percent": {str(p): top_percent_mean(best, p) for p in TOP_PERCENTS},
        "percentile_95": float(np.percentile(best, 95)),
        "carlini_below_1": intervals.proportion(scores.carlini < CARLINI_THRESHOLD)._asdict(),
        "nearest_ratio_below_third": intervals.proportion(scores.ratio < RATIO_THRESHOLD)._asdict(),
    }


def calibrate(paired: Scores, heldout: Scores, labels: null.Relabellings, bands: Sequence[Band]) -> dict[str, object]:
    """Scores against m training photos minus those against m held-out ones, with the relabelling null.

    Args:
      paired: scores against the training photos, the first m of the pool.
      heldout: scores against the held-out photos, the last m of the pool.
      labels: `null.relabellings` of the pool.
      bands: bands of AMS.
    """
    size = len(labels.bits) // 2
    nearest = np.where(paired.best > heldout.best, paired.winner, size + heldout.winner)
    excess = null.share_excess(paired.above, heldout.above, labels, bands)
    return {
        "train_share": intervals.proportion(nearest < size)._asdict(),
        "train_share_excess": null.nearest_excess(nearest, labels)._asdict(),
        "ams_excess": {band[0]: one._asdict() for band, one in zip(bands, excess, strict=True)},
    }


def null_facts(labels: null.Relabellings) -> dict[str, object]:
    """The limits of the relabelling test, as metrics.json has them."""
    return {"least_p": labels.least_p, "relabelled": labels.relabelled, "reason": labels.reason}
