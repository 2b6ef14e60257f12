"""Scenarios: AUROC, TPR and their tests, of scores that are normal among positives and among negatives."""

import numpy as np
from scipy import stats

from docs.evidence.cells import Interval, Outcome, Scenario
from side_jax.evidence import detectors, ranking

_REPETITIONS = 1_000
_SLOW = 100  # with 2,000 resamples in each


def scenarios() -> list[Scenario]:
    """All of this module."""
    found = [_auroc(value, each) for value in (0.6, 0.9, 0.99) for each in (100, 30)]
    found += [_auroc(0.9, 10), _groups(0.6), _groups(0.9), _rounded()]
    found += [_difference(0.75, 0.75, 100), _difference(0.75, 0.75, 10), _difference(0.9, 0.8, 100)]
    found += [_difference(0.98, 0.98, 30), _grouped_difference()]
    found += [_chosen(0.5), _chosen(0.8), _rate(0.6, 100, 0.1)]
    found += [_rate(value, 100, fpr) for value in (0.9, 0.99) for fpr in (0.1, 0.01)]
    return [*found, _rate(0.9, 100, 0.001), _rate(0.9, 500, 0.01)]


def _shift(auroc: float) -> float:
    """Between two normal distributions of spread 1."""
    return float(np.sqrt(2) * stats.norm.ppf(auroc))


def _labels(each: int) -> np.ndarray:
    return np.arange(2 * each) < each


def _auroc(value: float, each: int) -> Scenario:
    """Also the test of its null, with scores that tell nothing."""
    positive, shift = _labels(each), _shift(value)

    def draw(rng: np.random.Generator) -> Outcome:
        noise = rng.normal(size=2 * each)
        estimate = ranking.auroc(noise + shift * positive, positive)
        tests = {"chance": ranking.chance(noise, positive)} if value == 0.6 or each == 10 else {}
        return Outcome({"auroc": Interval.of(estimate, value)}, tests)

    return Scenario(f"AUROC {value}, {each} + {each} images", draw, _REPETITIONS)


def _rounded() -> Scenario:
    """Scores of one digit, with many ties. The truth is that of the rounded scores."""
    positive, shift = _labels(100), _shift(0.75)
    cells = np.arange(-8, 9) + 0.5
    of_negative = np.diff(stats.norm.cdf(cells))
    of_positive = np.diff(stats.norm.cdf(cells - shift))
    truth = float((of_positive * (np.cumsum(of_negative) - of_negative / 2)).sum())

    def draw(rng: np.random.Generator) -> Outcome:
        noise = rng.normal(size=200)
        estimate = ranking.auroc(np.round(noise + shift * positive), positive)
        return Outcome({"auroc": Interval.of(estimate, truth)}, {"chance": ranking.chance(np.round(noise), positive)})

    return Scenario("AUROC 0.75, 100 + 100 images, scores rounded to spreads", draw, _REPETITIONS)


def _groups(value: float) -> Scenario:
    """100 indices at 4 λ. Whether an image is positive, and its score, are alike within an index."""
    shift, indices = _shift(value), np.repeat(np.arange(100), 4)

    def draw(rng: np.random.Generator) -> Outcome:
        copied = rng.random(100) < 0.4
        positive = np.where(rng.random(400) < 0.8, copied[indices], rng.random(400) < 0.4)
        noise = np.sqrt(0.5) * (rng.normal(size=100)[indices] + rng.normal(size=400))
        estimate = ranking.auroc(noise + shift * positive, positive, indices)
        return Outcome({"auroc, grouped": Interval.of(estimate, value)})

    return Scenario(f"AUROC {value}, 100 indices at 4 λ", draw, _REPETITIONS)


def _difference(value: float, other: float, each: int) -> Scenario:
    """Two scores of the same images, correlated by one half."""
    positive = _labels(each)

    def draw(rng: np.random.Generator) -> Outcome:
        common, *own = np.sqrt(0.5) * rng.normal(size=(3, 2 * each))
        first, second = (
            common + noise + _shift(one) * positive for noise, one in zip(own, (value, other), strict=True)
        )
        found = ranking.auroc_difference(first, second, positive)
        tests = {"auroc_difference": found.p} if value == other else {}
        return Outcome({"auroc_difference": Interval.of(found.estimate, value - other)}, tests)

    return Scenario(f"AUROC {value} against {other}, {each} + {each} images", draw, _REPETITIONS)


def _grouped_difference() -> Scenario:
    shift, indices = _shift(0.75), np.repeat(np.arange(100), 4)

    def draw(rng: np.random.Generator) -> Outcome:
        positive = (rng.random(100) < 0.4)[indices]
        first, second = (
            np.sqrt(0.5) * (rng.normal(size=100)[indices] + rng.normal(size=400)) + shift * positive for _ in range(2)
        )
        found = ranking.auroc_difference(first, second, positive, indices)
        return Outcome(
            {"auroc_difference, grouped": Interval.of(found.estimate, 0.0)}, {"auroc_difference, grouped": found.p}
        )

    return Scenario("AUROC 0.75 against 0.75, 100 indices at 4 λ", draw, _REPETITIONS)


def _rate(value: float, each: int, fpr: float) -> Scenario:
    """Two truths: the mean TPR of audits of this size, and the TPR at this FPR of endlessly many images.

    The threshold is a score of a negative, which a share of all negatives exceeds that is beta-distributed.
    """
    positive, shift = _labels(each), _shift(value)

    def roc(rate: np.ndarray | float) -> np.ndarray:
        return stats.norm.sf(stats.norm.isf(rate) - shift)

    allowed = int(each * fpr + 1e-9)
    rates = stats.beta.ppf((np.arange(20_000) + 0.5) / 20_000, allowed + 1, each - allowed)
    expected, limit = float(roc(rates).mean()), float(roc(fpr))

    def draw(rng: np.random.Generator) -> Outcome:
        estimate, _ = ranking.tpr_at_fpr(rng.normal(size=2 * each) + shift * positive, positive, fpr)
        return Outcome(
            {
                "tpr_at_fpr, audits of this size": Interval.of(estimate, expected),
                "tpr_at_fpr, endlessly many images": Interval.of(estimate, limit),
            }
        )

    return Scenario(f"TPR at {fpr:.1%} FPR, AUROC {value}, {each} + {each} images", draw, _SLOW)


def _chosen(value: float) -> Scenario:
    """The best of five choices by even images, measured by odd ones; the choices are equally good."""

    def draw(rng: np.random.Generator) -> Outcome:
        positive, indices = rng.random(400) < 0.5, np.arange(400)
        choices = {str(i): rng.normal(size=400) + _shift(value) * positive for i in range(5)}
        found: dict = detectors.compare({"probe": choices}, positive, indices, ())
        row = found["rows"][0]
        return Outcome(
            {"detectors.compare": Interval.of(row["auroc"], value)},
            {"detectors.compare": row["p"]} if value == 0.5 else {},
        )

    return Scenario(f"AUROC {value}, 400 images, the best of 5 choices", draw, _REPETITIONS)
