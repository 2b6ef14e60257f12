"""Which generated images count as memorized: those nearer to a training photo than any held-out photo explains."""

import numpy as np
from jaxtyping import Bool, Float

HELDOUT_SHARE = 0.001


def memorized(
    train: Float[np.ndarray, " n"], heldout: Float[np.ndarray, " n"], share: float = HELDOUT_SHARE
) -> tuple[Bool[np.ndarray, " n"], float]:
    """Whose best score with a training photo is above the highest `share` of all best scores with held-out photos.

    Args:
      train: best score of each generated image with m training photos, [N].
      heldout: with equally many held-out photos, [N].
      share: of the held-out scores, that may lie at or above the threshold. Of fewer than 1 / share images the highest
        score is the threshold.

    Returns:
      bool [N], and the threshold.
    """
    threshold = float(np.quantile(heldout, 1 - share, method="higher"))
    return train > threshold, threshold
