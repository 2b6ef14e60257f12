"""Memorization scores of a set of generated images (DESIGN §5; seed 002, Eqs. 12 and 13)."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from side_jax.evidence.scores import in_band
from side_jax.matching.search import Matches

TOP_PERCENTS = (0.1, 0.5, 1.0, 5.0, 10.0)  # Table 2
CARLINI_THRESHOLD = 1.0
RATIO_THRESHOLD = 1 / 3


def _check_band(low: float, high: float) -> None:
    if not low < high:
        raise ValueError(f"a band needs low < high, got {low} and {high}")


def ams(matches: Matches, low: float, high: float) -> float:
    """Average memorization score, Eq. (12): the share of images whose best score lies in [low, high).

    Args:
      matches: of generated images with training photos, best first.
      low: α.
      high: β; 1.0 includes a score of 1.

    Example:
      >>> import numpy as np, side_jax
      >>> scores, indices = np.array([[0.9], [0.7], [0.2], [0.8]], np.float32), np.array([[3], [3], [5], [1]])
      >>> side_jax.ams(side_jax.Matches(scores, indices), 0.6, 1.0)
      0.75
    """
    _check_band(low, high)
    return float(in_band(matches.scores[:, 0], low, high).mean())


def ums(matches: Matches, low: float, high: float) -> float:
    """Unique memorization score, Eq. (13): distinct best matches in the band, over N_G. Arguments as for `ams`.

    Example:
      >>> import numpy as np, side_jax
      >>> scores, indices = np.array([[0.9], [0.7], [0.2], [0.8]], np.float32), np.array([[3], [3], [5], [1]])
      >>> side_jax.ums(side_jax.Matches(scores, indices), 0.6, 1.0)
      0.5
    """
    _check_band(low, high)
    hits = in_band(matches.scores[:, 0], low, high)
    return len(np.unique(matches.indices[hits, 0])) / len(hits)


def top_percent_mean(best: Float[np.ndarray, " n"], percent: float) -> float:
    """The mean of the `percent` % highest best scores, of at least one image (Table 2)."""
    count = max(1, round(len(best) * percent / 100))
    return float(np.sort(best)[-count:].mean())


def average_over_scales(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each metric over several λ, as Table 1 averages rows 5 … 9 of Table 2."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
