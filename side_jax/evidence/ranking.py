"""AUROC and TPR at a low FPR of a score that should rank positives above negatives, with 95 % intervals.

Intervals describe other images of the same model. Images are independent draws, unless `groups` names those that belong
together (one index at several λ): then a group is the unit.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

from side_jax.evidence.intervals import LEVEL, Difference, Estimate, Z, normal_test, proportion

MIN_EACH = 10  # the fewest positives, and negatives, for an interval
_RESAMPLES = 2_000


def too_few(positive: Bool[np.ndarray, " n"]) -> str | None:
    """The reason why these labels allow no interval, with the counts; None if they allow one."""
    count = int(positive.sum())
    rest = len(positive) - count
    if count >= MIN_EACH and rest >= MIN_EACH:
        return None
    if not count or not rest:
        return f"all {len(positive)} images are {'positives' if count else 'negatives'}: there is nothing to rank"
    return f"{count} positives and {rest} negatives, an interval needs at least {MIN_EACH} of each: use more images"


def auroc(
    scores: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"], groups: Int[np.ndarray, " n"] | None = None
) -> Estimate:
    """P(a positive scores higher than a negative) + P(equal) / 2, with DeLong's interval (DeLong et al. 1988).

    The interval is symmetric on the logit scale (Pepe 2003, 5.2), so it stays inside [0, 1]. If positives and negatives
    are separated perfectly the variance is 0. Then the end that is not 1 (or 0) is Clopper–Pearson's, for the greatest
    number of pairs without common images, all of them ranked the same way.

    Args:
      scores: higher should mean positive, [N].
      positive: [N].
      groups: images of one group are not independent: their deviations are summed first (Obuchowski 1997).

    Raises:
      ValueError: with fewer than `MIN_EACH` positives or negatives, or a score that is not finite.
    """
    _check(scores, positive)
    value, influence = _influence(scores, positive)
    if value in (0.0, 1.0):
        pairs = proportion(np.ones(int(min(positive.sum(), (~positive).sum())), bool)).low
        return Estimate(value, pairs if value else 0.0, 1.0 if value else 1 - pairs)
    spread = Z * np.sqrt(_variance(influence, groups)) / (value * (1 - value))
    low, high = 1 / (1 + np.exp(-np.log(value / (1 - value)) - np.array([-spread, spread])))
    return Estimate(value, float(low), float(high))


def chance(scores: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]) -> float:
    """Two-sided p of "positives and negatives score alike" (Mann–Whitney), whose statistic is AUROC."""
    _check(scores, positive)
    if (scores == scores[0]).all():  # no variance, of which SciPy makes a NaN
        return 1.0
    return float(stats.mannwhitneyu(scores[positive], scores[~positive]).pvalue)


def auroc_difference(
    scores: Float[np.ndarray, " n"],
    others: Float[np.ndarray, " n"],
    positive: Bool[np.ndarray, " n"],
    groups: Int[np.ndarray, " n"] | None = None,
) -> Difference:
    """AUROC of one score minus that of another on the same images (DeLong et al. 1988).

    If no image influences the difference, the interval is a point.
    """
    _check(scores, positive)
    _check(others, positive)
    (value, influence), (other, other_influence) = _influence(scores, positive), _influence(others, positive)
    error = float(np.sqrt(_variance(influence - other_influence, groups)))
    difference = value - other
    estimate = Estimate(difference, max(-1.0, difference - Z * error), min(1.0, difference + Z * error))
    return Difference(estimate, normal_test(difference, error))


def tpr_at_fpr(
    scores: Float[np.ndarray, " n"],
    positive: Bool[np.ndarray, " n"],
    fpr: float,
    groups: Int[np.ndarray, " n"] | None = None,
) -> tuple[Estimate, float]:
    """The share of positives above a threshold that at most a share `fpr` of the negatives exceeds, and that share.

    The threshold is the lowest score of a negative that allows it. If `fpr` is below 1 over the number of negatives,
    the actual share is 0.

    The interval covers two intervals. One is from a bootstrap of positives and negatives (of groups, if given), in
    which the threshold moves too. The other is Clopper–Pearson's at the actual threshold; it is wide at shares of 0 and
    1, where the bootstrap has no variance.

    Args:
      scores: higher should mean positive, [N].
      positive: [N].
      fpr: the highest allowed, in [0, 1).
      groups: as for `auroc`.

    Raises:
      ValueError: as `auroc`, or if `fpr` is outside [0, 1).
    """
    _check(scores, positive)
    if not 0 <= fpr < 1:
        raise ValueError(f"fpr must be in [0, 1), got {fpr}")
    order = np.argsort(-scores[~positive], kind="stable")
    negatives = scores[~positive][order]
    threshold = float(negatives[_allowed(np.ones((1, len(negatives))), fpr)[0]])
    above = scores[positive] > threshold
    weights = _bootstrap_weights(positive, groups, np.random.default_rng((0, 4)))
    moved = negatives[_allowed(weights[:, ~positive][:, order], fpr)]
    of_positives = weights[:, positive]
    shares = (of_positives * (scores[positive] > moved[:, None])).sum(1) / np.maximum(of_positives.sum(1), 1)
    low, high = np.quantile(shares, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    exact = proportion(above)
    estimate = Estimate(exact.value, min(float(low), exact.low), max(float(high), exact.high))
    return estimate, float((negatives > threshold).mean())


def best(candidates: Mapping[str, np.ndarray], positive: np.ndarray) -> str:
    """The candidate with the highest AUROC, the first of equals. It needs one positive and one negative only."""
    return max(candidates, key=lambda name: _influence(candidates[name], positive)[0])


def _check(scores: np.ndarray, positive: np.ndarray) -> None:
    reason = too_few(positive)
    if reason:
        raise ValueError(reason)
    if not np.isfinite(scores).all():
        raise ValueError(f"scores must be finite, got {int((~np.isfinite(scores)).sum())} that are not")


def _influence(scores: np.ndarray, positive: np.ndarray) -> tuple[float, np.ndarray]:
    """AUROC, and the influence of each image on it, [N]: the sum of its squares is DeLong's variance."""
    ranks = stats.rankdata(scores)  # ties get their mean rank, which counts them half
    m, n = int(positive.sum()), int((~positive).sum())
    won = (ranks[positive] - stats.rankdata(scores[positive])) / n  # V10 of DeLong's Eq. 4: share of negatives below
    lost = 1 - (ranks[~positive] - stats.rankdata(scores[~positive])) / m  # V01: share of positives above
    value = float(won.mean())
    influence = np.empty(len(scores))
    influence[positive] = (won - value) / np.sqrt(m * max(m - 1, 1))
    influence[~positive] = (lost - value) / np.sqrt(n * max(n - 1, 1))
    return value, influence


