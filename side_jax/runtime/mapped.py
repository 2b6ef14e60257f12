"""Arrays of uint8 rows in files, mapped into memory: read-only, and read from disk where they are touched.

The pages of a map that were read count as memory of the process until the system wants them back. So what passes over a
whole array takes it by `blocks`, which gives them back itself.
"""

import itertools
import math
import mmap
import tempfile
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np
from etils import epath

from side_jax.runtime.files import is_local, open_atomic

_BLOCK_BYTES = 2**20


def temporary(rows: Iterable[np.ndarray], row_shape: tuple[int, ...]) -> np.ndarray:
    """Writes rows, one by one or in blocks, to a temporary file without a name, and maps it.

    The file lies in the system's temporary folder (TMPDIR), and is gone with the last array that shows it, however the
    process ends.

    Args:
      rows: uint8 [*row_shape] or [N, *row_shape] each.
      row_shape: of one row.
    """
    with tempfile.TemporaryFile() as file:
        for block in rows:
            file.write(np.ascontiguousarray(block))
        file.flush()
        count = file.tell() // math.prod(row_shape)
        return _map(file, (count, *row_shape), 0)


def _map(file: BinaryIO, shape: tuple[int, ...], offset: int) -> np.ndarray:
    if not shape[0]:  # nothing cannot be mapped
        return np.zeros(shape, np.uint8)
    # A plain array, not a `np.memmap`: its base is the map.
    return np.asarray(np.memmap(file, np.uint8, "r", offset, shape))


def _map_of(array: np.ndarray) -> mmap.mmap | None:
    """The map that an array shows, whole or in part; None for an array in memory."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None


def _parts(array: np.ndarray, index: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Rows of an array, or all, in blocks. The pages of a map are given back after each."""
    mapped, size = _map_of(array), max(1, _BLOCK_BYTES // max(1, math.prod(array.shape[1:])))
    for start in range(0, len(array if index is None else index), size):
        chosen = slice(start, start + size)
        yield array[chosen if index is None else index[chosen]]
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):  # not everywhere: it saves memory, and no more
            mapped.madvise(mmap.MADV_DONTNEED)


def blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    """An array in blocks of rows, about 1 MB each. One that is mapped takes no memory beyond the blocks in use."""
    return _parts(array)


def rows(array: np.ndarray) -> Iterator[np.ndarray]:
    """The rows of an array, by `blocks`."""
    return itertools.chain.from_iterable(blocks(array))


def take(array: np.ndarray, index: np.ndarray) -> np.ndarray:
    """array[index]. Of a mapped array the whole is itself, and a part is mapped from a temporary file.

    Args:
      array: uint8 [N, …].
      index: int [M], positions.
    """
    if _map_of(array) is None:
        return array[index]
    if np.array_equal(index, np.arange(len(array))):
        return array
    return temporary(_parts(array, index), array.shape[1:])


def copied(array: np.ndarray, index: np.ndarray) -> np.ndarray:
    """array[index] in memory: of a mapped array no more than these rows stay there."""
    return np.concatenate([*_parts(array, index), array[:0]])


def save(path: epath.Path, array: np.ndarray) -> None:
    """Writes uint8 [N, …] as an .npy file, block by block; to a bucket too."""
    header = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": array.shape}
    with open_atomic(path) if is_local(path) else path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks(array):
            file.write(np.ascontiguousarray(block))


def load(path: epath.Path) -> np.ndarray:
    """Maps an .npy file of uint8 [N, …]. One in a bucket is first copied to a temporary file.

    Raises:
      ValueError: if it is no such file, or a part of one.
    """
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"its format is {version}")
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype != np.uint8 or fortran_order or not shape:
            raise ValueError(f"it holds {dtype} {shape}")
        if is_local(path):
            offset = file.tell()
            if path.stat().length != offset + math.prod(shape):
                raise ValueError(f"it has {path.stat().length:,} bytes, not {offset + math.prod(shape):,}")
            return _map(file, shape, offset)
        read = (np.frombuffer(data, np.uint8) for data in iter(lambda: file.read(_BLOCK_BYTES), b""))
        array = temporary(read, shape[1:])
    if array.shape != shape:
        raise ValueError(f"it has {len(array):,} rows, not {shape[0]:,}")
    return array
