import numpy as np
import pytest
from etils import epath

from side_jax.runtime import preemption
from side_jax.runtime.arrays import ImageStore, fill, load_array

SHAPE = (2, 2, 1)


class Killed(BaseException):
    """A kill that no handler in the library may swallow."""


def image(rows):
    return np.broadcast_to((np.asarray(rows, np.uint8) + 1)[:, None, None, None], (len(rows), *SHAPE))


def sampler(asked, batch_size=4, killed_at=None):
    """Images of one grey each, in batches; dies at an image."""

    def batches(rows):
        asked.append(rows.tolist())
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            if killed_at in batch:
                raise Killed
            yield batch, image(batch)

    return batches


def make(folder, rows=4):
    return ImageStore(folder / "images.zarr", 10, SHAPE, rows)


@pytest.mark.parametrize("killed_at", [0, 5, 6, 9])
def test_array_that_was_killed_is_filled_from_the_chunk_where_it_stopped(tmp_path, killed_at):
    """A chunk of several batches too: half of one is never on disk."""
    folder, chunks = epath.Path(tmp_path), [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    with pytest.raises(Killed):
        fill(make(folder), folder, sampler([], batch_size=2, killed_at=killed_at))
    asked = []
    fill(make(folder), folder, sampler(asked, batch_size=2))
    assert asked == chunks[killed_at // 4 :]
    np.testing.assert_array_equal(load_array(folder / "images.zarr"), image(range(10)))
    fill(make(folder), folder, sampler(asked))
    assert asked == chunks[killed_at // 4 :]


def test_chunks_stay_as_the_array_was_created(tmp_path):
    """Another number of processes or devices goes on in the same units, so that no two ever write to one chunk."""
    folder, asked = epath.Path(tmp_path), []
    make(folder, rows=4)
    store = make(folder, rows=2)
    assert store.chunk_rows == 4
    fill(store, folder, sampler(asked))
    assert asked == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_array_stops_between_two_chunks_when_asked_to(tmp_path, monkeypatch):
    folder, asked = epath.Path(tmp_path), []
    monkeypatch.setattr(preemption, "requested", lambda: len(asked) == 2)
    with pytest.raises(preemption.Preempted):
        fill(make(folder), folder, sampler(asked))
    assert [rows[0] for rows in make(folder).missing_chunks()] == [8]
