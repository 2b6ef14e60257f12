"""Generated images that are given, without the model that made them: a folder, an npz file or a zarr array.

They are prepared as photos are, so that a copy of a photo has its pixels. But a model makes images of its own size: an
image of another is refused unless the config asks for resizing.
"""

import contextlib
import math
import zipfile
from collections import Counter
from collections.abc import Iterator
from typing import IO

import numpy as np
from etils import epath

from side_jax.data.images import ImageSet, check_image
from side_jax.data.load import folder_images, named_files
from side_jax.data.preparation import Recipe
from side_jax.runtime.arrays import array_exists, array_layout, load_array
from side_jax.runtime.mapped import temporary
from side_jax.runtime.threads import in_threads

_BLOCK_BYTES = 2**22
_GRAY = ("1", "L", "LA", "F")  # modes of Pillow with one channel of colour, and those that begin with I


def load_generated(
    field: str, path: epath.PathLike, image_size: int, channels: int, recipe: Recipe, resize: bool = False
) -> ImageSet:
    """Reads generated images in blocks, to a temporary file that is mapped: memory does not grow with their number.

    Args:
      field: the option that names them, for messages.
      path: a folder of images, an .npz with `images` uint8 [N, H, W, C] and perhaps `ids`, or a zarr array uint8
        [N, H, W, C], such as images.zarr of a workdir.
      image_size: pixels a side.
      channels: 1 or 3.
      recipe: how the files of a folder become pixels.
      resize: whether files of another size are resized, by the recipe.

    Returns:
      The images, in natural order of their files; without classes. Ids are paths below the folder, `ids`, or positions.

    Raises:
      ValueError: naming the option, for a path that is none of these, or images that do not fit.
    """
    root = epath.Path(path)
    if not root.exists():
        raise ValueError(f"{field} {str(root)!r} does not exist")
    wanted = (image_size, image_size, channels)
    if root.is_dir() and array_exists(root):
        return _zarr(field, root, wanted)
    if root.is_dir():
        _check_files(field, root, image_size, channels, resize)
        images = folder_images(root, image_size, channels, recipe, field)
        return ImageSet(images.images, _no_labels(len(images)), images.ids, (), images.skipped, images.traits)
    if root.suffix == ".npz":
        return _npz(field, root, wanted)
    raise ValueError(f"{field} {str(root)!r} is neither a folder of images, nor an .npz file, nor a zarr array")


def native_shape(field: str, path: epath.PathLike) -> tuple[int, int, int]:
    """(H, W, C) of generated images, or of a folder of photos, by the first of them. Raises `ValueError`."""
    root = epath.Path(path)
    if root.is_dir() and array_exists(root):
        shape = array_layout(root)[1]
    elif root.suffix == ".npz" and root.exists():
        with npz_images(field, root) as (_, _, shape):
            pass
    else:
        headers = (_header(file) for _, file in sorted(named_files(root))) if root.is_dir() else iter(())
        found = next(filter(None, headers), None)
        if found is None:
            raise ValueError(f"{field} {str(root)!r} has no image")
        return found
    return shape[1], shape[2], shape[3] if len(shape) == 4 else 1


def _header(file: epath.Path) -> tuple[int, int, int] | None:
    """(H, W, C) of an image file, which is not decoded; None for another file."""
    try:
        with file.open("rb") as opened, check_image(opened) as image:
            gray = image.mode in _GRAY or image.mode.startswith("I")
            return image.height, image.width, 1 if gray else 3
    except Exception:  # reading will list it with the reason
        return None


def _check_files(field: str, root: epath.Path, image_size: int, channels: int, resize: bool) -> None:
    """Refuses a folder with images of another size, or of other channels."""

    def header(named: tuple[str, epath.Path]) -> tuple[str, tuple[int, int, int] | None]:
        return named[0], _header(named[1])

    for name, found in in_threads(header, sorted(named_files(root))):
        if found is None:
            continue
        height, width, colours = found
        if (height, width) != (image_size, image_size) and not resize:
            raise ValueError(
                f"{field} {str(root)!r}: {name} has {width}x{height} pixels, dataset.image_size is {image_size}; set"
                " that to the size of the generated images, or dataset.resize (crop_first, …) to have them resized as"
                " the photos are"
            )
        if colours != channels:
            raise ValueError(
                f"{field} {str(root)!r}: {name} has {colours} channel(s), dataset.channels is {channels}; set that to"
                " the channels of the generated images"
            )


