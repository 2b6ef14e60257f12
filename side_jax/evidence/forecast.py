"""The expected number of distinct photos that a sweep matches: Appendix B of seed 002, and from counts alone.

If the probabilities p_j are known, the expectation is exact. Otherwise the counts of one sweep give the number for a
smaller sweep (rarefaction, exact), and for one of up to twice as many images (Good and Toulmin 1956). Beyond that a
forecast needs smoothing, which is biased (Orlitsky, Suresh and Wu 2016), or a model (`forecast_model`).
"""

import numpy as np
from jaxtyping import Float
from scipy import stats

from side_jax.evidence.intervals import Estimate, Finds, Z, share_of


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
    error has variance Σ_k t^{2k} E φ_k + E U. If no photo was matched just once, the upper end allows for photos of the
    rate that Clopper and Pearson give for no hit in N.

    Args:
      finds: the matches of N images.
      num_images: from N to 2 N.

    Raises:
      ValueError: for another number: above 2 N a forecast needs a model.
    """
    total = finds.num_images
    if not total <= num_images <= 2 * total:
        raise ValueError(f"num_images must be between {total} and {2 * total}, twice the sweep, got {num_images}")
    return _series(finds, num_images, np.ones(len(frequencies(finds))))


def smoothed(finds: Finds, num_images: int) -> Estimate:
    """Distinct photos that more than 2 N images will match, by the smoothed series: biased, for t of some ln N at most.

    The term k of Good and Toulmin is weighted by P(L ≥ k), L binomial of ½ log₂(N t² / (t − 1)) trials of probability
    2 / (2 + t) (Orlitsky, Suresh and Wu 2016, Table 1). The interval is of chance alone and leaves out the bias.

    Args:
      finds: the matches of N images.
      num_images: above 2 N.

    Raises:
      ValueError: for another number.
    """
    total = finds.num_images
    if num_images <= 2 * total:
        raise ValueError(f"num_images must be above {2 * total}, twice the sweep, got {num_images}")
    t, phi = num_images / total - 1, frequencies(finds)
    trials = int(np.ceil(0.5 * np.log2(total * t**2 / (t - 1))))
    return _series(finds, num_images, stats.binom.sf(np.arange(len(phi)), trials, 2 / (2 + t)))


def _series(finds: Finds, num_images: int, weights: np.ndarray) -> Estimate:
    """Good and Toulmin's series with a weight for each term, [K], and its prediction interval."""
    total, seen, phi = finds.num_images, finds.distinct(), frequencies(finds)
    t = num_images / total - 1
    powers = weights * t ** np.arange(1, len(phi) + 1)
    more = float((phi * powers)[::2].sum() - (phi * powers)[1::2].sum())
    spread = Z * float(np.sqrt((phi * powers**2).sum() + max(0.0, more)))
    least = 0.0 if len(phi) and phi[0] else t * total * share_of(0, total).high
    return Estimate(
        seen + max(0.0, more), seen + max(0.0, more - spread), seen + max(0.0, more + spread, least if t else 0.0)
    )


def frequencies(finds: Finds) -> np.ndarray:
    """φ_1, φ_2, …: the number of photos matched once, twice, …: float64 [the most matches of a photo]."""
    return np.bincount(finds.times())[1:].astype(np.float64)


def unseen_mass(finds: Finds) -> Estimate:
    """The share of images that match a photo which none of these N images matched: what goes on being found.

    Good (1953): φ_1 / N. The error has about the variance (φ_1 (1 − φ_1 / N) + 2 φ_2) / N² (Esty 1983), of which the
    normal interval is made; its upper end is at least Clopper and Pearson's for φ_1 of N, which also serves if no photo
    was matched just once.

    Args:
      finds: the matches of N images, at most one each.
    """
    total, (once, twice) = finds.num_images, np.append(frequencies(finds), [0.0, 0.0])[:2]
    value = float(once) / total
    spread = Z * float(np.sqrt(once * (1 - value) + 2 * twice)) / total
    return Estimate(value, max(0.0, value - spread), min(1.0, max(value + spread, share_of(int(once), total).high)))


def chao1(finds: Finds, num_photos: int) -> Estimate:
    """A lower bound of the number of photos that so many images of this kind, without end, would match.

    Chao (1984), bias-corrected: seen + (N − 1) / N · φ_1 (φ_1 − 1) / (2 (φ_2 + 1)), with the log-normal interval of
    Chao (1987), and never more than there are photos. It is the number itself if all photos that can be matched are
    equally likely.

    Args:
      finds: the matches of N images.
      num_photos: number of photos.
    """
    total, seen = finds.num_images, finds.distinct()
    once, twice = np.append(frequencies(finds), [0.0, 0.0])[:2]
    share = (total - 1) / total
    more = float(share * once * (once - 1) / (2 * (twice + 1)))
    if more == 0:
        return Estimate(float(seen), float(seen), float(seen))
    ratio = once / max(twice, 1.0)
    variance = max(twice, 1.0) * (share / 2 * ratio**2 + share**2 * ratio**3 + share**2 / 4 * ratio**4)
    factor = float(np.exp(Z * np.sqrt(np.log1p(variance / more**2))))
    ends = (seen + more, seen + more / factor, seen + more * factor)
    return Estimate(*(min(float(num_photos), end) for end in ends))
