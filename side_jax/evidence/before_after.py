"""Two audits compared: scores of the images of the second less those of the first, of one λ.

Images are paired by index where those of both audits begin from the same noise; else the two sets are independent.
Photos may differ, if the second model was trained on others: then each score is with the photos of its own audit.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import signal, stats

from side_jax.evidence import ranking
from side_jax.evidence.intervals import (
    Difference,
    Estimate,
    Finds,
    mean,
    proportion,
    share_difference,
    unique_difference,
    unique_share,
)
from side_jax.evidence.scores import Band, Nearest
from side_jax.evidence.unpaired import difference_of_estimates, unpaired_share_difference


class Change(NamedTuple):
    """A score of both audits, and the second less the first."""

    before: Estimate
    after: Estimate
    difference: Difference


@dataclasses.dataclass(frozen=True)
class Images:
    """The generated images of one λ of one audit, image i of index i. Winners are numbers of photos, the same for both.

    Attributes:
      train: their best matches among all training photos.
      paired: among m training photos; None if none is held out.
      heldout: among m held-out photos; None if none is.
    """

    train: Nearest
    paired: Nearest | None
    heldout: Nearest | None

    def __len__(self) -> int:
        return len(self.train.best)

    def first(self, count: int) -> "Images":
        """The images 0 … count − 1."""
        sets = (self.train, self.paired, self.heldout)
        return Images(*(one and Nearest(one.best[:count], one.winner[:count]) for one in sets))  # type: ignore[arg-type]


def compare_images(before: Images, after: Images, band: Band, *, paired: bool) -> dict[str, Change]:
    """AMS and UMS with the training photos, and what both audits calibrate by held-out photos.

    Args:
      before: images of the first audit.
      after: as many images of the second.
      band: of the scores.
      paired: image i of both begins from the same noise.

    Returns:
      "ams", "ums"; and, if both have held-out photos, "heldout", AMS with these; "excess", AMS with as many training
      photos less that; and "nearest", the share of images whose nearest photo is a training photo.

    Raises:
      ValueError: if the numbers of images differ: UMS of more images is lower by itself.
    """
    if len(before) != len(after):
        raise ValueError(f"as many images of both audits are compared, got {len(before)} and {len(after)}")
    sides = before, after
    found = {
        "ams": share_change(*(one.train.hits(band) for one in sides), paired=paired),
        "ums": _unique_change(*(one.train.winners(band) for one in sides), paired=paired),
    }
    if all(one.heldout is not None for one in sides):
        hits = [(_set(one.paired).hits(band), _set(one.heldout).hits(band)) for one in sides]
        found["heldout"] = share_change(hits[0][1], hits[1][1], paired=paired)
        found["excess"] = excess_change(*(train.astype(int) - heldout for train, heldout in hits), paired=paired)
        found["nearest"] = share_change(
            *(_set(one.paired).best > _set(one.heldout).best for one in sides), paired=paired
        )
    return found


def _set(nearest: Nearest | None) -> Nearest:
    assert nearest is not None
    return nearest


def share_change(before: Bool[np.ndarray, " n"], after: Bool[np.ndarray, " m"], *, paired: bool) -> Change:
    """The share of hits; `paired` if hit i of both is of the same image, or of the same photo."""
    difference: Callable[..., Difference] = share_difference if paired else unpaired_share_difference
    return Change(proportion(before), proportion(after), difference(after, before))


def _unique_change(before: np.ndarray, after: np.ndarray, *, paired: bool) -> Change:
    shares = [unique_share(Finds.of(winners)) for winners in (before, after)]
    difference = unique_difference(after, before) if paired else difference_of_estimates(shares[1], shares[0])
    return Change(shares[0], shares[1], difference)


def auroc_change(
    before: Float[np.ndarray, " n"], after: Float[np.ndarray, " n"], member: Bool[np.ndarray, " n"]
) -> Change | None:
    """AUROC of two scores of the same photos, and its change; None if there are too few photos of either kind."""
    if ranking.too_few(member):
        return None
    difference = ranking.auroc_difference(after, before, member)
    return Change(ranking.auroc(before, member), ranking.auroc(after, member), difference)


def excess_change(before: Int[np.ndarray, " n"], after: Int[np.ndarray, " n"], *, paired: bool) -> Change:
    """The excess over held-out photos, the mean of hits with training less hits with held-out photos, and its change.

    Intervals are Student's, with one more of +1 and one more of −1, as those of `share_difference`; they describe other
    images of the same models and photos. If image i of both audits can be swapped, the sign of its change is a toss:
    p is exact. Of independent images it is that of the interval.

    Args:
      before: hits with training photos less hits with held-out ones, of each image of the first audit: −1, 0 or 1.
      after: of the second.
      paired: image i of both begins from the same noise.
    """
    shares = [_mean_with_two_more(values) for values in (before, after)]
    if not paired:
        return Change(shares[0], shares[1], difference_of_estimates(shares[1], shares[0]))
    change = after - before
    return Change(shares[0], shares[1], Difference(_mean_with_two_more(change), toss_test(change)))


def _mean_with_two_more(values: np.ndarray) -> Estimate:
    spread = mean(np.append(values, [1.0, -1.0]))
    return Estimate(float(values.mean()), spread.low, spread.high)


def toss_test(changes: Int[np.ndarray, " n"]) -> float:
    """Two-sided p of "each change is as likely as its opposite", exact: of a sum of ±1 and ±2 as far from 0 or more."""
    ones, twos = (int((np.abs(changes) == size).sum()) for size in (1, 2))
    steps = stats.binom.pmf(np.arange(ones + 1), ones, 0.5)  # of sums −ones, −ones + 2, …
    leaps = np.zeros(2 * twos + 1)
    leaps[::2] = stats.binom.pmf(np.arange(twos + 1), twos, 0.5)  # of sums −2 twos, −2 twos + 4, …
    chances = signal.convolve(steps, leaps)
    sums = -ones - 2 * twos + 2 * np.arange(len(chances))
    return min(1.0, float(chances[np.abs(sums) >= abs(int(changes.sum()))].sum()))