def _no_labels(count: int) -> np.ndarray:
    return np.full(count, -1, np.int32)


def _checked(field: str, path: epath.Path, layout: tuple[np.dtype, tuple[int, ...]], wanted: tuple[int, ...]) -> None:
    dtype, shape = layout
    shape = (*shape, 1) if len(shape) == 3 else shape
    if dtype != np.uint8 or shape[1:] != wanted or not shape[0]:
        raise ValueError(
            f"{field} {str(path)!r} holds {dtype} {shape}, the config asks for uint8 (N, {', '.join(map(str, wanted))})"
            " with N > 0; set dataset.image_size and dataset.channels to those of the generated images"
        )


def _zarr(field: str, path: epath.Path, wanted: tuple[int, int, int]) -> ImageSet:
    """A workdir's images.zarr has zeros where no image was kept: they are skipped and counted."""
    dtype, shape = array_layout(path)
    _checked(field, path, (dtype, shape), wanted)
    size, stored = max(1, _BLOCK_BYTES // math.prod(wanted)), []

    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, shape[0], size):
            block = load_array(path, slice(start, min(start + size, shape[0]))).reshape(-1, *wanted)
            stored.append(block.any((1, 2, 3)))
            yield block[stored[-1]]

    images = temporary(blocks(), wanted)
    there = np.concatenate(stored)
    if not there.any():
        raise ValueError(f"{field} {str(path)!r}: all of its {shape[0]} images are zeros; none was stored")
    skipped = tuple((_position(i), "zeros: no image was stored") for i in np.flatnonzero(~there).tolist())
    return ImageSet(
        images, _no_labels(len(images)), tuple(_position(i) for i in np.flatnonzero(there).tolist()), (), skipped
    )


@contextlib.contextmanager
def npz_images(field: str, path: epath.Path) -> Iterator[tuple[IO[bytes], np.dtype, tuple[int, ...]]]:
    """The array `images` of an npz file, open behind its header; with its type and shape."""
    with contextlib.ExitStack() as opened:
        try:
            archive = opened.enter_context(zipfile.ZipFile(opened.enter_context(path.open("rb"))))
            member = opened.enter_context(archive.open("images.npy"))
            first = np.lib.format.read_magic(member) == (1, 0)
            read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
            shape, fortran_order, dtype = read(member)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise ValueError(f"{field} {str(path)!r} is no npz file with an array 'images': {error}") from error
        if fortran_order:
            raise ValueError(f"{field} {str(path)!r}: 'images' is in Fortran order; save np.ascontiguousarray of it")
        yield member, dtype, shape


def _npz(field: str, path: epath.Path, wanted: tuple[int, int, int]) -> ImageSet:
    with npz_images(field, path) as (member, dtype, shape):
        _checked(field, path, (dtype, shape), wanted)
        size = max(1, _BLOCK_BYTES // math.prod(wanted)) * math.prod(wanted)
        read = (np.frombuffer(data, np.uint8) for data in iter(lambda: member.read(size), b""))
        images = temporary(read, wanted)
    if len(images) != shape[0]:
        raise ValueError(f"{field} {str(path)!r} has {len(images)} whole images, not {shape[0]}")
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        ids = tuple(str(i) for i in arrays["ids"]) if "ids" in arrays.files else tuple(map(_position, range(shape[0])))
    repeated = next((name for name, times in Counter(ids).items() if times > 1), None)
    if repeated is not None or len(ids) != shape[0]:
        fault = f"{repeated!r} twice; they must differ" if repeated else f"{len(ids)} for {shape[0]} images"
        raise ValueError(f"{field} {str(path)!r}: 'ids' has {fault}")
    return ImageSet(images, _no_labels(shape[0]), ids)


def _position(index: int) -> str:
    return f"{index:08d}"
