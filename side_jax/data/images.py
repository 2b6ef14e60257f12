"""`ImageSet`, and the decoding of images."""

import dataclasses
import hashlib
import io
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import IO, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from side_jax.runtime.mapped import blocks, take, temporary
from side_jax.runtime.threads import in_threads

Class = TypeVar("Class")
Skipped = tuple[tuple[str, str], ...]  # (id, reason)
Record = tuple[str, Callable[[], tuple[bytes, Class]]]  # id, and what reads the encoded image and its class


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Images with what identifies them.

    Attributes:
      images: uint8 [N, H, W, C], C = 1 or 3; in memory, or mapped from a file and read-only.
      labels: int32 [N]; −1 throughout if the source has no classes.
      ids: N stable names, unique: the path below the data set's root, the key in an npz, or NAME/VERSION/SPLIT#INDEX of
        TensorFlow Datasets.
      label_names: name of label k at position k.
      skipped: every image that could not be read.
      hashes: N content hashes (`content_hash`) of the pixels in `images`; computed if they are not given.
    """

    images: np.ndarray
    labels: np.ndarray
    ids: tuple[str, ...]
    label_names: tuple[str, ...] = ()
    skipped: Skipped = ()
    hashes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.hashes:
            object.__setattr__(self, "hashes", content_hashes(self.images))
        counts = {len(self.images), len(self.labels), len(self.ids), len(self.hashes)}
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
        ids, hashes = (tuple(names[i] for i in index) for names in (self.ids, self.hashes))
        return ImageSet(take(self.images, index), self.labels[index], ids, self.label_names, hashes=hashes)


def content_hashes(images: np.ndarray) -> tuple[str, ...]:
    """`content_hash` of each image of an array."""
    hashed = in_threads(lambda block: [content_hash(image) for image in block], blocks(images))
    return tuple(itertools.chain.from_iterable(hashed))


def content_hash(image: np.ndarray) -> str:
    """First 16 hex digits of SHA-256 over shape and pixels: equal exactly for equal images."""
    digest = hashlib.sha256(str(image.shape).encode())
    digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()[:16]


def decode_all(
    records: Iterable[Record[Class]], image_size: int, channels: int
) -> tuple[np.ndarray, tuple[str, ...], list[Class], Skipped]:
    """Decodes images in threads, to a temporary file. What cannot be read or decoded, and later frames, are skipped.

    Args:
      records: id, and a function that reads the encoded image and its class.
      image_size: pixels a side.
      channels: 1 or 3.

    Returns:
      uint8 [N, image_size, image_size, channels]; the ids and classes of these N; (id, reason) of those skipped.
    """
    ids: list[str] = []
    classes: list[Class] = []
    skipped = []

    def attempt(record: Record[Class]) -> tuple[str, tuple[np.ndarray, Class, int] | str]:
        name, read = record
        try:
            data, label = read()
            return name, (decode(data, image_size, channels), label, _frames(data))
        except Exception as error:  # a corrupt file: PIL's decoders raise many kinds
            return name, f"{type(error).__name__}: {error}"

    def kept() -> Iterator[np.ndarray]:
        for name, outcome in in_threads(attempt, records):
            if isinstance(outcome, str):
                skipped.append((name, outcome))
                continue
            image, label, frames = outcome
            ids.append(name)
            classes.append(label)
            if frames > 1:
                skipped.append((name, f"{frames - 1} of its {frames} frames: the first alone is read"))
            yield image

    images = temporary(kept(), (image_size, image_size, channels))
    return images, tuple(ids), classes, tuple(skipped)


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