def _variance(influence: np.ndarray, groups: np.ndarray | None) -> float:
    """DeLong's variance of AUROC."""
    if groups is not None:
        unit = np.unique(groups, return_inverse=True)[1]
        influence = np.bincount(unit, influence)
    return float(np.square(influence).sum())


def _allowed(weights: np.ndarray, fpr: float) -> np.ndarray:
    """Index of the threshold among negatives in descending order of score, with weights [B, n]: int [B].

    It is the first negative at which the sum of weights exceeds the limit.
    """
    limit = fpr * weights.sum(1, keepdims=True) + 1e-9
    return (np.cumsum(weights, axis=1) > limit).argmax(1)


def _bootstrap_weights(positive: np.ndarray, groups: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
    """The number of times that each image is in each resample, [B, N], of positives and negatives or of groups."""
    if groups is not None:
        unit = np.unique(groups, return_inverse=True)[1]
        size = int(unit.max()) + 1
        return rng.multinomial(size, np.full(size, 1 / size), _RESAMPLES)[:, unit]
    weights = np.empty((_RESAMPLES, len(positive)), np.int64)
    for side in (positive, ~positive):
        size = int(side.sum())
        weights[:, side] = rng.multinomial(size, np.full(size, 1 / size), _RESAMPLES)
    return weights
