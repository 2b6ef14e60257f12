"""`ImageSet`, and the decoding of images."""

import dataclasses
import hashlib
import io
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO, Generic, NamedTuple, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from side_jax.data.preparation import RECIPES, Prepared, Recipe, prepare
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
      traits: property of photos on which recipes (`side_jax.data.preparation`) differ -> number of photos.
      hashes: N content hashes (`content_hash`) of the pixels in `images`; computed if they are not given.
    """

    images: np.ndarray
    labels: np.ndarray
    ids: tuple[str, ...]
    label_names: tuple[str, ...] = ()
    skipped: Skipped = ()
    traits: Mapping[str, int] = dataclasses.field(default_factory=dict)
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

    def class_of(self, photo: int) -> str:
        """The name of a photo's class; empty if it has none."""
        label = int(self.labels[photo])
        return self.label_names[label] if 0 <= label < len(self.label_names) else ""

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


def decode_all(records: Iterable[Record[Class]], image_size: int, channels: int, recipe: Recipe) -> Decoded[Class]:
    """Decodes images in threads, to a temporary file. What cannot be read or decoded, and later frames, are skipped.

    Args:
      records: id, and a function that reads the encoded image and its class.
      image_size: pixels a side.
      channels: 1 or 3.
      recipe: how pixels are prepared.
    """
    ids: list[str] = []
    classes: list[Class] = []
    skipped: list[tuple[str, str]] = []
    traits: Counter[str] = Counter()
    highest = 0.0

    def attempt(record: Record[Class]) -> tuple[str, tuple[Prepared, Class, int] | str]:
        name, read = record
        try:
            data, label = read()
            with check_image(io.BytesIO(data)) as opened:
                prepared = prepare(opened, image_size, channels, recipe)
                return name, (prepared, label, int(getattr(opened, "n_frames", 1)))  # pages, or those of an animation
        except Exception as error:  # a corrupt file: PIL's decoders raise many kinds
            return name, f"{type(error).__name__}: {error}"

    def kept() -> Iterator[np.ndarray]:
        nonlocal highest
        for name, outcome in in_threads(attempt, records):
            if isinstance(outcome, str):
                skipped.append((name, outcome))
                continue
            prepared, label, frames = outcome
            ids.append(name)
            classes.append(label)
            traits.update(prepared.traits)
            highest = max(highest, prepared.highest)
            if frames > 1:
                skipped.append((name, f"{frames - 1} of its {frames} frames: the first alone is read"))
            yield prepared.pixels

    images = temporary(kept(), (image_size, image_size, channels))
    named = {trait.format(highest=highest): number for trait, number in traits.items()}
    return Decoded(images, tuple(ids), classes, tuple(skipped), named)


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
