"""Scenarios: differences between paired samples, and ratios at equal numbers of images and at equal compute."""

import functools
from collections.abc import Sequence

import numpy as np

from docs.evidence.cells import Interval, Outcome, Scenario
from docs.evidence.winners import BAND, alike, distinct_share, drawn, nearest, probabilities
from side_jax.evidence.against_random import compare_at_equal_compute, compare_with_random
from side_jax.evidence.intervals import share_difference, unique_difference
from side_jax.evidence.ratios import equal_counts_p, ratio_with_interval, shared_hits, shared_photos

HALF = 240  # odd-numbered images of 480
_MORE = 3  # Random images for the operations of one guided image
_REPETITIONS = 2_000
_SLOW = 1_000  # with 1,999 swappings in each
SHARES = (0.005, 0.05, 0.2)


def scenarios() -> list[Scenario]:
    """All of this module."""
    found = [_gain(share, share, "hubs", 1) for share in SHARES]
    found += [_gain(share, share, "hubs", 5) for share in SHARES]
    found += [_gain(0.05, 0.05, "10 hubs and a tail", 1), _gain(0.01, 0.01, "hubs", 5, kept=0.0)]
    found += [_gain(0.05, 0.01, "hubs", 1), _gain(0.2, 0.05, "320 equal photos", 5)]
    found += [_ratio(profile, share, 1, 0.5) for profile in ("hubs", "320 equal photos") for share in SHARES]
    found += [_ratio("hubs", 0.02, 4, 0.5), _ratio("10 hubs and a tail", 0.05, 1, 0.5)]
    found += [_equal_compute(profile, share) for profile in ("hubs", "320 equal photos") for share in SHARES]
    return [*found, _chosen_scale(0.05), _chosen_scale(0.005), _chosen_at_equal_compute()]


