"""Image arrays on disk: tensorstore zarr, written batch by batch, resumed where they stopped."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorstore as ts
from etils import epath

from side_jax.artifacts import AuditError, read_json, write_atomic, write_json
from side_jax.progress import Progress

ImageBatches = Iterator[tuple[np.ndarray, np.ndarray]]  # (indices, uint8 [N, H, W, C])


def _open(path: epath.Path, **options: Any) -> ts.TensorStore:
    text = str(path)
    bucket, _, key = text.removeprefix("gs://").partition("/")
    store = {"driver": "gcs", "bucket": bucket, "path": key} if text.startswith("gs://") else None
    return ts.open({"driver": "zarr", "kvstore": store or {"driver": "file", "path": text}}, **options).result()


def save_array(path: epath.Path, array: np.ndarray, chunk_rows: int = 4096) -> None:
    """Atomically writes `array`, in chunks of `chunk_rows` along the first axis."""
    chunks = [min(chunk_rows, max(len(array), 1)), *array.shape[1:]]
    layout = ts.ChunkLayout(read_chunk_shape=chunks)
    shape, dtype = array.shape, array.dtype

    def write(temporary: epath.Path) -> None:
        _open(temporary, dtype=dtype, shape=shape, chunk_layout=layout, create=True).write(array).result()

    write_atomic(path, write)


def load_array(path: epath.Path) -> np.ndarray:
    """Reads an array whole. Raises `AuditError` naming the path if it is missing or corrupt."""
    return read_rows(path, slice(None))


def read_rows(path: epath.Path, rows: np.ndarray | slice) -> np.ndarray:
    """Reads rows of an array, and only the chunks that hold them. Raises `AuditError` as `load_array` does."""
    try:
        return np.asarray(_open(path, open=True)[rows].read().result())
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise AuditError(f"{path} cannot be read ({reason}); remove its folder to make that stage again") from error


class ImageStore:
    """uint8 [N, H, W, C] on disk, written and read by row. Opens what is there, and grows it if N is larger.

    Args:
      path: the zarr folder.
      num_images: N.
      image_shape: (H, W, C).
      chunk_rows: images per chunk of a new array.
    """

    def __init__(self, path: epath.Path, num_images: int, image_shape: tuple[int, ...], chunk_rows: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        layout = ts.ChunkLayout(read_chunk_shape=[chunk_rows, *image_shape])
        shape = (num_images, *image_shape)
        if (path / ".zarray").exists():  # the folder alone is what a kill while creating it leaves
            self._store = _open(path, open=True)
            if self._store.shape[0] < num_images:
                self._store = self._store.resize(exclusive_max=shape).result()
        else:
            self._store = _open(path, dtype=np.uint8, shape=shape, chunk_layout=layout, create=True)

    def write(self, indices: np.ndarray, images: np.ndarray) -> None:
        """Writes rows `indices` and waits until they are on disk."""
        self._store[indices].write(images).result()

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Rows `indices`."""
        return np.asarray(self._store[indices].read().result())


def fill(store: ImageStore, progress: epath.Path, count: int, sampler: Callable[[np.ndarray], ImageBatches]) -> None:
    """Writes the first `count` images from the front; `progress`, a JSON file, says how far it has come.

    What is on disk survives any interruption: the file is moved into place only after its images are written.
    """
    done = int(read_json(progress)["done"]) if progress.exists() else 0
    with Progress(progress.parent.name, count, done) as bar:
        for indices, images in sampler(np.arange(done, count)):
            store.write(indices, images)
            write_json(progress, {"done": int(indices[-1]) + 1})
            bar.update(len(indices))
