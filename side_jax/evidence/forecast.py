"""The expected number of distinct photos that a sweep matches: Appendix B of seed 002, and from counts alone.

If the probabilities p_j are known, the expectation is exact. Otherwise the counts of one sweep give the number for a
smaller sweep (rarefaction, exact), and for one of up to twice as many images (Good and Toulmin 1956).
"""

import numpy as np
from jaxtyping import Float
from scipy import special, stats

from side_jax.evidence.intervals import LEVEL, Estimate, Finds


def expected_umem(p: Float[np.ndarray, " m"], num_images: int) -> float:
    """E[N_umem] = Σ_j 1 − (1 − p_j)^{N_G}, Eq. (56): distinct photos with a match. Exact for tiny p_j too.

    Args:
      p: probability that one generated image matches training photo j, [M].
      num_images: N_G.

    Raises:
      ValueError: if a p_j is not a probability, or N_G < 0.
    """
    bad = ~((p >= 0) & (p <= 1))
    if bad.any():
        j = int(bad.argmax())
        raise ValueError(f"p[{j}] must be a probability, got {p[j]}")
    if num_images < 0:
        raise ValueError(f"num_images must be 0 or more, got {num_images}")
    if num_images == 0:
        return 0.0
    with np.errstate(divide="ignore"):  # log 0 = −∞ for p_j = 1
        return float(-np.expm1(num_images * np.log1p(-p.astype(np.float64))).sum())


def rarefied(finds: Finds, num_images: int) -> float:
    """Distinct photos that `num_images` of the sweep's images match, on average over all choices of the images.

    Σ_j 1 − C(N − c_j, n) / C(N, n), where c_j of the N images match photo j. Unbiased for E[N_umem] at n.

    Args:
      finds: the matches of N images.
      num_images: n, from 0 to N.

    Raises:
      ValueError: for another n.
    """
    total = finds.num_images
    if not 0 <= num_images <= total:
        raise ValueError(f"num_images must be between 0 and {total}, the images there are, got {num_images}")
    times = finds.times()
    none = stats.hypergeom.pmf(0, total, times[times > 0], num_images)
    return float((1 - none).sum())


def extrapolated(finds: Finds, num_images: int) -> Estimate:
    """Distinct photos that `num_images` images will match, those of the sweep included.

    Good and Toulmin: if φ_k photos are matched k times, t N more images match U = Σ_k (−1)^{k+1} t^k φ_k others. Up to
    t = 1 the series needs no smoothing. The 95 % interval is a prediction interval: for Poisson counts, the prediction
    error has variance Σ_k t^{2k} E φ_k + E U.

    Args:
      finds: the matches of N images.
      num_images: from N to 2 N.

    Raises:
      ValueError: for another number: above 2 N a forecast needs a model.
    """
    total, seen = finds.num_images, finds.distinct()
    if not total <= num_images <= 2 * total:
        raise ValueError(f"num_images must be between {total} and {2 * total}, twice the sweep, got {num_images}")
    phi = np.bincount(finds.times())[1:].astype(np.float64)
    powers = (num_images / total - 1) ** np.arange(1, len(phi) + 1)
    more = float((phi * powers)[::2].sum() - (phi * powers)[1::2].sum())
    spread = float(special.ndtri(0.5 + LEVEL / 2) * np.sqrt((phi * powers**2).sum() + max(0.0, more)))
    return Estimate(seen + max(0.0, more), seen + max(0.0, more - spread), seen + max(0.0, more + spread))
