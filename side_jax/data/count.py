"""How many photos a data set has, of how many classes: from names and headers. No photo is decoded."""

import posixpath
from typing import NamedTuple

import numpy as np
from etils import epath

from side_jax.data.classes import Table
from side_jax.data.generated import npz_images
from side_jax.data.images import check_image
from side_jax.data.load import check_pixels, location, named_files, suffix_of
from side_jax.runtime.arrays import array_exists, array_layout

# Only what has another ending is opened: 200,000 photos are counted in a second or two.
_ENDINGS = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".pgm", ".ppm"))


class Count(NamedTuple):
    """Photos of a data set, and the number of their classes; 0 without labels."""

    photos: int
    classes: int


def count_images(
    name: str,
    path: str,
    image_size: int,
    channels: int,
    order: str | tuple[str, ...] = "natural",
    table: Table | None = None,
) -> Count:
    """The photos that `load_images` would read, damaged ones included, and the classes that they would have.

    Args:
      name: orl | image_folder | npz.
      path: as of `load_images`.
      image_size: pixels a side, for the check of an npz file.
      channels: 1 or 3, likewise.
      order: of the classes, as `dataset.class_order`; a list of names may name more than the photos have.
      table: file -> class, in place of folders.

    Raises:
      ValueError: as `load_images`, for a path that is not there, or holds no photo.
    """
    root = location(name, path)
    if name == "npz":
        return _in_npz(root, image_size, channels, order, table)
    if not root.is_dir():
        raise ValueError(f"dataset.path {str(root)!r} is not a folder")
    ids = [one for one, file in named_files(root, suffix_of(name)) if _is_image(file)]
    if not ids:
        raise ValueError(f"dataset.path {str(root)!r}: none of its files is an image")
    folders = {posixpath.basename(posixpath.dirname(one)) for one in ids} - {""}
    return Count(len(ids), _classes(ids, folders, order, table))


def count_generated(field: str, path: str) -> int:
    """The number of images in a folder, an npz file or a zarr array of generated images. Raises `ValueError`."""
    root = epath.Path(path)
    if root.is_dir() and array_exists(root):
        return int(array_layout(root)[1][0])
    if root.is_dir():
        return sum(_is_image(file) for _, file in named_files(root))
    with npz_images(field, root) as (_, _, shape):
        return shape[0]


def _in_npz(
    path: epath.Path, image_size: int, channels: int, order: str | tuple[str, ...], table: Table | None
) -> Count:
    with npz_images("dataset.path", path) as (_, dtype, shape):
        check_pixels(path, dtype, (*shape, 1) if len(shape) == 3 else shape, image_size, channels)
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        names = range(int(arrays["labels"].max(initial=-1)) + 1) if "labels" in arrays.files else ()
        ids = arrays["ids"].tolist() if "ids" in arrays.files else [f"{i:08d}" for i in range(shape[0])]
    return Count(shape[0], _classes([str(one) for one in ids], {str(k) for k in names}, order, table))


def _classes(ids: list[str], own: set[str], order: str | tuple[str, ...], table: Table | None) -> int:
    """The number of classes: those of a table or of the files' names, if these give them, else their own."""
    files = [posixpath.basename(one) for one in ids]
    if table is not None:
        own = {table.get(one, table.get(file, "")) for one, file in zip(ids, files, strict=True)} - {""}
    elif order == "prefix":
        own = {file.partition("_")[0] for file in files}
    return len(own if isinstance(order, str) else own.union(order))


def _is_image(file: epath.Path) -> bool:
    """By its ending or, without a usual one, by its first bytes, which decide when it is read."""
    if file.suffix.lower() in _ENDINGS:
        return True
    try:
        with file.open("rb") as opened, check_image(opened):
            return True
    except Exception:  # Pillow's decoders raise many kinds; reading will list the file with the reason
        return False
