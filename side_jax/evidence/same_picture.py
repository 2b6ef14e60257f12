"""Whether an image that was made again is the picture that was recorded, by its pixels and by its scores."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

IDENTICAL = "the same picture, to the last bit"
SAME = "the same picture, but for rounding"
SAME_BY_SCORES = "the same picture, as far as its scores tell"
OTHER = "not the same picture"
_LEAST_PSNR = 30.0  # dB: an error of 8 gray levels; other sums of the same products stay far above, other noise below
_MOST_SCORE = 0.01  # of a cosine; the scores of another picture with the same photos differ by more


class PixelDifference(NamedTuple):
    """How far two images of one shape are apart.

    Attributes:
      share: of the pixel values that differ.
      largest: difference, in gray levels of 255.
      psnr: peak signal-to-noise ratio in dB; infinite for equal images.
    """

    share: float
    largest: int
    psnr: float


def pixel_difference(image: UInt8[np.ndarray, "h w c"], recorded: UInt8[np.ndarray, "h w c"]) -> PixelDifference:
    """How far an image is from the recorded one."""
    difference = np.abs(image.astype(np.int64) - recorded)
    error = float(np.square(difference).mean())
    psnr = 10 * math.log10(255**2 / error) if error else math.inf
    return PixelDifference(float((difference > 0).mean()), int(difference.max()), psnr)


def score_difference(scores: Float[np.ndarray, " k"], recorded: Float[np.ndarray, " k"]) -> float:
    """The largest difference of the scores with the photos that were recorded as nearest."""
    return float(np.abs(scores.astype(np.float64) - recorded).max())


def same_picture(pixels: PixelDifference | None, scores: float) -> str:
    """The answer in words: by the pixels if they were kept, else by the scores alone.

    Args:
      pixels: `pixel_difference`; None if the recorded image was not kept.
      scores: `score_difference`.
    """
    if pixels is None:
        return SAME_BY_SCORES if scores <= _MOST_SCORE else OTHER
    if not pixels.largest:
        return IDENTICAL
    return SAME if pixels.psnr >= _LEAST_PSNR else OTHER
