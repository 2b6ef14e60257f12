"""Memorization scores of a set of generated images (DESIGN §5; seed 002, Eqs. 12 and 13)."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from side_jax.extraction.matching import Matches

TOP_PERCENTS = (0.1, 0.5, 1.0, 5.0, 10.0)  # Table 2
CARLINI_THRESHOLD = 1.0
RATIO_THRESHOLD = 1 / 3


def in_band(scores: np.ndarray, low: float, high: float) -> np.ndarray:
    """low ≤ score < high; a band up to 1 is closed, whatever float rounding makes of a perfect match."""
    return (scores >= low) & ((scores < high) | (high >= 1.0))


def _check_band(low: float, high: float) -> None:
    if not low < high:
        raise ValueError(f"a band needs low < high, got {low} and {high}")


def ams(matches: Matches, low: float, high: float) -> float:
    """Average memorization score, Eq. (12): share of images whose best score lies in [low, high).

    Args:
      matches: generated images against training images, best first.
      low: α.
      high: β; 1.0 includes a score of 1.
    """
    _check_band(low, high)
    return float(in_band(matches.scores[:, 0], low, high).mean())


def winners(matches: Matches, low: float, high: float) -> np.ndarray:
    """Index of each image's best training image if its score lies in the band, else −1: int [N]."""
    return np.where(in_band(matches.scores[:, 0], low, high), matches.indices[:, 0], -1)


def ums(matches: Matches, low: float, high: float) -> float:
    """Unique memorization score, Eq. (13) as the seed has it: distinct best matches in the band, over N_G."""
    _check_band(low, high)
    found = winners(matches, low, high)
    return len(np.unique(found[found >= 0])) / len(found)


def ums_all(above: Sequence[tuple[np.ndarray, np.ndarray]], low: float, high: float) -> float:
    """UMS as the later version counts it: distinct training images with any score in the band, over N_G.

    Args:
      above: per generated image, (training indices, scores) of every score ≥ `low` (`matches_above`). May exceed AMS.
      low: α.
      high: β.
    """
    _check_band(low, high)
    found = [indices[in_band(scores, low, high)] for indices, scores in above]
    return len(np.unique(np.concatenate(found))) / len(above)


def top_percent_mean(best: Float[np.ndarray, " n"], percent: float) -> float:
    """Mean of the `percent` % highest best scores, of at least one image (Table 2)."""
    count = max(1, round(len(best) * percent / 100))
    return float(np.sort(best)[-count:].mean())


def carlini_ratio(distances: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
    """ℓ₂(x̂, x) / (0.5 · mean ℓ₂ to the 50 nearest) (Carlini et al. 2023): below 1 counts as extracted.

    Args:
      distances: ℓ₂ to the nearest training images, ascending, [N, ≤ 50].
    """
    return distances[:, 0] / np.maximum(0.5 * distances.mean(1), 1e-12)


def nearest_ratio(distances: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
    """d₁ / d₂, nearest over second nearest (Yoon et al. 2023): below 1/3 counts as memorized. NaN with one image."""
    if distances.shape[1] < 2:
        return np.full(len(distances), np.nan)
    return distances[:, 0] / np.maximum(distances[:, 1], 1e-12)


def average_over_scales(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each metric over several λ: how Table 1 comes from rows 5 … 9 of Table 2."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
