"""Arrays in files: the same numbers, and no memory."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from etils import epath

from side_jax.runtime import mapped

ROWS = np.random.default_rng(0).integers(0, 256, (9, 4, 3, 1), np.uint8)


def test_rows_come_back_one_by_one_and_in_blocks():
    for parts in (ROWS, [ROWS[:5], ROWS[5:]], [ROWS[:0], ROWS]):
        array = mapped.temporary(parts, (4, 3, 1))
        np.testing.assert_array_equal(array, ROWS)
        assert type(array) is np.ndarray and not array.flags.writeable
    assert mapped.temporary([], (4, 3, 1)).shape == (0, 4, 3, 1)
    np.testing.assert_array_equal(list(mapped.rows(array)), ROWS)


@pytest.mark.parametrize("index", [[3, 1, 1, 8], [], list(range(9)), [0, 1, 2]])
def test_taken_rows_are_those_of_an_array_in_memory(index):
    array, chosen = mapped.temporary(ROWS, (4, 3, 1)), np.array(index, int)
    for taken in (mapped.take(array, chosen), mapped.take(array[:], chosen), mapped.take(ROWS, chosen)):
        np.testing.assert_array_equal(taken, ROWS[chosen])
    assert mapped.take(array, np.arange(9)) is array


def test_file_is_an_ordinary_npy(tmp_path):
    path = epath.Path(tmp_path) / "x.npy"
    for rows in (ROWS, ROWS[:0]):
        mapped.save(path, rows)
        np.testing.assert_array_equal(np.load(path), rows)
        np.testing.assert_array_equal(mapped.load(path), rows)


def test_other_files_are_refused(tmp_path):
    path = epath.Path(tmp_path) / "x.npy"
    for array, message in ((ROWS.astype(float), "it holds float64"), (np.asfortranarray(ROWS), "it holds uint8")):
        np.save(path, array)
        with pytest.raises(ValueError, match=message):
            mapped.load(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="expected 8 bytes"):
        mapped.load(path)


@pytest.mark.given(
    kind=15, input="300 MB of pixels", before="", now="written, hashed and halved with less than 150 MiB of memory"
)
def test_a_pass_over_a_mapped_array_takes_no_memory():
    """300 MB are written, hashed and chosen from; in a process of its own, whose peak counts."""
    program = """
import numpy as np, resource
from side_jax.data.images import ImageSet, content_hashes
from side_jax.runtime.mapped import temporary
import side_jax.data.splitting
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
images = temporary((np.full((256, 256, 3), i % 256, np.uint8) for i in range(1600)), (256, 256, 3))
photos = ImageSet(images, np.zeros(1600, np.int32), tuple(map(str, range(1600))))
assert len(set(photos.hashes)) == 256
half = photos[np.arange(0, 1600, 2)]
assert content_hashes(half.images) == half.hashes
print((peak() - before) / 2**10)
"""
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    assert float(run.stdout) < 150
