"""How far eigenvectors of a sample covariance are from those of the population: the spiked covariance model.

n samples of N(0, noise I + spike u uᵀ) in p dimensions; γ = p/n, ℓ = spike/noise. Below ℓ = √γ the first eigenvector of
the sample tells nothing about u. Sources: Baik, Ben Arous and Péché 2005; Paul 2007; Nadler 2008; arXiv 2410.14730.
"""

import math

import numpy as np
import scipy.sparse.linalg
from jaxtyping import Float


def cosine_squared(gamma: float, spike: float) -> float:
    """cos² between the first sample and population eigenvectors as p, n → ∞: (1 − γ/ℓ²)/(1 + γ/ℓ); 0 if ℓ ≤ √γ.

    Args:
      gamma: γ = p/n, above 0.
      spike: ℓ, over unit noise, above 0.
    """
    _check_positive(gamma=gamma, spike=spike)
    return max(0.0, (1 - gamma / spike**2) / (1 + gamma / spike)) if spike > math.sqrt(gamma) else 0.0


def simulate(p: int, n: int, spike: float, repeats: int, seed: int) -> Float[np.ndarray, " R"]:
    """cos² between the first eigenvector of n samples of N(0, I + ℓ u uᵀ) and u, drawn `repeats` times: float64 [R].

    Raises:
      ValueError: if p or n is below 2, `repeats` below 1, or ℓ not above 0.
    """
    if p < 2 or n < 2 or repeats < 1:
        raise ValueError(f"needs p and n of 2 or more and a repeat, got p={p}, n={n}, repeats={repeats}")
    _check_positive(spike=spike)
    rng = np.random.default_rng(seed)
    cos2 = []
    for _ in range(repeats):
        x = rng.standard_normal((n, p))
        x[:, 0] *= math.sqrt(1 + spike)  # u is the first axis: the noise is the same in every direction
        cos2.append(_first_eigenvector(x)[0] ** 2)
    return np.array(cos2)


def estimated_directions(
    p: int, n: int, spike: float, sigmas: Float[np.ndarray, " T"], fresh_noise: bool, seed: int
) -> Float[np.ndarray, "T p"]:
    """First eigenvectors of the covariance of noisy samples at several noise levels, from one set of clean samples.

    A denoiser that is estimated from its training pairs at level σ sees x₀ + σ z. Each level alone is a spiked model
    with ℓ = spike/σ². How far the levels agree depends on z.

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
        direction = _first_eigenvector(x)
        directions.append(direction if direction[0] >= 0 else -direction)
        if fresh_noise:
            noise = rng.standard_normal((n, p))
    return np.stack(directions)


def _first_eigenvector(x: np.ndarray) -> np.ndarray:
    """The first eigenvector of xᵀx / n by Lanczos iteration, of norm 1: [p]."""
    return scipy.sparse.linalg.svds(x, k=1, v0=np.ones(min(x.shape)))[2][0]


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be above 0, got {value}")
