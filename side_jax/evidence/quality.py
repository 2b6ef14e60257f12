"""The quality of images: how far they are from photos, as distributions of descriptors.

Fréchet distance and KID have their usual definitions, but use the audit's descriptor and not Inception. The values
compare rows of one table; they cannot be compared with a published FID or KID.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import linalg

from side_jax.evidence.intervals import Difference, Estimate, Z, normal_test

_BLOCK = 1024  # rows of a kernel matrix at once


def _check(*sets: np.ndarray) -> None:
    for features in sets:
        if features.ndim != 2 or features.shape[1] != sets[0].shape[1]:
            raise ValueError(f"features must be [N, D] of one D, got {' and '.join(str(one.shape) for one in sets)}")
        if len(features) < 2:
            raise ValueError(f"a distance of distributions needs at least 2 images in each set, got {len(features)}")


def frechet_distance(first: Float[np.ndarray, "n d"], second: Float[np.ndarray, "m _"]) -> float:
    """‖μ₁ − μ₂‖² + Tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½): Fréchet distance of two Gaussians (Heusel et al. 2017, Eq. 6).

    With Σ = XᵀX of centred features, Tr (Σ₁Σ₂)^½ is the sum of the singular values of X₁X₂ᵀ. No matrix is inverted and
    no matrix root computed, so covariances may be singular (fewer images than dimensions). The estimate is biased
    upwards, more so for fewer images: compare sets of one size only.

    Args:
      first: features, one row per image.
      second: features of the other set.

    Raises:
      ValueError: for fewer than 2 images in a set, or if shapes do not fit.
    """
    _check(first, second)
    means, roots, traces = [], [], []
    for features in (first, second):
        wide = features.astype(np.float64)
        means.append(wide.mean(0))
        centred = (wide - means[-1]) / np.sqrt(len(wide) - 1)
        traces.append(np.square(centred).sum())
        roots.append(linalg.qr(centred, mode="r")[0][: wide.shape[1]])  # RᵀR = XᵀX, and at most D rows
    cross = linalg.svdvals(roots[0] @ roots[1].T).sum()
    return max(0.0, float(np.square(means[0] - means[1]).sum() + traces[0] + traces[1] - 2 * cross))


class Kid(NamedTuple):
    """An estimate of KID, and the estimates without each image (the jackknife).

    Attributes:
      value: the estimate; below 0 if by chance the sets are more alike than two sets of one distribution.
      without_first: without image i of the first set, [N]; of paired sets, without image i of both.
      without_second: without image i of the second set, [M]; empty for paired sets.
    """

    value: float
    without_first: np.ndarray
    without_second: np.ndarray

    def estimate(self) -> Estimate:
        """The value with the jackknife's 95 % interval, which is too wide on average (Efron and Stein 1981)."""
        spread = Z * float(np.sqrt(sum(_variance(kept) for kept in (self.without_first, self.without_second))))
        return Estimate(self.value, self.value - spread, self.value + spread)

    def minus(self, baseline: "Kid") -> Difference:
        """The difference from another KID with the same second set, image i paired with image i."""
        pairs = zip(self, baseline, strict=True)
        value, *kept = (np.asarray(ours) - np.asarray(theirs) for ours, theirs in pairs)
        difference = Kid(float(value), *kept).estimate()
        return Difference(difference, normal_test(difference.value, (difference.high - difference.low) / 2 / Z))


def _variance(kept: np.ndarray) -> float:
    """The jackknife's variance, from the values without each image."""
    return (len(kept) - 1) * float(kept.var()) if len(kept) else 0.0


