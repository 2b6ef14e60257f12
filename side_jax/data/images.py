"""`ImageSet`, and the decoding of images."""

import dataclasses
import functools
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import IO, Generic, NamedTuple, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from side_jax.data.preparation import RECIPES, Recipe, prepare

Class = TypeVar("Class")
Skipped = tuple[tuple[str, str], ...]  # (id, reason)


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Images with what identifies them.

    Attributes:
      images: uint8 [N, H, W, C], C = 1 or 3.
      labels: int32 [N]; −1 throughout if the source has no classes.
      ids: N stable names, unique: the path below the data set's root, the key in an npz, or NAME/VERSION/SPLIT#INDEX of
        TensorFlow Datasets.
      label_names: name of label k at position k.
      skipped: every image that could not be read.
      traits: property of photos on which recipes (`side_jax.data.preparation`) differ -> number of photos.
    """

    images: np.ndarray
    labels: np.ndarray
    ids: tuple[str, ...]
    label_names: tuple[str, ...] = ()
    skipped: Skipped = ()
    traits: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        counts = {len(self.images), len(self.labels), len(self.ids)}
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or len(counts) != 1:
            raise ValueError(
                f"ImageSet: images must be uint8 [N, H, W, C] with N labels and ids, got {self.images.dtype}"
                f" {self.images.shape} with {len(self.labels)} and {len(self.ids)}"
            )
        if len(set(self.ids)) != len(self.ids):
            raise ValueError("ImageSet: ids are not unique")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: np.ndarray) -> "ImageSet":
        """The subset at integer positions `index`, in that order."""
        ids = tuple(self.ids[i] for i in index)
        return ImageSet(self.images[index], self.labels[index], ids, self.label_names)

    @functools.cached_property
    def hashes(self) -> tuple[str, ...]:
        """N content hashes (`content_hash`) of the pixels in `images`."""
        return tuple(content_hash(image) for image in self.images)


def content_hash(image: np.ndarray) -> str:
    """First 16 hex digits of SHA-256 over shape and pixels: equal exactly for equal images."""
    digest = hashlib.sha256(str(image.shape).encode())
    digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()[:16]


class Decoded(NamedTuple, Generic[Class]):
    """What `decode_all` makes of records.

    Attributes:
      images: uint8 [N, H, W, C].
      ids: of these N.
      classes: of these N.
      skipped: what could not be decoded, and later frames.
      traits: as `ImageSet.traits`.
    """

    images: np.ndarray
    ids: tuple[str, ...]
    classes: list[Class]
    skipped: Skipped
    traits: dict[str, int]


def decode_all(
    records: Iterable[tuple[str, Callable[[], tuple[bytes, Class]]]],
    count: int,
    image_size: int,
    channels: int,
    recipe: Recipe,
) -> Decoded[Class]:
    """Decodes images one at a time into one array; those that cannot be read or decoded, and later frames, are skipped.

    Args:
      records: id, and a function that reads the encoded image and its class.
      count: number of records.
      image_size: pixels a side.
      channels: 1 or 3.
      recipe: how pixels are prepared.
    """
    images = np.empty((count, image_size, image_size, channels), np.uint8)
    ids: list[str] = []
    classes: list[Class] = []
    skipped: list[tuple[str, str]] = []
    traits: Counter[str] = Counter()
    highest = 0.0
    for name, read in records:
        try:
            data, label = read()
            with check_image(io.BytesIO(data)) as opened:
                prepared = prepare(opened, image_size, channels, recipe)
                frames = int(getattr(opened, "n_frames", 1))  # of an animation, or pages of a document
        except Exception as error:  # a corrupt file: PIL's decoders raise many kinds
            skipped.append((name, f"{type(error).__name__}: {error}"))
            continue
        images[len(ids)] = prepared.pixels
        ids.append(name)
        classes.append(label)
        traits.update(prepared.traits)
        highest = max(highest, prepared.highest)
        if frames > 1:
            skipped.append((name, f"{frames - 1} of its {frames} frames: the first alone is read"))
    named = {trait.format(highest=highest): number for trait, number in traits.items()}
    return Decoded(images[: len(ids)], tuple(ids), classes, tuple(skipped), named)


def check_image(file: IO[bytes]) -> Image.Image:
    """The image in an open file, not decoded. Raises `ValueError` if Pillow knows no format of these first bytes."""
    try:
        return Image.open(file)
    except UnidentifiedImageError:  # its message has the address of the buffer
        raise ValueError("no image, or of an unknown format") from None


def decode(data: bytes, image_size: int, channels: int, recipe: Recipe = RECIPES["side_jax"]) -> np.ndarray:
    """An encoded image as uint8 [image_size, image_size, channels]. Raises what `prepare` raises."""
    with check_image(io.BytesIO(data)) as opened:
        return prepare(opened, image_size, channels, recipe).pixels
