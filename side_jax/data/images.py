"""`ImageSet`, and the decoding of images."""

import dataclasses
import functools
import hashlib
import io
from collections.abc import Callable, Iterable
from typing import IO, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

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
    """

    images: np.ndarray
    labels: np.ndarray
    ids: tuple[str, ...]
    label_names: tuple[str, ...] = ()
    skipped: Skipped = ()

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


def decode_all(
    records: Iterable[tuple[str, Callable[[], tuple[bytes, Class]]]], count: int, image_size: int, channels: int
) -> tuple[np.ndarray, tuple[str, ...], list[Class], Skipped]:
    """Decodes images one at a time into one array; those that cannot be read or decoded, and later frames, are skipped.

    Args:
      records: id, and a function that reads the encoded image and its class.
      count: number of records.
      image_size: pixels a side.
      channels: 1 or 3.

    Returns:
      uint8 [N, image_size, image_size, channels]; the ids and classes of these N; (id, reason) of those skipped.
    """
    images = np.empty((count, image_size, image_size, channels), np.uint8)
    ids: list[str] = []
    classes: list[Class] = []
    skipped = []
    for name, read in records:
        try:
            data, label = read()
            images[len(ids)] = decode(data, image_size, channels)
        except Exception as error:  # a corrupt file: PIL's decoders raise many kinds
            skipped.append((name, f"{type(error).__name__}: {error}"))
            continue
        ids.append(name)
        classes.append(label)
        if frames := _frames(data) - 1:
            skipped.append((name, f"{frames} of its {frames + 1} frames: the first alone is read"))
    return images[: len(ids)], tuple(ids), classes, tuple(skipped)


def check_image(file: IO[bytes]) -> Image.Image:
    """The image in an open file, not decoded. Raises `ValueError` if Pillow knows no format of these first bytes."""
    try:
        return Image.open(file)
    except UnidentifiedImageError:  # its message has the address of the buffer
        raise ValueError("no image, or of an unknown format") from None


def _frames(data: bytes) -> int:
    """Frames of an animation, or pages of a document; 1 for an ordinary image."""
    with check_image(io.BytesIO(data)) as opened:
        return int(getattr(opened, "n_frames", 1))


def decode(data: bytes, image_size: int, channels: int) -> np.ndarray:
    """An encoded image as uint8 [image_size, image_size, channels].

    EXIF orientation is applied, 16-bit gray is scaled to 8, transparency is laid on white, palettes are resolved. The
    centre square is resized with PIL's antialiased bilinear filter. Raises what PIL raises for a corrupt image.
    """
    with check_image(io.BytesIO(data)) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.mode.startswith("I"):  # 16-bit gray: "I;16", or "I" in older files
            deep = np.asarray(image, np.int64)
            image = Image.fromarray((np.clip(deep, 0, 65535) // 257).astype(np.uint8))
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("L" if channels == 1 else "RGB")
    image = ImageOps.fit(image, (image_size, image_size), Image.Resampling.BILINEAR)
    return np.asarray(image, np.uint8).reshape(image_size, image_size, channels)
