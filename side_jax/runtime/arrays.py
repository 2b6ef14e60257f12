"""Arrays as TensorStore zarr, on disk or in a bucket; those of images are written chunk by chunk and resumed."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import tensorstore as ts
from etils import epath

from side_jax.runtime import preemption
from side_jax.runtime.distributed import barrier
from side_jax.runtime.files import AuditError, kvstore
from side_jax.runtime.progress import Progress

_METADATA = ".zarray"
ImageBatches = Iterator[tuple[np.ndarray, np.ndarray]]  # (indices, uint8 [N, H, W, C])


def _open(path: epath.Path, **options: Any) -> ts.TensorStore:
    return ts.open({"driver": "zarr", "kvstore": kvstore(path)}, **options).result()


def array_exists(path: epath.Path) -> bool:
    """True if there is a complete array at `path`. A kill leaves a folder alone, or chunks without metadata."""
    return (path / _METADATA).exists()


def save_array(path: epath.Path, array: np.ndarray, chunk_rows: int = 4096) -> None:
    """Writes `array` in chunks of `chunk_rows` along the first axis, and replaces an older one.

    Its metadata come last, which makes it atomic: an object store cannot move a folder.
    """
    path.rmtree(missing_ok=True)
    chunks = [min(chunk_rows, max(len(array), 1)), *array.shape[1:]]
    layout = {"dtype": array.dtype, "shape": array.shape, "chunk_layout": ts.ChunkLayout(read_chunk_shape=chunks)}
    _open(path, open=True, create=True, assume_metadata=True, **layout).write(array).result()  # writes no metadata
    _open(path, create=True, **layout)


def load_array(path: epath.Path, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
    """Reads an array, or only some rows of it and the chunks that hold them.

    Raises:
      AuditError: naming the path, if the array is missing or corrupt.
    """
    try:
        return np.asarray(_open(path, open=True)[rows].read().result())
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise AuditError(f"{path} cannot be read ({reason}); remove its folder to make that stage again") from error


def array_layout(path: epath.Path) -> tuple[np.dtype, tuple[int, ...]]:
    """Type and shape of an array. Raises `ValueError`, naming the path, if it cannot be opened."""
    try:
        store = _open(path, open=True)
    except ValueError as error:
        raise ValueError(f"{path} is no zarr array that can be read: {str(error).splitlines()[0]}") from error
    return store.dtype.numpy_dtype, tuple(store.shape)


class ImageStore:
    """uint8 [N, H, W, C] on disk, written and read by row. Opens an array that exists, and grows it if N is larger.

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

    def __len__(self) -> int:
        return int(self._store.shape[0])

    @property
    def chunk_rows(self) -> int:
        """Images per chunk, as the array was created."""
        shape = self._store.chunk_layout.read_chunk.shape
        assert shape is not None
        assert shape[0] is not None
        return shape[0]

    def missing_chunks(self) -> list[np.ndarray]:
        """Rows of each chunk that is not on disk. TensorStore writes a chunk whole, and no chunk of zeros alone."""
        assert self._store.kvstore is not None
        written = {key.decode() for key in self._store.kvstore.list().result()}
        ends = ".0" * (self._store.rank - 1)
        chunks = np.split(np.arange(len(self)), range(self.chunk_rows, len(self), self.chunk_rows))
        return [rows for number, rows in enumerate(chunks) if f"{number}{ends}" not in written]


def fill(store: ImageStore, folder: epath.Path, sampler: Callable[[np.ndarray], ImageBatches]) -> None:
    """Writes the chunks that are not on disk. One process writes a chunk whole, so any number can resume after a kill.

    Args:
      store: its chunks are what one process generates at a time.
      folder: the stage's; its name is shown in the progress line, and its `logs` get the curves of the same numbers.
      sampler: rows -> (rows, images) batch by batch, on this process's devices alone.

    Raises:
      Preempted: between two chunks, if this process has been asked to stop.
    """
    missing = store.missing_chunks()
    barrier(f"{folder.name}: missing chunks")  # nobody writes before all have looked, so that all share out the same
    left = sum(map(len, missing))
    with Progress(folder.name, len(store), len(store) - left, logs=folder / "logs") as bar:
        for first in range(0, len(missing), jax.process_count()):
            chunks = missing[first : first + jax.process_count()]  # one for each process
            if jax.process_index() < len(chunks):
                preemption.check()
                rows = chunks[jax.process_index()]
                store.write(rows, np.concatenate([images for _, images in sampler(rows)]))
            bar.update(sum(map(len, chunks)))
