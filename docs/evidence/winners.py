"""Simulated winners: the photo that each image matches, or −1. Photos have known probabilities."""

import numpy as np

from side_jax.evidence.scores import Nearest

BAND = ("high", 0.5, 1.0)
PROFILES = {
    "320 equal photos": np.ones(320),
    "hubs": 1 / np.arange(1, 321) ** 1.5,  # the first of 320 photos has 39 % of the hits, the first ten 77 %
    "10 equal photos": np.ones(10),
    "10 hubs and a tail": np.repeat([0.095, 0.05 / 310], [10, 310]),  # of the hits 5 % match one of 310 other photos
}


def probabilities(profile: str, share: float) -> np.ndarray:
    """Of each photo, that one image matches it; they sum to `share`."""
    weights = PROFILES[profile]
    return share * weights / weights.sum()


def drawn(rng: np.random.Generator, p: np.ndarray, size: int) -> np.ndarray:
    """The winners of independent images, int [size]."""
    photos = np.searchsorted(np.cumsum(p), rng.random(size), side="right")
    return np.where(photos < len(p), photos, -1)


def alike(rng: np.random.Generator, base: np.ndarray, p: np.ndarray, kept: float) -> np.ndarray:
    """Winners of which a share `kept` are those of `base`, as at a neighbouring λ, and the others independent."""
    return np.where(rng.random(len(base)) < kept, base, drawn(rng, p, len(base)))


def distinct_share(p: np.ndarray, size: int) -> float:
    """E[UMS] = Σ_j 1 − (1 − p_j)^N, over N."""
    return float(-np.expm1(size * np.log1p(-p)).sum() / size)


def nearest(winners: np.ndarray) -> Nearest:
    """As the match table has them."""
    return Nearest(np.where(winners >= 0, 0.9, 0.1).astype(np.float32), np.maximum(winners, 0).astype(np.int32))