def _gain(share: float, share_before: float, profile: str, scales: int, kept: float = 0.5) -> Scenario:
    """A share `kept` of each row is as in the baseline, or as at the first λ where these differ."""
    before = probabilities(profile, share_before)
    equal = share == share_before
    p = before if equal else probabilities(profile, share)
    truth = distinct_share(p, HALF) - distinct_share(before, HALF)

    def draw(rng: np.random.Generator) -> Outcome:
        base = drawn(rng, before, HALF)
        first = alike(rng, base, p, kept) if equal else drawn(rng, p, HALF)
        others = [alike(rng, base if equal else first, p, kept) for _ in range(scales - 1)]
        winners = np.stack([first, *others])
        unique, hits = unique_difference(winners, base), share_difference(winners >= 0, base >= 0)
        tests = {"unique_difference": unique.p, "share_difference": hits.p}
        return Outcome(
            {
                "unique_difference": Interval.of(unique.estimate, truth),
                "share_difference": Interval.of(hits.estimate, share - share_before),
            },
            tests if equal else {},
        )

    setting = f"{share:.1%} against {share_before:.1%} of {HALF} images, {scales} λ, {profile}, {kept:.0%} alike"
    return Scenario(setting, draw, _SLOW if scales == 1 else _SLOW // 2)


def _ratios(winners: np.ndarray, base: np.ndarray, hits_ratio: float, photos_ratio: float) -> Outcome:
    hits, photos = shared_hits(winners >= 0, base >= 0), shared_photos(winners, base)
    tests = {"equal_counts_p, hits": equal_counts_p(hits)} if hits_ratio == 1 else {}
    tests |= {"equal_counts_p, photos": equal_counts_p(photos)} if photos_ratio == 1 else {}
    return Outcome(
        {
            "ratio_with_interval, hits": Interval.of(ratio_with_interval(hits), hits_ratio),
            "ratio_with_interval, photos": Interval.of(ratio_with_interval(photos), photos_ratio),
        },
        tests,
    )


def _ratio(profile: str, share: float, times: float, kept: float) -> Scenario:
    """At equal numbers of images."""
    before, p = probabilities(profile, share), probabilities(profile, times * share)
    photos = distinct_share(p, HALF) / distinct_share(before, HALF)

    def draw(rng: np.random.Generator) -> Outcome:
        base = drawn(rng, before, HALF)
        winners = alike(rng, base, p, kept) if times == 1 else drawn(rng, p, HALF)
        return _ratios(winners, base, times, photos)

    return Scenario(f"{times} × {share:.1%} of {HALF} images, {profile}, ratio", draw, _REPETITIONS)


def _equal_compute(profile: str, share: float) -> Scenario:
    """Fewer guided images than Random images. Equally many hits are expected, and nearly equally many photos."""
    before, p = probabilities(profile, share / _MORE), probabilities(profile, share)
    photos = HALF * distinct_share(p, HALF) / (_MORE * HALF * distinct_share(before, _MORE * HALF))

    def draw(rng: np.random.Generator) -> Outcome:
        return _ratios(drawn(rng, p, HALF), drawn(rng, before, _MORE * HALF), 1.0, photos)

    return Scenario(f"{share:.1%} of {HALF} images against {_MORE * HALF}, {profile}", draw, _REPETITIONS)


@functools.cache
def _scales(share: float, more: int = 1) -> tuple[np.ndarray, list[np.ndarray]]:
    """Of Random and of three λ, the last two of which are better by a half and by twice."""
    return probabilities("hubs", share / more), [probabilities("hubs", share * times) for times in (1.0, 1.5, 2.0)]


def _chosen_scale(share: float) -> Scenario:
    """The best λ by even images, measured by odd ones: first where none is better, then where two are."""
    before, better = _scales(share)

    def compared(rng: np.random.Generator, scales: Sequence[np.ndarray]) -> tuple[dict, dict]:
        base = drawn(rng, before, 2 * HALF)
        guided = {float(i + 1): nearest(drawn(rng, p, 2 * HALF)) for i, p in enumerate(scales)}
        found: dict = compare_with_random(guided, nearest(base), BAND)
        return found["ams"], found["ums"]

    def draw(rng: np.random.Generator) -> Outcome:
        ams, ums = compared(rng, [before] * 3)
        tests = {"compare_with_random, AMS": ams["p"], "compare_with_random, UMS": ums["p"]}
        ams, ums = compared(rng, better)
        by_hits, by_photos = better[int(ams["scale"]) - 1], better[int(ums["scale"]) - 1]
        photos, photos_before = distinct_share(by_photos, HALF), distinct_share(before, HALF)
        found = {
            "compare_with_random, AMS": Interval.of(ams["difference"], by_hits.sum() - share),
            "compare_with_random, AMS ratio": Interval.of(ams["ratio"], by_hits.sum() / share),
            "compare_with_random, UMS": Interval.of(ums["difference"], photos - photos_before),
            "compare_with_random, UMS ratio": Interval.of(ums["ratio"], photos / photos_before),
        }
        return Outcome(found, tests)

    return Scenario(f"{share:.1%} of {2 * HALF} images, the best of 3 λ chosen", draw, _SLOW // 2)


def _chosen_at_equal_compute() -> Scenario:
    """Three λ, none better than Random at equal compute."""
    share = 0.05
    before, (p, *_) = _scales(share, _MORE)

    def draw(rng: np.random.Generator) -> Outcome:
        random = nearest(drawn(rng, before, 2 * _MORE * HALF))
        guided = {float(i + 1): nearest(drawn(rng, p, 2 * HALF)) for i in range(3)}
        found: dict = compare_at_equal_compute(guided, random, BAND)
        ratio = Interval.of(found["hits"]["ratio"], 1.0)
        return Outcome(
            {"compare_at_equal_compute, hits": ratio}, {"compare_at_equal_compute, hits": found["hits"]["p"]}
        )

    setting = f"{share:.1%} of {2 * HALF} images against {2 * _MORE * HALF}, the best of 3 λ chosen"
    return Scenario(setting, draw, _REPETITIONS)
