"""How many training images a sweep will have found: Appendix B of seed 002, and from counts alone.

With p_j known, the expectations are exact. Without, the counts of one sweep say how many a smaller would have found
(rarefaction, exact), and up to twice as many images how many a larger will (Good and Toulmin 1956).
"""

import numpy as np
from jaxtyping import Float
from scipy import special, stats

from side_jax.evidence.intervals import LEVEL, Estimate, Finds


def expected_mem(p: Float[np.ndarray, " m"], num_images: int) -> float:
    """E[N_mem] = N_G Σ_j p_j, Eq. (52): finds, repeated ones counted.

    Args:
      p: probability that one generated image finds training image j, [M].
      num_images: N_G.

    Raises:
      ValueError: if a p_j is no probability, or N_G < 0.
    """
    _check(p, num_images)
    return float(num_images * p.sum())


def expected_umem(p: Float[np.ndarray, " m"], num_images: int) -> float:
    """E[N_umem] = Σ_j 1 − (1 − p_j)^{N_G}, Eq. (56): distinct training images found. Exact for tiny p_j too.

    Args:
      p: as for `expected_mem`.
      num_images: N_G.

    Raises:
      ValueError: if a p_j is no probability, or N_G < 0.
    """
    _check(p, num_images)
    if num_images == 0:
        return 0.0
    with np.errstate(divide="ignore"):  # log 0 = −∞ for p_j = 1
        return float(-np.expm1(num_images * np.log1p(-p.astype(np.float64))).sum())


def rarefied(found: Finds, num_images: int) -> float:
    """Distinct training images that `num_images` of the sweep's images find, on average over all choices of them.

    Σ_j 1 − C(N − c_j, n) / C(N, n), where c_j of the N images find j. Unbiased for E[N_umem] at n.

    Args:
      found: what N images found.
      num_images: n, from 0 to N.

    Raises:
      ValueError: for n outside of that.
    """
    total = found.num_images
    if not 0 <= num_images <= total:
        raise ValueError(f"num_images must be between 0 and {total}, the images there are, got {num_images}")
    times = found.times()
    none = stats.hypergeom.pmf(0, total, times[times > 0], num_images)
    return float((1 - none).sum())


def extrapolated(found: Finds, num_images: int) -> Estimate:
    """Distinct training images that `num_images` images will have found, those of the sweep included.

    Good and Toulmin: with φ_k training images found k times, t N more images find U = Σ_k (−1)^{k+1} t^k φ_k others. Up
    to t = 1 the series needs no smoothing. The 95 % interval is for the number that does come: of Poisson counts, the
    difference from it has variance Σ_k t^{2k} E φ_k + E U.

    Args:
      found: what N images found.
      num_images: from N to 2 N.

    Raises:
      ValueError: for a number outside of that: beyond, the counts say nothing without a model.
    """
    total, seen = found.num_images, found.distinct()
    if not total <= num_images <= 2 * total:
        raise ValueError(f"num_images must be between {total} and {2 * total}, twice the sweep, got {num_images}")
    phi = np.bincount(found.times())[1:].astype(np.float64)
    powers = (num_images / total - 1) ** np.arange(1, len(phi) + 1)
    more = float((phi * powers)[::2].sum() - (phi * powers)[1::2].sum())
    spread = float(special.ndtri(0.5 + LEVEL / 2) * np.sqrt((phi * powers**2).sum() + max(0.0, more)))
    return Estimate(seen + max(0.0, more), seen + max(0.0, more - spread), seen + max(0.0, more + spread))


def _check(p: np.ndarray, num_images: int) -> None:
    bad = ~((p >= 0) & (p <= 1))
    if bad.any():
        j = int(bad.argmax())
        raise ValueError(f"p[{j}] must be a probability, got {p[j]}")
    if num_images < 0:
        raise ValueError(f"num_images must be 0 or more, got {num_images}")
