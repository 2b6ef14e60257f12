"""How far eigenvectors of a sample covariance are from those of the population: the spiked covariance model.

n samples of N(0, noise I + spike u uᵀ) in p dimensions; γ = p/n, ℓ = spike/noise. Below ℓ = √γ the first eigenvector of
the sample says nothing of u. Sources: Baik, Ben Arous and Péché 2005; Paul 2007; Nadler 2008; arXiv 2410.14730.
"""

import math
from typing import NamedTuple

import numpy as np
import scipy.sparse.linalg
from jaxtyping import Float


def cosine_squared(gamma: float, spike: float) -> float:
    """cos² of the angle of first sample and population eigenvector as p, n → ∞: (1 − γ/ℓ²)/(1 + γ/ℓ); 0 if ℓ ≤ √γ.

    Args:
      gamma: γ = p/n, above 0.
      spike: ℓ, over unit noise, above 0.
    """
    _check_positive(gamma=gamma, spike=spike)
    return max(0.0, (1 - gamma / spike**2) / (1 + gamma / spike)) if spike > math.sqrt(gamma) else 0.0


def sample_eigenvalue(gamma: float, spike: float) -> float:
    """First eigenvalue of the sample covariance over the noise's variance: (1 + ℓ)(1 + γ/ℓ), larger than the
    population's 1 + ℓ; if ℓ ≤ √γ, the edge (1 + √γ)² of the noise's own spectrum.
    """
    _check_positive(gamma=gamma, spike=spike)
    root = math.sqrt(gamma)
    return (1 + spike) * (1 + gamma / spike) if spike > root else (1 + root) ** 2


class SpikedFit(NamedTuple):
    """The first eigenpair of a sample covariance: its eigenvalue, and cos² with the population's. Each float64 [R]."""

    eigenvalue: np.ndarray
    cos2: np.ndarray


def simulate(p: int, n: int, spike: float, repeats: int, seed: int) -> SpikedFit:
    """Draws n samples of N(0, I + ℓ u uᵀ) in p dimensions, `repeats` times.

    Raises:
      ValueError: if p or n is below 2, `repeats` below 1, or ℓ not above 0.
    """
    if p < 2 or n < 2 or repeats < 1:
        raise ValueError(f"needs p and n of 2 or more and a repeat, got p={p}, n={n}, repeats={repeats}")
    _check_positive(spike=spike)
    rng = np.random.default_rng(seed)
    fits = []
    for _ in range(repeats):
        x = rng.standard_normal((n, p))
        x[:, 0] *= math.sqrt(1 + spike)  # u is the first axis: the noise looks alike from everywhere
        value, direction = _first_eigenpair(x)
        fits.append((value, direction[0] ** 2))
    return SpikedFit(*np.array(fits).T)


def estimated_directions(
    p: int, n: int, spike: float, sigmas: Float[np.ndarray, " T"], fresh_noise: bool, seed: int
) -> Float[np.ndarray, "T p"]:
    """First eigenvectors of the covariance of noisy samples at several noise levels, from one set of clean samples.

    A denoiser that is estimated from its training pairs at level σ sees x₀ + σ z. Each level alone is a spiked model
    with ℓ = spike/σ². How the levels hang together depends on z.

    Args:
      p: dimensions.
      n: clean samples N(0, spike u uᵀ), u the first axis.
      spike: their variance along u.
      sigmas: noise levels, [T].
      fresh_noise: a new z for every sample at every level. Otherwise one draw per sample, scaled to each level.
      seed: of samples and noise.

    Returns:
      Unit vectors, [T, p], signed to agree with u.

    Raises:
      ValueError: if p or n is below 2, the spike or a σ not above 0.
    """
    levels = np.asarray(sigmas, np.float64)
    if p < 2 or n < 2 or len(levels) == 0:
        raise ValueError(f"needs p and n of 2 or more and a noise level, got p={p}, n={n}, {len(levels)} levels")
    _check_positive(spike=spike, sigma=float(levels.min()))
    rng = np.random.default_rng(seed)
    clean = math.sqrt(spike) * rng.standard_normal(n)
    noise = rng.standard_normal((n, p))
    directions = []
    for sigma in levels:
        x = sigma * noise
        x[:, 0] += clean
        _, direction = _first_eigenpair(x)
        directions.append(direction if direction[0] >= 0 else -direction)
        if fresh_noise:
            noise = rng.standard_normal((n, p))
    return np.stack(directions)


def _first_eigenpair(x: np.ndarray) -> tuple[float, np.ndarray]:
    """Of xᵀx / n, by Lanczos iteration: the eigenvalue and the unit vector [p]."""
    _, singular, rows = scipy.sparse.linalg.svds(x, k=1, v0=np.ones(min(x.shape)))
    return float(singular[0] ** 2 / len(x)), rows[0]


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be above 0, got {value}")