def kid(first: Float[np.ndarray, "n d"], second: Float[np.ndarray, "m _"], paired: bool = False) -> Kid:
    """Kernel inception distance's unbiased MMD², kernel (x·y/d + 1)³ (Binkowski et al. 2018, Eqs. 3 and 4).

    Args:
      first: features, one row per image.
      second: features of the other set.
      paired: image i of both sets has the same noise. Only images with different i are then independent, and only they
        are compared (Gretton et al. 2012, Lemma 6): the estimate stays unbiased, and equal sets give 0.

    Raises:
      ValueError: for fewer than 2 images in a set (3 for an interval), if shapes do not fit, or if `paired` sets differ
        in size.
    """
    _check(first, second)
    if min(len(first), len(second)) < 3:
        raise ValueError(
            f"KID needs at least 3 images in each set for its interval, got {len(first)} and {len(second)}"
        )
    if paired and len(first) != len(second):
        raise ValueError(f"paired sets must be of one size, got {len(first)} and {len(second)} images")
    n, m = len(first), len(second)
    ours = _row_sums(first, first) - _diagonal(first, first)
    theirs = _row_sums(second, second) - _diagonal(second, second)
    across, back = _row_sums(first, second), _row_sums(second, first)
    if paired:
        both = _diagonal(first, second)
        rows = ours + theirs - (across - both) - (back - both)
        return Kid(rows.sum() / (n * (n - 1)), (rows.sum() - 2 * rows) / ((n - 1) * (n - 2)), np.zeros(0))
    within_first, within_second = ours.sum() / (n * (n - 1)), theirs.sum() / (m * (m - 1))
    without_first = (ours.sum() - 2 * ours) / ((n - 1) * (n - 2)) + within_second
    without_first -= 2 * (across.sum() - across) / ((n - 1) * m)
    without_second = within_first + (theirs.sum() - 2 * theirs) / ((m - 1) * (m - 2))
    without_second -= 2 * (across.sum() - back) / (n * (m - 1))
    value = within_first + within_second - 2 * (across.sum() / (n * m))
    return Kid(value, without_first, without_second)


def _kernel(products: np.ndarray, dimensions: int) -> np.ndarray:
    """(x·y/d + 1)³."""
    return (products / dimensions + 1) ** 3


def _diagonal(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """k(x_i, y_i), [N]."""
    return _kernel(np.einsum("nd,nd->n", first.astype(np.float64), second.astype(np.float64)), first.shape[1])


def _row_sums(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Σ_j k(x_i, y_j), [N], in blocks: the matrix [N, M] is never in memory."""
    wide, sums = second.astype(np.float64), []
    for start in range(0, len(first), _BLOCK):
        products = first[start : start + _BLOCK].astype(np.float64) @ wide.T
        sums.append(_kernel(products, first.shape[1]).sum(1))
    return np.concatenate(sums)


def unit_scale(descriptors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Descriptors of norm 1, scaled to norm √d for `kid`, so that x·y/d is the cosine.

    At norm 1 the kernel would be nearly linear, and measure only the difference of the means.
    """
    return descriptors.astype(np.float64) * np.sqrt(descriptors.shape[1])


def quality_by_scale(
    generated: Mapping[float, np.ndarray], photos: np.ndarray, yardstick: np.ndarray | None
) -> tuple[dict[float, dict[str, object]], dict[str, object] | None]:
    """KID and Fréchet distance to photos for every λ, and of real photos to those photos.

    Args:
      generated: λ -> descriptors of its first images, unit rows [N, D]; image i has the same noise at every λ.
      photos: unit rows [M, D]; M ≥ 3.
      yardstick: other real photos of the same kind, at most N as Fréchet's bias depends on their number; None if there
        are fewer than 3.

    Returns:
      λ -> "num_images"; "kid" with its jackknife interval and its "change" from λ = 0 (None at 0, and without it);
      "frechet". And the same of the yardstick, without a change.
    """
    real = unit_scale(photos)
    found = {scale: kid(unit_scale(images), real) for scale, images in generated.items()}
    random, rows = found.get(0.0), {}
    for scale, images in generated.items():
        change = found[scale].minus(random).facts() if scale and random else None
        rows[scale] = _quality(images, real, found[scale]) | {"change": change}
    if yardstick is None:
        return rows, None
    return rows, _quality(yardstick, real, kid(unit_scale(yardstick), real))


def _quality(images: np.ndarray, real: np.ndarray, found: Kid) -> dict[str, object]:
    distance = frechet_distance(unit_scale(images), real)
    return {"num_images": len(images), "kid": found.estimate()._asdict(), "frechet": distance}
