"""Table 1 (seed 002): the scores of each way to choose the guide, averaged over λ > 0, and their gain over Random."""

from collections.abc import Mapping, Sequence

import numpy as np

from side_jax.evidence import intervals
from side_jax.evidence.scores import Band, Nearest

RANDOM = "random"  # λ = 0, unguided


def table1(
    train: Mapping[str, Sequence[Nearest]], heldout: Mapping[str, Sequence[Nearest]], bands: Sequence[Band]
) -> list[dict[str, object]]:
    """One row per method, in the order of `train`.

    Args:
      train: method -> its scores at each λ against the training photos; "random" has those of λ = 0.
      heldout: the same against held-out photos; empty if there are none.
      bands: bands of the score.

    Returns:
      Rows with "method", "num_scales", and by band: "train" and "heldout", AMS and UMS with 95 % intervals; "gain",
      their difference from Random by image index. "heldout" and "gain" are None without held-out photos or Random.
    """
    rows: list[dict[str, object]] = []
    for method, sweep in train.items():
        compared = method != RANDOM and RANDOM in train
        rows.append(
            {
                "method": method,
                "num_scales": len(sweep),
                "train": {band[0]: _means(sweep, band) for band in bands},
                "heldout": {band[0]: _means(heldout[method], band) for band in bands} if method in heldout else None,
                "gain": {band[0]: _gain(sweep, train[RANDOM][0], band) for band in bands} if compared else None,
            }
        )
    return rows


def _means(sweep: Sequence[Nearest], band: Band) -> dict[str, object]:
    """`ams_and_ums` of one method in one band, averaged over its λ; images in the same order at each λ."""
    means = {
        "ams": intervals.mean_share(np.stack([scores.hits(band) for scores in sweep])),
        "ums": intervals.mean_unique_share([scores.unique(band) for scores in sweep]),
    }
    if sweep[0].pictures is not None:
        means["ums_pictures"] = intervals.mean_unique_share([scores.unique_pictures(band) for scores in sweep])
    return {name: estimate._asdict() for name, estimate in means.items()}


def _gain(sweep: Sequence[Nearest], random: Nearest, band: Band) -> dict[str, object]:
    """The gain over Random in one band. No λ is picked, so all images serve."""
    hits = np.stack([scores.hits(band) for scores in sweep])
    winners = np.stack([scores.winners(band) for scores in sweep])
    return {
        "ams": intervals.share_difference(hits, random.hits(band)).facts(),
        "ums": intervals.unique_difference(winners, random.winners(band)).facts(),
    }
