"""How a photo becomes the pixels that a model was trained on: recipes, and the properties on which they differ.

A reference prepared otherwise than the training image is another image: a copy of the one need not match the other.
"""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image, ImageOps

_ORIENTATION = 0x0112  # EXIF's tag: 1 upright, 2 … 8 turned or mirrored
_FULL = 65535  # the largest value of 16 bits
_COLOUR_LEVELS = 16  # what 12-bit data in 16-bit colour keep of their levels: Pillow reads the high byte alone


def _crop_first(image: Image.Image, size: int, filter_: Image.Resampling) -> Image.Image:
    """The centre square, to a fraction of a pixel, resized in one step."""
    return ImageOps.fit(image, (size, size), filter_)


def _short_side(image: Image.Image, size: int, filter_: Image.Resampling) -> Image.Image:
    """The short side resized, then the centre cropped, each rounded as torchvision's Resize and CenterCrop do."""
    short = min(image.size)
    image = image.resize((image.width * size // short, image.height * size // short), filter_)
    left, top = (round((side - size) / 2) for side in image.size)
    return image.crop((left, top, left + size, top + size))


def _halving(image: Image.Image, size: int, filter_: Image.Resampling) -> Image.Image:
    """Halved by box filters while twice as large, then the short side resized and the centre cropped: ADM's way."""
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), filter_)
    left, top = ((side - size) // 2 for side in image.size)
    return image.crop((left, top, left + size, top + size))


def _stretch(image: Image.Image, size: int, filter_: Image.Resampling) -> Image.Image:
    """Both sides resized, whatever the aspect."""
    return image.resize((size, size), filter_)


RESIZES: dict[str, Callable[[Image.Image, int, Image.Resampling], Image.Image]] = {
    "crop_first": _crop_first,
    "short_side": _short_side,
    "halving": _halving,
    "stretch": _stretch,
}
FILTERS = {name: Image.Resampling[name.upper()] for name in ("nearest", "box", "bilinear", "bicubic", "lanczos")}
ORIENTATIONS = ("exif", "stored")
BACKGROUNDS = ("white", "black", "dropped")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Five choices that make pixels of a photo.

    Attributes:
      orientation: exif, turned as a viewer shows it | stored, as the pixels lie in the file.
      background: what shows through transparency: white | black | dropped, the colour that is stored there, as
        `convert("RGB")` leaves it.
      white: the value that becomes 255 in gray images of more than 8 bits, and in those of floats. Larger ones are
        clipped.
      resize: a name in `RESIZES`.
      filter: a name in `FILTERS`, of Pillow: all but nearest antialias.

    Raises:
      ValueError: for a choice that is not known.
    """

    orientation: str = "exif"
    background: str = "white"
    white: float = _FULL
    resize: str = "crop_first"
    filter: str = "bilinear"

    def __post_init__(self) -> None:
        known = {"orientation": ORIENTATIONS, "background": BACKGROUNDS, "resize": RESIZES, "filter": FILTERS}
        for name, choices in known.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"recipe: {name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        if not self.white > 0:
            raise ValueError(f"recipe: white must be above 0, got {self.white}")


RECIPES = {
    "side_jax": Recipe(),
    # Of diffusers' unconditional training example, with --center_crop; `convert("RGB")` clips at 255.
    "diffusers": Recipe("stored", "dropped", 255, "short_side", "bilinear"),
    # OpenAI's guided-diffusion and improved-diffusion.
    "guided_diffusion": Recipe("stored", "dropped", 255, "halving", "bicubic"),
}


def recipe_named(recipe: str | Recipe) -> Recipe:
    """A recipe of `RECIPES`, or the one that is given. Raises `ValueError` for another name."""
    if isinstance(recipe, Recipe):
        return recipe
    if recipe not in RECIPES:
        raise ValueError(f"recipe must be one of {', '.join(RECIPES)}, got {recipe!r}")
    return RECIPES[recipe]


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A photo as pixels, and what recipes would do differently.

    Attributes:
      pixels: uint8 [size, size, channels].
      traits: the properties on which recipes differ, each with the field that decides; `{highest}` stands for the
        highest value of all such photos.
      highest: of gray of more than 8 bits or of floats, else 0.
    """

    pixels: np.ndarray
    traits: tuple[str, ...]
    highest: float


def prepare(image: Image.Image, image_size: int, channels: int, recipe: Recipe) -> Prepared:
    """The pixels of an image that Pillow has opened and not yet decoded.

    Raises:
      ValueError: for an image whose levels would be lost.
      Exception: what Pillow raises for a corrupt image.
    """
    high_byte = not _deep(image) and ";16" in str(getattr(image, "tile", ""))
    image.load()
    found = tuple(_traits(image, image_size, recipe, high_byte))
    highest = float(np.asarray(image).max()) if _deep(image) else 0.0
    if recipe.orientation == "exif":
        image = ImageOps.exif_transpose(image)
    if _deep(image):
        image = _eight_bits(image, recipe.white)
    elif high_byte:
        _check_levels(image)
    if _layered(image) and recipe.background != "dropped":
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, recipe.background), image)
    elif image.mode == "P":
        image.info.pop("transparency", None)  # Pillow would warn that it is dropped
    image = image.convert("L" if channels == 1 else "RGB")
    image = RESIZES[recipe.resize](image, image_size, FILTERS[recipe.filter])
    return Prepared(np.asarray(image, np.uint8).reshape(image_size, image_size, channels), found, highest)


