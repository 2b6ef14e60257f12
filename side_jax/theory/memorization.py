"""Point-wise memorization of seed 002: M(D; θ) of Eq. (1) for Gaussian latents, and what labels do to it, Eq. (6).

A smaller M is more memorization. Everything is float64 on the host: at ε = 1e-6 the terms are of size 1e6.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Gaussian(NamedTuple):
    """p_θ(z) = N(μ, Σ).

    Attributes:
      mean: μ, [d].
      cov: Σ, [d, d], positive definite.
    """

    mean: np.ndarray
    cov: np.ndarray


def fit_gaussian(features: Float[np.ndarray, "n d"], shrinkage: float = 0.0, name: str = "all images") -> Gaussian:
    """Mean and unbiased covariance of features [N, d].

    Args:
      features: z, one row an image.
      shrinkage: share s of the covariance (1 − s) Σ + s (Tr Σ / d) I that is spherical; the trace stays.
      name: of the set, for errors.

    Raises:
      ValueError: if there is one image only, shrinkage is not in [0, 1], or the covariance is singular.
    """
    count, d = features.shape
    if count < 2:
        raise ValueError(f"{name}: a covariance needs 2 images or more, got {count}")
    if not 0 <= shrinkage <= 1:
        raise ValueError(f"shrinkage must be between 0 and 1, got {shrinkage}")
    cov = np.cov(features.astype(np.float64), rowvar=False).reshape(d, d)
    cov = (1 - shrinkage) * cov + shrinkage * np.trace(cov) / d * np.eye(d)
    rank = int(np.linalg.matrix_rank(cov, hermitian=True))
    if rank < d:
        raise ValueError(
            f"the covariance of {name} is singular: rank {rank} of {count} images in {d} dimensions; give shrinkage"
            f" above 0, or reduce the features to at most {max(rank, 1)} (principal_components)"
        )
    return Gaussian(features.mean(0, dtype=np.float64), cov)


def principal_components(features: Float[np.ndarray, "n d"], dimensions: int) -> Float[np.ndarray, "n k"]:
    """Features [N, d] on their first principal components: [N, dimensions], in order of variance.

    Raises:
      ValueError: if they have fewer than `dimensions` directions of variance.
    """
    centred = features - features.mean(0, dtype=np.float64)
    u, singular, _ = np.linalg.svd(centred, full_matrices=False)
    rank = int((singular > singular.max() * max(centred.shape) * np.finfo(np.float64).eps).sum())
    if not 1 <= dimensions <= rank:
        raise ValueError(f"dimensions must be between 1 and {rank}, the rank of the features, got {dimensions}")
    components: np.ndarray = u[:, :dimensions] * singular[:dimensions]
    return components


def kl(latent: Gaussian, z: Float[np.ndarray, "n d"], eps: float) -> Float[np.ndarray, " n"]:
    """KL(p_θ ‖ N(z_i, εI)) of each row of z [N, d], Eq. (35): [N], in nats.

    Raises:
      ValueError: if ε ≤ 0, or Σ is not positive definite.
    """
    _check_eps(eps)
    d = len(latent.mean)
    sign, log_det = np.linalg.slogdet(latent.cov)
    if sign <= 0:
        raise ValueError(f"the covariance is singular, {d} dimensions; see fit_gaussian's shrinkage")
    squares = np.square(z - latent.mean).sum(1)
    divergence: np.ndarray = 0.5 * (
        (squares + np.trace(latent.cov)) / eps - (log_det - d * np.log(eps)) - d
    )  # Eq. (35)
    return divergence


def memorization(latent: Gaussian, z: Float[np.ndarray, "n d"], eps: float) -> float:
    """M(D; θ) of Eq. (1), with q of Eq. (2) and D given by its latents z [N, d]. In nats; smaller is more memorization.

    Raises:
      ValueError: as `kl`.
    """
    return float(kl(latent, z, eps).sum())


def memorization_monte_carlo(
    latent: Gaussian, z: Float[np.ndarray, "n d"], eps: float, draws: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Eq. (1) from samples of p_θ, which all z_i share: the value and its standard error.

    Args:
      latent: p_θ.
      z: [N, d].
      eps: ε.
      draws: from p_θ, at least 2.
      seed: of the draws.

    Raises:
      ValueError: if ε ≤ 0, Σ is not positive definite, or there are fewer than 2 draws.
    """
    _check_eps(eps)
    if draws < 2:
        raise ValueError(f"draws must be at least 2, for a standard error, got {draws}")
    from scipy.stats import multivariate_normal

    d = len(latent.mean)
    samples = np.random.default_rng(seed).multivariate_normal(latent.mean, latent.cov, draws, method="cholesky")
    log_p = multivariate_normal(latent.mean, latent.cov).logpdf(samples)
    values = np.zeros(draws)
    for centre in z:
        log_q = -0.5 * (np.square(samples - centre).sum(1) / eps + d * np.log(2 * np.pi * eps))  # Eq. (2)
        values += log_p - log_q
    return float(values.mean()), float(values.std(ddof=1)) / draws**0.5


def memorization_ratio(
    conditional: Gaussian, unconditional: Gaussian, z: Float[np.ndarray, "n d"], eps: float
) -> float:
    """The ratio of Eq. (6) before its limit: M of D_{y=c} with p_θ(z | y = c), over M of the same photos with p_θ(z).

    Args:
      conditional: p_θ(z | y = c).
      unconditional: p_θ(z).
      z: latents of D_{y=c}, [N, d].
      eps: ε.

    Raises:
      ValueError: as `kl`.
    """
    return memorization(conditional, z, eps) / memorization(unconditional, z, eps)


def limit_ratio(conditional: Gaussian, unconditional: Gaussian, z: Float[np.ndarray, "n d"]) -> float:
    """The ratio of Eq. (6): Σ (‖z_i − μ_c‖² + Tr Σ_c) / Σ (‖z_i − μ‖² + Tr Σ), Eq. (50) summed. At most 1: Theorem 1.

    The log-determinants have no part in it, so singular covariances do no harm.
    """
    above, below = (np.square(z - p.mean).sum() + len(z) * np.trace(p.cov) for p in (conditional, unconditional))
    return float(above / below)


def _check_eps(eps: float) -> None:
    if not eps > 0:
        raise ValueError(f"eps must be above 0, got {eps}")
