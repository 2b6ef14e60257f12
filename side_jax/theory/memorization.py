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


def fit_gaussian(features: Float[np.ndarray, "n d"], name: str = "all images") -> Gaussian:
    """Mean and unbiased covariance of features [N, d], one row per image.

    Raises:
      ValueError: if there is one image only, or the covariance is singular; the message calls the images by `name`.
    """
    count, d = features.shape
    if count < 2:
        raise ValueError(f"{name}: a covariance needs 2 images or more, got {count}")
    cov = np.cov(features.astype(np.float64), rowvar=False).reshape(d, d)
    rank = int(np.linalg.matrix_rank(cov, hermitian=True))
    if rank < d:
        raise ValueError(
            f"the covariance of {name} is singular: rank {rank} of {count} images in {d} dimensions; reduce the"
            f" features to at most {max(rank, 1)} dimensions (principal_components)"
        )
    return Gaussian(features.mean(0, dtype=np.float64), cov)


def principal_components(features: Float[np.ndarray, "n d"], dimensions: int) -> Float[np.ndarray, "n k"]:
    """Features [N, d] projected onto their first principal components: [N, dimensions], largest variance first.

    Raises:
      ValueError: if the features vary in fewer than `dimensions` directions.
    """
    centred = features - features.mean(0, dtype=np.float64)
    u, singular, _ = np.linalg.svd(centred, full_matrices=False)
    rank = int((singular > singular.max() * max(centred.shape) * np.finfo(np.float64).eps).sum())
    if not 1 <= dimensions <= rank:
        raise ValueError(f"dimensions must be between 1 and {rank}, the rank of the features, got {dimensions}")
    return u[:, :dimensions] * singular[:dimensions]


def kl(latent: Gaussian, z: Float[np.ndarray, "n d"], eps: float) -> Float[np.ndarray, " n"]:
    """KL(p_θ ‖ N(z_i, εI)) of each row of z [N, d], Eq. (35): [N], in nats.

    Raises:
      ValueError: if ε ≤ 0, or Σ is not positive definite.
    """
    if not eps > 0:
        raise ValueError(f"eps must be above 0, got {eps}")
    d = len(latent.mean)
    sign, log_det = np.linalg.slogdet(latent.cov)
    if sign <= 0:
        raise ValueError(f"the covariance is singular, {d} dimensions; reduce the latents (principal_components)")
    squares = np.square(z - latent.mean).sum(1)
    return 0.5 * ((squares + np.trace(latent.cov)) / eps - (log_det - d * np.log(eps)) - d)  # Eq. (35)


def memorization(latent: Gaussian, z: Float[np.ndarray, "n d"], eps: float) -> float:
    """M(D; θ) of Eq. (1), with q of Eq. (2) and D given by its latents z [N, d]. In nats; smaller is more memorization.

    Raises:
      ValueError: as `kl`.
    """
    return float(kl(latent, z, eps).sum())


def memorization_ratio(
    conditional: Gaussian, unconditional: Gaussian, z: Float[np.ndarray, "n d"], eps: float
) -> float:
    """The ratio of Eq. (6) at a finite ε: M of D_{y=c} with p_θ(z | y = c), over M of the same photos with p_θ(z).

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

    The limit has no log-determinants, so the covariances may be singular.
    """
    above, below = (np.square(z - p.mean).sum() + len(z) * np.trace(p.cov) for p in (conditional, unconditional))
    return float(above / below)
