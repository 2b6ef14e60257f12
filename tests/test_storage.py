"""A workdir in a bucket, against a server on loopback."""

import numpy as np
import pytest
from etils import epath

from side_jax import artifacts
from side_jax.arrays import ImageStore, array_exists, load_array, save_array
from side_jax.artifacts import AuditError
from side_jax.extraction import parts
from side_jax.scalars import ScalarLog
from side_jax.surrogate.classifier import load_variables, save_variables
from tests.servers import gcs_server


@pytest.fixture(scope="module")
def bucket():
    with gcs_server() as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield epath.Path("gs://audits")


@pytest.fixture(params=["local", "gs"])
def folder(request, tmp_path):
    return epath.Path(tmp_path) if request.param == "local" else request.getfixturevalue("bucket") / tmp_path.name


def test_files_are_written_whole_and_replaced(folder):
    for content in ({"a": 1}, {"a": [1, 2]}):
        artifacts.write_json(folder / "deep" / "file.json", content)
        assert artifacts.read_json(folder / "deep" / "file.json") == content
    assert [path.name for path in (folder / "deep").iterdir()] == ["file.json"]
    artifacts.write_bytes(folder / "bytes", b"\0" * 10)
    assert artifacts.file_hash(folder / "bytes", 8) == "01d448af"


def test_array_is_read_back_and_replaced(folder):
    for rows in (9, 4):
        array = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
        save_array(folder / "x.zarr", array, chunk_rows=4)
        np.testing.assert_array_equal(load_array(folder / "x.zarr"), array)
    assert {path.name for path in (folder / "x.zarr").iterdir()} == {".zarray", "0.0"}
    save_array(folder / "none.zarr", np.zeros((0, 3), np.float32))
    assert load_array(folder / "none.zarr").shape == (0, 3)


def test_array_without_its_end_is_absent(folder):
    save_array(folder / "x.zarr", np.ones((9, 3), np.float32), chunk_rows=4)
    (folder / "x.zarr" / ".zarray").unlink()  # the last that is written
    assert (folder / "x.zarr").exists()
    assert not array_exists(folder / "x.zarr")
    with pytest.raises(AuditError, match=r"x.zarr cannot be read .*remove its folder"):
        load_array(folder / "x.zarr")


def test_image_store_grows_and_is_opened_again(folder):
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 1), np.uint8)
    ImageStore(folder / "images.zarr", 4, (4, 4, 1), 2).write(np.arange(3), images[:3])
    ImageStore(folder / "images.zarr", 6, (4, 4, 1), 2).write(np.arange(3, 6), images[3:])
    np.testing.assert_array_equal(ImageStore(folder / "images.zarr", 6, (4, 4, 1), 2).read(np.arange(6)), images)


def test_damaged_part_is_made_again(folder):
    columns = {name: [None] * 2 for name in parts.SCHEMA.names} | {"index": np.arange(2)}
    scale = parts.scale_folder(folder, 2.0)
    parts.write_part(scale, columns, {})
    assert parts.read_parts(scale)["index"].to_pylist() == [0, 1]
    (part,) = scale.glob("part-*")
    part.write_bytes(part.read_bytes()[:-1])
    assert len(parts.read_parts(scale)) == 0
    assert not part.exists()


def test_variables_and_curves_are_kept(folder):
    for value in (1.0, 2.0):
        save_variables(folder, {"params": {"kernel": np.full((3, 2), value, np.float32)}})
        np.testing.assert_array_equal(load_variables(folder)["params"]["kernel"], np.full((3, 2), value))
    log = ScalarLog(folder / "logs")
    log.write_scalars(1, {"loss": 0.5})
    log.close()
    (events,) = (folder / "logs").iterdir()
    assert b"loss" in events.read_bytes()
