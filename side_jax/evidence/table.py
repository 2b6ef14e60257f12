"""Table 1 (seed 002): the scores of each way to choose the guide, averaged over λ > 0, and their gain over Random."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from side_jax.evidence import intervals
from side_jax.evidence.scores import Band, Nearest

RANDOM = "random"  # λ = 0, unguided


def method_row(sweep: Sequence[Nearest], bands: Sequence[Band]) -> dict[str, Any]:
    """AMS and UMS of one method in every band, averaged over its λ, with 95 % intervals.

    Args:
      sweep: scores at each λ; images in the same order.
      bands: bands of the score.
    """
    return {
        band[0]: {
            "ams": intervals.mean_share(np.stack([scores.hits(band) for scores in sweep]))._asdict(),
            "ums": intervals.mean_unique_share([scores.unique(band) for scores in sweep])._asdict(),
        }
        for band in bands
    }


def gain_over_random(sweep: Sequence[Nearest], random: Nearest, bands: Sequence[Band]) -> dict[str, Any]:
    """What a method adds to Random, by image index: no λ is picked, so all images serve."""
    gains = {}
    for band in bands:
        hits = np.stack([scores.hits(band) for scores in sweep])
        winners = np.stack([scores.winners(band) for scores in sweep])
        pairs = {
            "ams": intervals.share_difference(hits, random.hits(band)),
            "ums": intervals.unique_difference(winners, random.winners(band)),
        }
        gains[band[0]] = {name: {"difference": e._asdict(), "p": p} for name, (e, p) in pairs.items()}
    return gains


def table1(
    train: Mapping[str, Sequence[Nearest]], heldout: Mapping[str, Sequence[Nearest]], bands: Sequence[Band]
) -> list[dict[str, Any]]:
    """One row per method, in the order given.

    Args:
      train: method -> its scores at each λ against the training images; "random" has the one of λ = 0.
      heldout: the same against held-out images; empty if there are none.
      bands: bands of the score.
    """
    rows = []
    for method, sweep in train.items():
        compared = method != RANDOM and RANDOM in train
        rows.append(
            {
                "method": method,
                "num_scales": len(sweep),
                "train": method_row(sweep, bands),
                "heldout": method_row(heldout[method], bands) if method in heldout else None,
                "gain": gain_over_random(sweep, train[RANDOM][0], bands) if compared else None,
            }
        )
    return rows
