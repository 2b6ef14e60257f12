"""Arrays as TensorStore zarr, on disk or in a bucket; those of images are written batch by batch and resumed."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorstore as ts
from etils import epath

from side_jax import preemption
from side_jax.artifacts import AuditError, kvstore, read_json, write_json
from side_jax.progress import Progress

_METADATA = ".zarray"
ImageBatches = Iterator[tuple[np.ndarray, np.ndarray]]  # (indices, uint8 [N, H, W, C])


def _open(path: epath.Path, **options: Any) -> ts.TensorStore:
    return ts.open({"driver": "zarr", "kvstore": kvstore(path)}, **options).result()


def array_exists(path: epath.Path) -> bool:
    """Is there an array at `path`? A folder alone, or chunks, is what a kill leaves."""
    return (path / _METADATA).exists()


def save_array(path: epath.Path, array: np.ndarray, chunk_rows: int = 4096) -> None:
    """Writes `array`, in chunks of `chunk_rows` along the first axis; atomically, as its metadata come last.

    A folder cannot be moved into place in an object store. What is there is replaced.
    """
    path.rmtree(missing_ok=True)
    chunks = [min(chunk_rows, max(len(array), 1)), *array.shape[1:]]
    layout = {"dtype": array.dtype, "shape": array.shape, "chunk_layout": ts.ChunkLayout(read_chunk_shape=chunks)}
    _open(path, open=True, create=True, assume_metadata=True, **layout).write(array).result()  # writes no metadata
    _open(path, create=True, **layout)


def load_array(path: epath.Path) -> np.ndarray:
    """Reads an array whole. Raises `AuditError` naming the path if it is missing or corrupt."""
    try:
        return np.asarray(_open(path, open=True).read().result())
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise AuditError(f"{path} cannot be read ({reason}); remove its folder to make that stage again") from error


def read_rows(path: epath.Path, indices: np.ndarray) -> np.ndarray:
    """Rows `indices` of an array, and no others."""
    return np.asarray(_open(path, open=True)[indices].read().result())


class ImageStore:
    """uint8 [N, H, W, C] on disk, written and read by row. Opens what is there, and grows it if N is larger.

    Args:
      path: the zarr folder.
      num_images: N.
      image_shape: (H, W, C).
      chunk_rows: images per chunk of a new array.
    """

    def __init__(self, path: epath.Path, num_images: int, image_shape: tuple[int, ...], chunk_rows: int) -> None:
        layout = ts.ChunkLayout(read_chunk_shape=[chunk_rows, *image_shape])
        shape = (num_images, *image_shape)
        if array_exists(path):
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
    with Progress(progress.parent.name, count, done, logs=progress.parent / "logs") as bar:
        for indices, images in sampler(np.arange(done, count)):
            store.write(indices, images)
            write_json(progress, {"done": int(indices[-1]) + 1})
            bar.update(len(indices))
            preemption.check()
