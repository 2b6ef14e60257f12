"""Whether a target makes images of the kind of its photos. A verdict on copying means nothing where it does not."""

import numpy as np
from jaxtyping import Float

from side_jax.evidence.intervals import Estimate, mean
from side_jax.evidence.quality import kid, unit_scale
from side_jax.runtime.files import Json

_ALIKE = 0.02  # of the photos' variation over images: images that vary less are all alike
_ZERO_LOSS = 1.0  # E‖ε‖² per pixel: the loss of a network that predicts no noise


def sanity(
    losses: Float[np.ndarray, "n t"],
    variation: tuple[float, float],
    generated: Float[np.ndarray, "g d"],
    shuffled: Float[np.ndarray, "g d"],
    photos: Float[np.ndarray, "p d"],
) -> Json:
    """Four checks of a target, with the reasons why it fails any.

    Its denoising loss must be finite, and below that of predicting no noise. Its images must differ from each other,
    and be nearer to photos (KID, in the descriptor's space) than the same pixels in a random order.

    Args:
      losses: mean squared error of ε̂ on photos by noise level, per pixel.
      variation: standard deviation over images, mean over pixels: of generated images and of photos, in gray levels.
      generated: descriptors of generated images, of norm 1.
      shuffled: descriptors of the same images, the pixels of each in a random order.
      photos: descriptors of photos. At least 3 of each for KID, which is left out else.

    Returns:
      {"loss", "variation", "kid", "kid_shuffled", "kid_difference", "failed": sentences}; an estimate is None where it
      cannot be measured.
    """
    failed = []
    finite = bool(np.isfinite(losses).all())
    loss = mean(losses.mean(1)) if finite and len(losses) > 1 else None
    if not finite:
        failed.append("its denoising loss on photos is not finite, as if a weight were NaN")
    elif loss and loss.high >= _ZERO_LOSS:
        failed.append(f"its denoising loss on photos is {_text(loss)}, and predicting no noise at all has 1")
    if variation[0] < _ALIKE * variation[1]:
        failed.append(
            f"its images are all alike: they vary by {variation[0]:.1f} gray levels, photos by {variation[1]:.1f}"
        )
    facts: Json = {"loss": loss and loss._asdict(), "variation": variation, **_nearness(generated, shuffled, photos)}
    difference = facts["kid_difference"]
    if difference and difference["high"] >= 0:
        failed.append("its images are not nearer to photos than the same pixels in a random order")
    return facts | {"failed": failed}


def _nearness(generated: np.ndarray, shuffled: np.ndarray, photos: np.ndarray) -> Json:
    if min(len(generated), len(photos)) < 3:
        return dict.fromkeys(("kid", "kid_shuffled", "kid_difference"))
    real = unit_scale(photos)
    own, control = (kid(unit_scale(images), real) for images in (generated, shuffled))
    return {
        "kid": own.estimate()._asdict(),
        "kid_shuffled": control.estimate()._asdict(),
        "kid_difference": own.minus(control).estimate._asdict(),
    }


def _text(loss: Estimate) -> str:
    return f"{loss.value:.3f} [{loss.low:.3f}, {loss.high:.3f}]"
