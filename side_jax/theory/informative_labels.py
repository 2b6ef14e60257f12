"""Proposition 1 of seed 002, measured: it says that latents with one label are less spread than all latents.

Eq. (4) compares nuclear norms of covariances. The nuclear norm of a covariance is its trace. The equation is an
assumption and may fail: by the law of total variance it holds for labels on average, but not for a label whose own
variance is above the average by more than the labels' means vary. Eqs. (5) and (31) cannot fail if μ_c is the mean
of the label's own latents, which minimises their left side. They are measured all the same.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from side_jax.evidence.intervals import LEVEL, Estimate

HOLDS, FAILS, OPEN = "holds", "fails", "not significant"


class LabelSpread(NamedTuple):
    """Proposition 1 for one label c.

    Attributes:
      eq4: left over right side of Eq. (4), ‖Σ_c‖_* / ‖Σ‖_*, with unbiased covariances.
      eq5: left over right side of Eq. (5), Σ_{D_c} ‖z − μ_c‖² / Σ_D ‖z − μ‖².
      eq31: left over right side of Eq. (31), Σ_{D_c} ‖z − μ_c‖² / Σ_{D_c} ‖z − μ‖².
      limit_ratio: the ratio of Theorem 1, Eq. (6), for this label.
      verdict: on Eq. (4): "holds" or "fails" if the interval of `eq4` lies below or above 1, else "not significant".
    """

    eq4: Estimate
    eq5: Estimate
    eq31: Estimate
    limit_ratio: float
    verdict: str


class Proposition1(NamedTuple):
    """Proposition 1 for all labels.

    Attributes:
      labels: one entry per label, in ascending order of label.
      eq4, eq5, eq31: means over labels of left over right side, labels being the sample.
      verdict: on the mean of Eq. (4), as for a label.
    """

    labels: tuple[LabelSpread, ...]
    eq4: Estimate
    eq5: Estimate
    eq31: Estimate
    verdict: str


def proposition_1(
    features: Float[np.ndarray, "n d"], labels: np.ndarray, bootstraps: int = 1_000, seed: int = 0
) -> Proposition1:
    """Left over right side of Eqs. (4), (5) and (31), with 95 % intervals.

    An interval reaches from the value up and down by a factor exp(t · standard deviation over bootstrap samples /
    value). For one label the bootstrap draws images within every label, and t has n_c − 1 degrees of freedom, which
    widens the interval for few images. For the means it draws labels. Of 40 random labels about 2 come out significant.

    Args:
      features: z, [N, d].
      labels: int [N].
      bootstraps: number of bootstrap samples.
      seed: of the bootstrap.

    Raises:
      ValueError: if there is only one class, a label has one image, or all features are equal.
    """
    z = features.astype(np.float64) - features.mean(0, dtype=np.float64)
    names, counts = _check(z, labels)
    members = [np.flatnonzero(labels == name) for name in names]
    scatter = np.array([np.square(z[own] - z[own].mean(0)).sum() for own in members])
    about_mean = np.array([np.square(z[own]).sum() for own in members])
    ratios = _ratios(scatter, about_mean, counts)
    rng = np.random.default_rng(seed)
    spread = _bootstrap(z, members, bootstraps, rng).std(1)
    nuclear_norm = float(about_mean.sum()) / (len(z) - 1)

    spreads = []
    for k, count in enumerate(counts.tolist()):
        eq4, eq5, eq31 = (_estimate(ratios[i, k], spread[i, k], count) for i in range(3))
        own = float(scatter[k]) / (count - 1)  # ‖Σ_c‖_* = Tr Σ_c
        limit = (scatter[k] + count * own) / (about_mean[k] + count * nuclear_norm)  # Eq. (50) summed
        spreads.append(LabelSpread(eq4, eq5, eq31, float(limit), _verdict(eq4)))
    drawn = rng.integers(0, len(names), (bootstraps, len(names)))
    eq4, eq5, eq31 = (_estimate(row.mean(), row[drawn].mean(1).std(), len(names)) for row in ratios)
    return Proposition1(tuple(spreads), eq4, eq5, eq31, _verdict(eq4))


def _ratios(scatter: np.ndarray, about_mean: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Left over right of Eqs. (4), (5) and (31): [3, …, K], from sums [..., K]."""
    total = about_mean.sum(-1, keepdims=True)
    eq4 = scatter / (counts - 1) / (total / (counts.sum() - 1))  # ‖Σ_c‖_* / ‖Σ‖_*
    return np.stack([eq4, scatter / total, scatter / about_mean])


def _bootstrap(z: np.ndarray, members: list[np.ndarray], bootstraps: int, rng: np.random.Generator) -> np.ndarray:
    """`_ratios` of images drawn with replacement within each label: [3, bootstraps, K].

    Sums about the mean of n drawn images are too small by a factor (n − 1) / n, which is corrected here.
    """
    counts = np.array([len(own) for own in members])
    squares, sums = np.empty((2, bootstraps, len(members))), np.empty((bootstraps, len(members), z.shape[1]))
    for k, own in enumerate(members):
        weights = rng.multinomial(len(own), np.full(len(own), 1 / len(own)), bootstraps)
        sums[:, k] = weights @ z[own]
        squares[0, :, k] = weights @ np.square(z[own]).sum(1)
    overall = sums.sum(1, keepdims=True) / counts.sum()
    squares[1] = squares[0] - 2 * (sums * overall).sum(-1) + counts * np.square(overall).sum(-1)
    within = squares[0] - np.square(sums).sum(-1) / counts
    return _ratios(within * counts / (counts - 1), squares[1], counts)


def _estimate(value: float, spread: float, count: int) -> Estimate:
    factor = float(np.exp(stats.t.ppf(0.5 + LEVEL / 2, count - 1) * spread / value)) if value else 1.0
    return Estimate(float(value), float(value) / factor, float(value) * factor)


def _verdict(ratio: Estimate) -> str:
    return HOLDS if ratio.high < 1 else FAILS if ratio.low > 1 else OPEN


def _check(z: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The labels that occur, and the number of images with each."""
    if labels.shape != z.shape[:1]:
        raise ValueError(f"labels must be one for each of the {len(z)} rows of features, got shape {labels.shape}")
    names, counts = np.unique(labels, return_counts=True)
    if len(names) < 2:
        raise ValueError("labels hold one class only, which carries no information (Definition 1); give two or more")
    if counts.min() < 2:
        raise ValueError(f"label {names[counts.argmin()]} has one image, a covariance needs 2 or more; leave it out")
    if not z.any():
        raise ValueError("all features are equal; there is no spread to compare")
    return names, counts
