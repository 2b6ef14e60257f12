"""What the numbers of simulation.json say of each interval and test: a verdict, or the reason why it is not plain."""

from collections.abc import Mapping
from typing import Any

COVERED = (0.93, 0.97)  # what a nominal 95 % may be
DOUBTFUL = 0.001  # a p below this is a finding; there are dozens of tests

_EXACT = "Clopper–Pearson is exact, and so conservative at small counts"
_GAMMA = (
    "at few finds as exact, and so as conservative, as a Poisson count's; a photo that was never matched is allowed for"
    "; the jackknife's variance is too large on average (Efron and Stein 1981)"
)
_KID = "the jackknife counts twice what pairs of images add to the variance (Efron and Stein 1981), most of it here"
_RATIO = (
    "exact where no unit is in both and so conservative at small counts; for photos the variance is an upper bound that"
    " holds for any probabilities of the photos"
)
_TIES = "few images decide it, so many relabellings tie with the actual difference"
_NO_TREND = "the variance of photos that are matched repeatedly is added for both samples, as if they were not paired"

ABOVE: Mapping[str, str] = {
    "proportion": _EXACT,
    "unique_share": _GAMMA,
    "mean_unique_share": f"{_GAMMA}; what repeated finds add counts as fully correlated over λ",
    "unique_difference": f"{_NO_TREND}; at few finds the half-width is at least Clopper–Pearson's for none",
    "share_difference": "few pairs differ, and one of each sign is added",
    "ratio_with_interval, hits": _RATIO,
    "ratio_with_interval, photos": _RATIO,
    "compare_with_random, AMS": "few pairs differ, and one of each sign is added",
    "compare_with_random, AMS ratio": _RATIO,
    "compare_with_random, UMS": _NO_TREND,
    "compare_with_random, UMS ratio": _RATIO,
    "compare_at_equal_compute, hits": _RATIO,
    "auroc": "with perfect separation or nearly so it is wide: Clopper–Pearson's, or DeLong's on the logit scale",
    "auroc_difference": "at values near 1 or few images few ranks can differ, and DeLong's variance is too large",
    "tpr_at_fpr, audits of this size": "the interval covers two intervals, of which Clopper–Pearson's is exact",
    "tpr_at_fpr, endlessly many images": "the interval covers two intervals, of which Clopper–Pearson's is exact",
    "kid": _KID,
    "kid, paired": _KID,
    "kid difference": _KID,
    "sanity, kid_difference": _KID,
    "share_excess, mid": _TIES,
    "share_excess, high": _TIES,
    "nearest_excess": _TIES,
    "measured_bands, low": "the photo that sets the limit is counted on the safe side by one end",
    "measured_bands, mid": "the photo that sets the limit is counted on the safe side by one end",
    "extrapolated": "a prediction at small counts: no further photo is often both predicted and true",
}
BELOW: Mapping[str, str] = {
    "unique_share": (
        "in 9 % of the samples no image is a hit, and nothing then tells that a hit would match eight photos at once"
    ),
    "mean_share": "a normal interval: the few hits are skewed, and few of them have a small variance too",
    "mean": "a normal interval by Student's t: the mean of so few and skewed losses is skewed too",
    "tpr_at_fpr, audits of this size": (
        "the threshold is the highest negative or the next: a bootstrap has no higher one than those that were drawn"
    ),
    "tpr_at_fpr, endlessly many images": (
        "of n negatives a share f is at or below one: the threshold, the highest or the next, is exceeded by"
        " (⌊nf⌋ + 1) / (n + 1) of all negatives on average, more than f, and the TPR is that of this FPR"
    ),
    "extrapolated": "a normal interval at small counts: few lone finds have a small variance too",
}
_DISCRETE = "a discrete exact test: p has few values, and 1 is the most frequent"
TESTS: Mapping[str, str] = {
    "unique_difference": f"{_DISCRETE}; over several λ p is at least that of the interval, which is conservative",
    "share_difference": f"{_DISCRETE}; over several λ p is at least that of the interval",
    "equal_counts_p, hits": _DISCRETE,
    "equal_counts_p, photos": f"{_DISCRETE}; units in one sample alone are not independent: safe",
    "compare_with_random, AMS": _DISCRETE,
    "compare_with_random, UMS": _DISCRETE,
    "compare_at_equal_compute, hits": _DISCRETE,
    "kid difference": _KID,
    "chance": "a discrete exact test: ten images of each kind have few sums of ranks",
    "auroc_difference": "few ranks can differ, and DeLong's variance is too large",
    "share_excess, mid": f"exact by relabelling; {_TIES}",
    "share_excess, high": f"exact by relabelling; {_TIES}",
}
UNKNOWN = "no reason known"


def of_interval(row: Mapping[str, Any]) -> str:
    """It is "93–97 %", or "below" or "above" with the reason."""
    share = row["coverage"]
    if COVERED[0] <= share <= COVERED[1]:
        return "93–97 %"
    side, reasons = ("below", BELOW) if share < COVERED[0] else ("above", ABOVE)
    return f"{side}: {reasons.get(row['name'], UNKNOWN)}"


def of_test(row: Mapping[str, Any]) -> str:
    """It is "uniform", "valid, not uniform", "valid at .05 and .01 only" or "too small too often", with the reason.

    The last is of .05 and .01; the one before is of other levels, by the one-sided Kolmogorov-Smirnov test.
    """
    if min(row["at_05"]["chance"], row["at_01"]["chance"]) < DOUBTFUL:
        return f"too small too often: {UNKNOWN}"
    if row["valid"] < DOUBTFUL:
        return f"valid at .05 and .01 only: {TESTS.get(row['name'], UNKNOWN)}"
    if row["uniform"] >= DOUBTFUL:
        return "uniform"
    return f"valid, not uniform: {TESTS.get(row['name'], UNKNOWN)}"
