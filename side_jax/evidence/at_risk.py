"""Which photos come out, with a false-discovery rate: held-out photos are decoys (target-decoy competition).

A held-out photo that is found is found by mistake. If nothing was learnt of a training photo, it is found as often as a
held-out one. So among the photos with a score of s or more,

    FDR(s) ≈ (M / H) (1 + held-out photos with s or more) / (training photos with s or more),

with M training and H held-out photos (Elias and Gygi 2007). The added 1 makes the expected share of false finds at most
the nominal one in finite samples too (Barber and Candès 2015, knockoff+; He et al. 2015). Photos must be one for each
picture: repeats are not exchangeable with single photos one by one.
"""

import numpy as np
from jaxtyping import Bool, Float

SURE = 0.1  # a false-discovery rate up to which a photo is called found


def q_values(scores: Float[np.ndarray, " p"], member: Bool[np.ndarray, " p"]) -> Float[np.ndarray, " p"]:
    """The least false-discovery rate at which each photo is in the list, in [0, 1].

    Args:
      scores: of each photo, by a rule that does not know which photos were trained on.
      member: True for a training photo.

    Returns:
      float [P]; 1 for every photo if none is held out, or none trained on.
    """
    targets, decoys = int(member.sum()), int((~member).sum())
    if not targets or not decoys:
        return np.ones(len(scores))
    levels = np.unique(scores)  # ascending
    above = [len(part) - np.searchsorted(np.sort(part), levels) for part in (scores[member], scores[~member])]
    rate = targets / decoys * (1 + above[1]) / np.maximum(above[0], 1)
    least = np.minimum.accumulate(np.minimum(rate, 1))  # a lower level may have the lower rate
    return least[np.searchsorted(levels, scores)]
