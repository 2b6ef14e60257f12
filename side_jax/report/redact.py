"""Pictures of people made unrecognisable, for a page that is shown around."""

import dataclasses

import numpy as np
from PIL import Image

from side_jax.report.blocks import Pair, Photo
from side_jax.report.section import FoundPhoto, Page

_LEFT = 5  # pixels a side that are left of a picture: its colours, and no face


def redacted(page: Page) -> Page:
    """The same page with every picture blurred beyond recognition; ids and numbers stay."""
    sheets = [dataclasses.replace(sheet, pairs=[_pair(pair) for pair in sheet.pairs]) for sheet in page.sheets]
    at_risk = [FoundPhoto(blurred(one.photo), [blurred(image) for image in one.images]) for one in page.at_risk]
    return dataclasses.replace(
        page, sheets=sheets, at_risk=at_risk, steered=_all(page.steered), preview=_all(page.preview)
    )


def blurred(image: np.ndarray) -> np.ndarray:
    """uint8 [H, W, C] of which 5×5 means are left, as a smooth picture of the same size."""
    height, width, channels = image.shape
    picture = Image.fromarray(image[..., 0] if channels == 1 else image)
    left = picture.resize((_LEFT, _LEFT), Image.Resampling.BOX).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(left).reshape(image.shape)


def _all(images: np.ndarray | None) -> np.ndarray | None:
    if images is None:
        return None
    flat = images.reshape(-1, *images.shape[-3:])
    return np.stack([blurred(image) for image in flat]).reshape(images.shape)


def _pair(pair: Pair) -> Pair:
    heldout = _photo(pair.heldout) if pair.heldout else None
    return dataclasses.replace(pair, generated=blurred(pair.generated), train=_photo(pair.train), heldout=heldout)


def _photo(photo: Photo) -> Photo:
    pixels, name, score = photo
    return blurred(pixels), name, score