def _traits(image: Image.Image, size: int, recipe: Recipe, high_byte: bool) -> Iterator[str]:
    if image.getexif().get(_ORIENTATION, 1) in range(2, 9):
        yield "turned by their EXIF orientation (dataset.orientation)"
    if _layered(image) and not _deep(image) and np.asarray(image.convert("RGBA").getchannel("A")).min() < 255:
        yield "transparent in parts (dataset.background)"
    if _deep(image):
        yield f"gray of more than 8 bits, at most {{highest:g}} where {recipe.white:g} is white (dataset.white)"
    if high_byte:
        yield "colour of 16 bits, of which Pillow reads the high byte"
    if image.mode == "P":
        yield "of a palette"
    if image.mode == "CMYK":
        yield "CMYK, made RGB by Pillow's formula and not by their profile"
    if image.width != image.height:
        yield "not square (dataset.resize)"
    if min(image.size) >= 2 * size:
        yield f"{2 * size} pixels or more on the short side (dataset.resize)"
    if min(image.size) != size:
        yield f"not {size} pixels on the short side (dataset.filter)"


def _deep(image: Image.Image) -> bool:
    """True for gray of more than 8 bits ("I;16", or "I" in older files) and for floats."""
    return image.mode.startswith(("I", "F"))


def _layered(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info


def _eight_bits(image: Image.Image, white: float) -> Image.Image:
    deep = np.asarray(image, np.float64)
    if not np.isfinite(deep).all():
        raise ValueError("its pixels are not all finite")
    # Rounded down, as 16 bits // 257 are. The tolerance is for floats that were 8 bits: k / 255 is k again.
    levels = np.floor(np.clip(deep, 0, white) * (255 / white) + 1e-3)
    if deep.max() > 0 and levels.max() <= 1:
        raise ValueError(f"black where {white:g} is white, its highest value is {deep.max():g}; set dataset.white")
    return Image.fromarray(levels.astype(np.uint8))


def _check_levels(image: Image.Image) -> None:
    """Refuses 16-bit colour with 12-bit data: what Pillow gives of them has 16 levels."""
    if np.asarray(image.convert("RGB")).max() < _COLOUR_LEVELS:
        raise ValueError(
            "16-bit colour with values below 4096, of which Pillow reads the high byte; convert it to 8 bits"
        )
