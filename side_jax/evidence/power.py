"""The power of the held-out test: the share of copies that an audit would have called, and what would call less.

The test compares T images that score with a training photo and H that score with a held-out one. If nothing is copied,
T − H has mean 0 and, under relabelling, the variance v(N). A share π of copies, each of a training photo drawn at
random, adds K ~ Binomial(N, π) to T; the K copies themselves change sign with their photos under relabelling. So with P
photos the null's variance is v(N) + K + K (K − 1) / P, and the excess is K plus a draw of variance v(N). For few copies
the null is a sum of coin tosses, which is computed exactly: five copies of five photos, p = 1/32, are no proof at 1 %.
"""

import functools
from typing import NamedTuple

import numpy as np
from scipy import optimize, special, stats

POWER = 0.9
_EXACT = 30  # copies up to which their coin tosses are computed exactly
_MOST = 1_000  # times the images, the largest audit that is asked for
_TINY = 1e-9


class Spread(NamedTuple):
    """The variance of T − H under relabelling, where nothing is copied, for any number of images.

    v(N) = v · f(N) / f(N₀), f(N) = r N + c N (N − 1): r is the share of images that score with some photo, and c the
    share of pairs of images that score with the same one. The first term is chance in the images; the second is photos
    that many images resemble, which more images do not even out.

    Attributes:
      num_images: N₀.
      variance: v, of N₀ images.
      share: r.
      collisions: c.
    """

    num_images: int
    variance: float
    share: float
    collisions: float

    @classmethod
    def of(cls, sd: float, photos: np.ndarray, num_images: int) -> "Spread":
        """From the null's own standard deviation, and the pooled photo of each image that scores.

        Args:
          sd: of (T − H) / N.
          photos: int [at most N].
          num_images: N.
        """
        times = np.bincount(photos) if len(photos) else np.zeros(1)
        pairs = float((times * (times - 1.0)).sum()) / max(1, num_images * (num_images - 1))
        return cls(num_images, (num_images * sd) ** 2, len(photos) / num_images, pairs)

    def at(self, num_images: int) -> float:
        """v(N)."""

        def f(n: int) -> float:
            return self.share * n + self.collisions * n * (n - 1)

        return self.variance * f(num_images) / f(self.num_images) if self.variance else 0.0


def power(share: float, num_images: int, num_photos: int, variance: float, alpha: float) -> float:
    """The probability that the test calls a true share of copies, one-sided at level alpha.

    Args:
      share: π, of the images.
      num_images: N.
      num_photos: P, training photos that change places with as many held-out ones.
      variance: v(N) of T − H.
      alpha: the level.
    """
    low, high = stats.binom.ppf([_TINY, 1 - _TINY], num_images, share)
    copies = np.unique(np.linspace(low, high, 400).astype(int))
    weights = stats.binom.pmf(copies, num_images, share)
    called = np.array([_called(int(k), num_photos, variance, alpha) for k in copies])
    return float((weights * called).sum() / weights.sum())


@functools.lru_cache(maxsize=100_000)
def _called(copies: int, num_photos: int, variance: float, alpha: float) -> float:
    """The probability that the test calls this number of copies."""
    if copies > _EXACT:
        total = variance + copies + copies * (copies - 1) / num_photos
        least = stats.norm.isf(alpha) * np.sqrt(total)
    else:
        least = _least_excess(copies, variance, alpha)
    if variance < _TINY:
        return float(copies >= least)
    return float(stats.norm.sf((least - copies) / np.sqrt(variance)))


def _least_excess(copies: int, variance: float, alpha: float) -> float:
    """The least T − H that is significant where it is a sum of coin tosses, one for each copy, and a normal draw."""
    tosses = 2 * np.arange(copies + 1) - copies
    weights = stats.binom.pmf(np.arange(copies + 1), copies, 0.5)
    if variance < _TINY:
        tails = np.cumsum(weights[::-1])[::-1]  # P(sum >= each)
        return float(np.append(tosses, np.inf)[np.append(tails <= alpha, True).argmax()])
    sd = np.sqrt(variance)
    tail = lambda d: (weights * special.ndtr((tosses - d) / sd)).sum() - alpha  # noqa: E731
    return float(optimize.brentq(tail, -copies - 9 * sd, copies + 9 * sd))


def detectable_share(num_images: int, num_photos: int, variance: float, alpha: float) -> float | None:
    """The smallest true share of copies that the test calls with a power of 90 %; None if it calls none so often.

    Arguments as for `power`.
    """

    def lacking(share: float) -> float:
        return POWER - power(share, num_images, num_photos, variance, alpha)

    if lacking(1.0) > 0:
        return None
    return float(optimize.brentq(lacking, _TINY, 1.0, xtol=1e-6))


def images_to_halve(spread: Spread, num_photos: int, alpha: float) -> int | None:
    """The number of images with which half the detectable share would be called; None if no number would do.

    It is found to 1 % of its value, up to 1,000 times the images that there are.
    """
    count = spread.num_images
    found = detectable_share(count, num_photos, spread.at(count), alpha)
    if found is None:
        return None

    def enough(images: int) -> bool:
        return power(found / 2, images, num_photos, spread.at(images), alpha) >= POWER

    low, high = count, 2 * count
    while not enough(high):
        low, high = high, 2 * high
        if high > _MOST * count:
            return None
    while high - low > max(1, high // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
