"""A scenario is a way to draw data whose truth is known; a cell is one interval or one p in one scenario.

scenario: rng ─► Outcome: intervals with their truths, p values under a true null
measured: many outcomes ─► rows: coverage of each interval, distribution of each p
"""

import dataclasses
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from side_jax.evidence.intervals import share_of

SEED = 14  # fixed before the first run


class Interval(NamedTuple):
    """An interval and the truth that it should hold."""

    low: float
    high: float
    truth: float

    @classmethod
    def of(cls, estimate: Any, truth: float) -> "Interval":
        """From an `Estimate`, a `Ratio` or its dict; an end that is None is unbounded."""
        ends = estimate if isinstance(estimate, dict) else estimate._asdict()
        return cls(ends["low"], np.inf if ends["high"] is None else ends["high"], truth)


class Outcome(NamedTuple):
    """What one simulated audit gives.

    Attributes:
      intervals: function -> interval.
      p: function -> p of a null that is true.
    """

    intervals: Mapping[str, Interval]
    p: Mapping[str, float] = {}


@dataclasses.dataclass(frozen=True)
class Scenario:
    """A way to draw data whose truth is known.

    Attributes:
      setting: sizes and truth in words.
      draw: makes one outcome.
      repetitions: number of outcomes.
    """

    setting: str
    draw: Callable[[np.random.Generator], Outcome]
    repetitions: int

    def outcomes(self, repetitions: int | None = None) -> list[Outcome]:
        """Always the same ones, whatever else is simulated."""
        rng = np.random.default_rng((SEED, zlib.crc32(self.setting.encode())))
        return [self.draw(rng) for _ in range(repetitions or self.repetitions)]


def measured(scenario: Scenario, repetitions: int | None = None) -> dict[str, list[dict[str, Any]]]:
    """The rows of one scenario, "intervals" and "tests"."""
    intervals: dict[str, list[Interval]] = {}
    tests: dict[str, list[float]] = {}
    for outcome in scenario.outcomes(repetitions):  # some outcomes have no interval of some name
        for name, interval in outcome.intervals.items():
            intervals.setdefault(name, []).append(interval)
        for name, p in outcome.p.items():
            tests.setdefault(name, []).append(p)
    return {
        "intervals": [coverage(name, scenario, found) for name, found in intervals.items()],
        "tests": [calibration(name, scenario, np.array(found)) for name, found in tests.items()],
    }


def coverage(name: str, scenario: Scenario, intervals: list[Interval]) -> dict[str, Any]:
    """The share of intervals that hold the truth, with its own 95 % interval."""
    low, high, truth = np.array(intervals, np.float64).T
    slack = 1e-9  # of rounding, at ends that are truths
    below, above = int((truth < low - slack).sum()), int((truth > high + slack).sum())
    share = share_of(len(intervals) - below - above, len(intervals))
    row = {"name": name, "setting": scenario.setting, "repetitions": len(intervals), "truth": float(truth.mean())}
    row |= {"coverage": share.value, "low": share.low, "high": share.high}
    return row | {"truth_below": below / len(intervals), "truth_above": above / len(intervals)}


def calibration(name: str, scenario: Scenario, p: np.ndarray) -> dict[str, Any]:
    """Whether p is uniform, and whether it is valid: P(p ≤ x) ≤ x at every x.

    "uniform" is the two-sided Kolmogorov-Smirnov p, "valid" that of the one-sided test, whose alternative is that some
    level is exceeded. A discrete test cannot be uniform and is judged by the latter.
    """
    uniform = float(stats.kstest(p, "uniform").pvalue)
    valid = float(stats.kstest(p, "uniform", alternative="greater").pvalue)
    row = {"name": name, "setting": scenario.setting, "repetitions": len(p), "uniform": uniform, "valid": valid}
    for level, key in ((0.05, "at_05"), (0.01, "at_01")):
        count = int((p <= level + 1e-12).sum())
        chance = float(stats.binom.sf(count - 1, len(p), level))  # of at least so many, if the test is valid
        row[key] = share_of(count, len(p))._asdict() | {"chance": chance}
    return row
