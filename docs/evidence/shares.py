"""Scenarios: shares of one sample, means, and forecasts."""

import numpy as np

from docs.evidence.cells import Interval, Outcome, Scenario
from docs.evidence.winners import PROFILES, alike, distinct_share, drawn, probabilities
from side_jax.evidence import intervals
from side_jax.evidence.bands import measured_bands
from side_jax.evidence.forecast import extrapolated
from side_jax.evidence.intervals import Finds
from side_jax.evidence.recipes import OWN, compare_recipes

SHARES = (0.005, 0.05, 0.2)
SIZE = 480
_REPETITIONS = 2_000
_SCALES = 5


def scenarios() -> list[Scenario]:
    """All of this module."""
    found = [_share(share) for share in SHARES]
    found += [_unique(profile, share) for profile in PROFILES for share in SHARES]
    found += [_sweep(share, kept) for share in SHARES for kept in (0.0, 0.8)]
    found += [_groups(share) for share in SHARES]
    found += [_mean(size) for size in (16, 64)]
    found += [_bands(size) for size in (100, 1_000)]
    found += [_forecast(profile, share) for profile in ("320 equal photos", "hubs") for share in SHARES]
    return [*found, _recipes()]


def _share(share: float) -> Scenario:
    def draw(rng: np.random.Generator) -> Outcome:
        return Outcome({"proportion": Interval.of(intervals.proportion(rng.random(SIZE) < share), share)})

    return Scenario(f"{share:.1%} of {SIZE} images", draw, _REPETITIONS)


def _unique(profile: str, share: float) -> Scenario:
    p = probabilities(profile, share)
    truth = distinct_share(p, SIZE)

    def draw(rng: np.random.Generator) -> Outcome:
        return Outcome({"unique_share": Interval.of(intervals.unique_share(Finds.of(drawn(rng, p, SIZE))), truth)})

    return Scenario(f"{share:.1%} of {SIZE} images, {profile}", draw, _REPETITIONS)


def _groups(share: float) -> Scenario:
    """UMS_all: a hit matches eight photos at once, as photos of one person do."""
    p = probabilities("hubs", share)
    truth = 8 * distinct_share(p, SIZE)

    def draw(rng: np.random.Generator) -> Outcome:
        one = Finds.of(drawn(rng, p, SIZE))
        all_photos = (8 * one.photos[:, None] + np.arange(8)).ravel()
        found = Finds(np.repeat(one.images, 8), all_photos, SIZE)
        return Outcome({"unique_share": Interval.of(intervals.unique_share(found), truth)})

    return Scenario(f"UMS_all: {share:.1%} of {SIZE} images, hubs of 8 photos each", draw, _REPETITIONS)


def _sweep(share: float, kept: float) -> Scenario:
    p = probabilities("hubs", share)
    truth = distinct_share(p, SIZE)

    def draw(rng: np.random.Generator) -> Outcome:
        base = drawn(rng, p, SIZE)
        rows = np.stack([base, *(alike(rng, base, p, kept) for _ in range(_SCALES - 1))])
        unique = intervals.mean_unique_share([Finds.of(row) for row in rows])
        return Outcome(
            {
                "mean_share": Interval.of(intervals.mean_share(rows >= 0), share),
                "mean_unique_share": Interval.of(unique, truth),
            }
        )

    setting = f"{share:.1%} of {SIZE} images at {_SCALES} λ, hubs, {kept:.0%} as at the first λ"
    return Scenario(setting, draw, _REPETITIONS)


def _mean(size: int) -> Scenario:
    """Losses per photo are skewed; differences of them less so."""

    def draw(rng: np.random.Generator) -> Outcome:
        losses = np.exp(0.5 * rng.normal(size=size))
        return Outcome({"mean": Interval.of(intervals.mean(losses), float(np.exp(0.125)))})

    return Scenario(f"{size} log-normal losses of spread 0.5", draw, _REPETITIONS)


def _bands(size: int) -> Scenario:
    """The rate at a limit that the same photos set. Scores are uniform, so the rate is one less the limit."""

    def draw(rng: np.random.Generator) -> Outcome:
        found = measured_bands(rng.random(size))
        return Outcome(
            {
                f"measured_bands, {name}": Interval.of(found.rates[name], 1 - low)
                for name, low, _ in found.bands
                if name in ("low", "mid")
            }
        )

    return Scenario(f"{size} held-out photos", draw, _REPETITIONS)


def _forecast(profile: str, share: float) -> Scenario:
    """Twice the sweep; the truth is the number that the second half really brings."""
    p = probabilities(profile, share)

    def draw(rng: np.random.Generator) -> Outcome:
        winners = drawn(rng, p, 2 * SIZE)
        actual = Finds.of(winners).distinct()
        return Outcome({"extrapolated": Interval.of(extrapolated(Finds.of(winners[:SIZE]), 2 * SIZE), actual)})

    return Scenario(f"{share:.1%} of {SIZE} images, {profile}, to {2 * SIZE}", draw, _REPETITIONS)


def _recipes() -> Scenario:
    """Four recipes of the same pixels but for noise: "p" is 0 where one is recommended."""

    def draw(rng: np.random.Generator) -> Outcome:
        own = 0.5 * np.exp(0.3 * rng.normal(size=64))
        losses = {OWN: own} | {name: own + 0.01 * rng.normal(size=64) for name in ("a", "b", "c")}
        rows = {row["recipe"]: row for row in compare_recipes(losses, dict.fromkeys(losses, 64))["recipes"]}
        return Outcome({"compare_recipes, difference": Interval.of(rows["a"]["difference"], 0.0)})

    return Scenario("64 photos, 3 other recipes, no difference", draw, _REPETITIONS)
