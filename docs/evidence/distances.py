"""Scenarios: KID. Images are drawn from finite populations, whose KID is then known exactly."""

import functools
from typing import NamedTuple

import numpy as np

from docs.evidence.cells import Interval, Outcome, Scenario
from side_jax.evidence.quality import kid, unit_scale
from side_jax.evidence.sanity import sanity

_POPULATION, _DIMENSIONS = 2_000, 64
_REPETITIONS = 2_000
_SLOW = 500


class World(NamedTuple):
    """Features of all photos, of all images, and of the images shifted by a little; rows [P, D]."""

    photos: np.ndarray
    images: np.ndarray
    steered: np.ndarray


@functools.cache
def world() -> World:
    """Photos are in ten clusters; images miss two of them, and the steered ones are blurred too."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(10, _DIMENSIONS))
    cluster = rng.integers(0, 10, _POPULATION)
    noise = rng.normal(size=(2, _POPULATION, _DIMENSIONS))
    photos = centres[cluster] + noise[0]
    images = centres[cluster % 8] + noise[1]
    return World(*(_unit(rows) for rows in (photos, images, images + 0.5 * rng.normal(size=images.shape) + 0.1)))


def _unit(rows: np.ndarray) -> np.ndarray:
    return unit_scale(rows / np.linalg.norm(rows, axis=1, keepdims=True))


@functools.cache
def true_kid(first: str, second: str) -> float:
    """KID of two populations, all pairs."""

    def mean(one: np.ndarray, other: np.ndarray) -> float:
        return float(((one @ other.T / _DIMENSIONS + 1) ** 3).mean())

    ours, theirs = getattr(world(), first), getattr(world(), second)
    return mean(ours, ours) + mean(theirs, theirs) - 2 * mean(ours, theirs)


def scenarios() -> list[Scenario]:
    """All of this module."""
    found = [_kid(name, *sizes) for name in ("images", "photos") for sizes in ((16, 64), (100, 100))]
    found += [_kid("images", 500, 500), _paired(100), _paired(250), _shuffled(64)]
    return [*found, *(_change(name, size) for name in ("images", "photos") for size in (16, 100)), _steered(100)]


def _some(rng: np.random.Generator, size: int) -> np.ndarray:
    return rng.integers(0, _POPULATION, size)


def _kid(name: str, size: int, others: int) -> Scenario:
    truth = true_kid(name, "photos")

    def draw(rng: np.random.Generator) -> Outcome:
        found = kid(getattr(world(), name)[_some(rng, size)], world().photos[_some(rng, others)])
        return Outcome({"kid": Interval.of(found.estimate(), truth)})

    like = "of the photos' distribution" if name == "photos" else "of another distribution"
    return Scenario(f"{size} images {like}, {others} photos", draw, _SLOW if size == 500 else _REPETITIONS)


def _paired(size: int) -> Scenario:
    """Images and the steered ones of the same noise."""
    truth = true_kid("steered", "images")

    def draw(rng: np.random.Generator) -> Outcome:
        rows = _some(rng, size)
        found = kid(world().steered[rows], world().images[rows], paired=True)
        return Outcome({"kid, paired": Interval.of(found.estimate(), truth)})

    return Scenario(f"{size} steered images and as many unsteered", draw, _REPETITIONS)


def _change(name: str, size: int) -> Scenario:
    """No difference: half of the images are the same, the others are draws from the same distribution."""
    population = getattr(world(), name)

    def draw(rng: np.random.Generator) -> Outcome:
        rows, photos = _some(rng, size), world().photos[_some(rng, 100)]
        others = np.where(rng.random(size) < 0.5, rows, _some(rng, size))
        found = kid(population[others], photos).minus(kid(population[rows], photos))
        return Outcome({"kid difference": Interval.of(found.estimate, 0.0)}, {"kid difference": found.p})

    like = "of the photos' distribution" if name == "photos" else "of another distribution"
    return Scenario(f"twice {size} images {like}, 100 photos", draw, _REPETITIONS)


def _steered(size: int) -> Scenario:
    truth = true_kid("steered", "photos") - true_kid("images", "photos")

    def draw(rng: np.random.Generator) -> Outcome:
        rows, photos = _some(rng, size), world().photos[_some(rng, 100)]
        found = kid(world().steered[rows], photos).minus(kid(world().images[rows], photos))
        return Outcome({"kid difference": Interval.of(found.estimate, truth)})

    return Scenario(f"{size} steered images and as many unsteered, 100 photos", draw, _REPETITIONS)


def _shuffled(size: int) -> Scenario:
    """The check of a target: images against a control, here the steered ones; and its loss on photos."""
    truth = true_kid("images", "photos") - true_kid("steered", "photos")

    def draw(rng: np.random.Generator) -> Outcome:
        rows, photos = _some(rng, size), world().photos[_some(rng, size)]
        losses = np.exp(0.5 * rng.normal(size=(size, 1)) + 0.2 * rng.normal(size=(size, 3))) / 10
        root = np.sqrt(_DIMENSIONS)
        facts = sanity(losses, (40.0, 40.0), world().images[rows] / root, world().steered[rows] / root, photos / root)
        return Outcome(
            {
                "sanity, loss": Interval.of(facts["loss"], float(np.exp((0.25 + 0.04) / 2)) / 10),
                "sanity, kid_difference": Interval.of(facts["kid_difference"], truth),
            }
        )

    return Scenario(f"{size} images and photos, check of a target", draw, _REPETITIONS)
