"""From the match table to metrics.json: every score, with its interval, for every λ and reference set."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import sparse

from side_jax.evidence import intervals, null
from side_jax.evidence.metrics import (
    CARLINI_THRESHOLD,
    RATIO_THRESHOLD,
    TOP_PERCENTS,
    in_band,
    top_percent_mean,
)

Band = tuple[str, float, float]


@dataclasses.dataclass(frozen=True)
class Scores:
    """What the match table says of N images against one reference set of M.

    Attributes:
      best: highest score, [N].
      winner: position of the image that has it, [N].
      above: per image, positions of all references that score at least the lowest band.
      above_scores: their scores.
      carlini, ratio: `metrics.carlini_ratio`, `metrics.nearest_ratio`, [N].
    """

    best: np.ndarray
    winner: np.ndarray
    above: list[np.ndarray]
    above_scores: list[np.ndarray]
    carlini: np.ndarray
    ratio: np.ndarray

    @classmethod
    def from_table(cls, table: pa.Table, prefix: str, ids: Sequence[str]) -> "Scores":
        """Reads the columns of one reference set; `ids` gives positions."""
        position = {name: i for i, name in enumerate(ids)}
        above = [np.array([position[i] for i in row], int) for row in table[f"{prefix}in_band"].to_pylist()]
        return cls(
            np.array([row[0] for row in table[f"{prefix}scores"].to_pylist()]),
            np.array([position[row[0]] for row in table[f"{prefix}ids"].to_pylist()]),
            above,
            [np.array(row, np.float32) for row in table[f"{prefix}in_band_scores"].to_pylist()],
            table[f"{prefix}carlini_ratio"].to_numpy(),
            table[f"{prefix}nearest_ratio"].to_numpy(),
        )

    def hits(self, band: Band) -> np.ndarray:
        """Whose best score lies in the band: bool [N]. Its mean is AMS, Eq. (12)."""
        return in_band(self.best, band[1], band[2])

    def winners(self, band: Band) -> np.ndarray:
        """Best match of each image if it lies in the band, else −1: int [N]. Distinct ones over N: UMS, Eq. (13)."""
        return np.where(self.hits(band), self.winner, -1)

    def unique(self, band: Band) -> list[np.ndarray]:
        """`winners` as lists of at most one."""
        return [np.array([w] if w >= 0 else [], int) for w in self.winners(band)]

    def all_in_band(self, band: Band) -> list[np.ndarray]:
        """Every reference in the band, per image. Their union over N is UMS_all."""
        pairs = zip(self.above, self.above_scores, strict=True)
        return [ids[in_band(scores, band[1], band[2])] for ids, scores in pairs]

    def at_least(self, threshold: float, num_references: int) -> sparse.csr_array:
        """[N, M], non-zero where image i scores ≥ threshold with reference j."""
        chosen = [ids[s >= threshold] for ids, s in zip(self.above, self.above_scores, strict=True)]
        columns = np.concatenate(chosen)
        starts = np.concatenate([[0], np.cumsum([len(c) for c in chosen])])
        return sparse.csr_array((np.ones(len(columns), np.float32), columns, starts), (len(chosen), num_references))

    def half(self, odd: bool) -> "Scores":
        """The images at odd or at even places."""
        rows = slice(int(odd), None, 2)
        return Scores(**{f.name: getattr(self, f.name)[rows] for f in dataclasses.fields(self)})


def summarize(scores: Scores, bands: Sequence[Band]) -> dict[str, Any]:
    """Every score of one λ against one reference set."""
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
        "top_percent": {str(p): top_percent_mean(scores.best, p) for p in TOP_PERCENTS},
        "percentile_95": float(np.percentile(scores.best, 95)),
        "carlini_below_1": intervals.proportion(scores.carlini < CARLINI_THRESHOLD)._asdict(),
        "nearest_ratio_below_third": intervals.proportion(scores.ratio < RATIO_THRESHOLD)._asdict(),
    }


def calibrate(paired: Scores, heldout: Scores, labels: np.ndarray, bands: Sequence[Band]) -> dict[str, Any]:
    """Scores against m training images less those against m held-out ones, with the relabelling null.

    Args:
      paired: scores against the training images, first m of the pool.
      heldout: scores against the held-out images, last m of the pool.
      labels: `null.relabellings` of the pool, [2m, R].
      bands: bands of AMS.
    """
    size = len(labels) // 2
    nearest = np.where(paired.best > heldout.best, paired.winner, size + heldout.winner)

    def pooled(threshold: float) -> sparse.csr_array:
        both = [paired.at_least(threshold, size), heldout.at_least(threshold, size)]
        return sparse.csr_array(sparse.hstack(both, format="csr"))

    excess = {}
    for name, low, high in bands:
        excluded = pooled(high if high < 1.0 else np.inf)
        excess[name] = null.share_excess(pooled(low), excluded, labels)._asdict()
    return {
        "train_share": intervals.proportion(nearest < size)._asdict(),
        "train_share_excess": null.nearest_excess(nearest, labels)._asdict(),
        "ams_excess": excess,
    }


def compare_with_random(guided: dict[float, Scores], random: Scores, band: Band) -> dict[str, Any]:
    """Does the best λ beat λ = 0? The best is chosen on even-numbered images, the difference measured on odd ones.

    Choosing and measuring on the same images would favour the winner of any sweep, even one of pure noise.

    Args:
      guided: λ > 0 -> its scores; images in the same order as `random`.
      random: the scores at λ = 0.
      band: the band of AMS and UMS.
    """
    baseline = random.half(odd=True)
    even = {scale: scores.half(odd=False) for scale, scores in guided.items()}
    best_ams = max(even, key=lambda scale: even[scale].hits(band).mean())
    best_ums = max(even, key=lambda scale: len(np.unique(np.concatenate(even[scale].unique(band)))))
    ams, p = intervals.share_difference(guided[best_ams].half(odd=True).hits(band), baseline.hits(band))
    winners = guided[best_ums].half(odd=True).winners(band)
    ums, p_ums = intervals.unique_difference(winners, baseline.winners(band))
    return {
        "num_images": len(baseline.best),
        "ams": {"scale": best_ams, "difference": ams._asdict(), "p": p},
        "ums": {"scale": best_ums, "difference": ums._asdict(), "p": p_ums},
    }
