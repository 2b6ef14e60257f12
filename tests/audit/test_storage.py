"""A workdir in a bucket, against a server on loopback."""

import time

import jax
import numpy as np
import pytest
from etils import epath

import side_jax
from side_jax.audit import dataset, pipeline
from side_jax.audit.dataset import DatasetOptions, keep, load_split
from side_jax.audit.lock import LOCK
from side_jax.data import cache
from side_jax.matching import parts
from side_jax.matching.descriptor import DescriptorFacts
from side_jax.runtime import files
from side_jax.runtime.arrays import ImageStore, array_exists, load_array, save_array
from side_jax.runtime.files import AuditError
from side_jax.runtime.progress import ScalarLog
from side_jax.surrogate.classifier import load_variables, save_variables
from tests.audit.test_pipeline import assert_same_results, smoke_config
from tests.servers import gcs_server
from tests.test_killed import start


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
        files.write_json(folder / "deep" / "file.json", content)
        assert files.read_json(folder / "deep" / "file.json") == content
    assert [path.name for path in (folder / "deep").iterdir()] == ["file.json"]
    files.write_bytes(folder / "bytes", b"\0" * 10)
    assert files.file_hash(folder / "bytes", 8) == "01d448af"


def test_bucket_that_is_gone_in_the_middle_of_a_run_is_one_line(bucket):
    with pytest.raises(AuditError, match=r"gs://gone/file.json cannot be written \(.*\); the same command resumes"):
        files.write_json(epath.Path("gs://gone/file.json"), {})


def test_array_is_read_back_and_replaced(folder):
    for rows in (9, 4):
        array = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
        save_array(folder / "x.zarr", array, chunk_rows=4)
        np.testing.assert_array_equal(load_array(folder / "x.zarr"), array)
    assert {path.name for path in (folder / "x.zarr").iterdir()} == {".zarray", "0.0"}
    save_array(folder / "none.zarr", np.zeros((0, 3), np.float32))
    assert load_array(folder / "none.zarr").shape == (0, 3)


def test_photos_are_kept_and_read_back(folder, monkeypatch):
    """In a bucket, a later start copies them to a temporary file instead of decoding them."""
    options, workdir = DatasetOptions(name="orl", image_size=16, channels=1), folder / "audit"
    decoded = load_split(options, workdir)
    kept = keep(decoded, workdir)
    assert kept.folder == ("" if str(folder).startswith("gs://") else str(workdir / "photos"))
    monkeypatch.delattr(dataset, "load_images")
    again = load_split(options, workdir)
    assert again.folder == str(workdir / "photos")
    for one, other in ((again.train, decoded.train), (again.heldout, decoded.heldout)):
        np.testing.assert_array_equal(one.images, other.images)
        assert (one.ids, one.hashes) == (other.ids, other.hashes)
    whole = (workdir / "photos" / "heldout.npy").read_bytes()
    for damaged in (whole[:-256], whole[:-300], b"", whole[:-1] + b"\0"):
        (workdir / "photos" / "heldout.npy").write_bytes(damaged)
        assert cache.find([workdir / "photos"], again.key) is None


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
    np.testing.assert_array_equal(load_array(folder / "images.zarr"), images)


def test_damaged_part_is_made_again(folder):
    columns = {name: [None] * 2 for name in parts.SCHEMA.names} | {"index": np.arange(2)}
    scale = parts.scale_folder(folder, 2.0)
    parts.write_part(scale, columns, DescriptorFacts("pixel"))
    assert parts.read_parts(scale)["index"].to_pylist() == [0, 1]
    (part,) = scale.glob("part-*")
    part.write_bytes(part.read_bytes()[:-1])
    assert len(parts.read_parts(scale)) == 0
    assert parts.drop_damaged(scale) == 1
    assert not parts.covered(scale, 2).any()


def test_variables_and_curves_are_kept(folder):
    for value in (1.0, 2.0):
        save_variables(folder, {"params": {"kernel": np.full((3, 2), value, np.float32)}})
        np.testing.assert_array_equal(load_variables(folder)["params"]["kernel"], np.full((3, 2), value))
    log = ScalarLog(folder / "logs")
    log.write_scalars(1, {"loss": 0.5})
    log.close()
    (events,) = (folder / "logs").iterdir()
    assert b"loss" in events.read_bytes()


@pytest.mark.parametrize(
    ("workdir", "environment", "message"),
    [
        ("gs://nowhere/run", {}, "404 .*check that the bucket exists"),
        ("gs://audits/run", {"STORAGE_EMULATOR_HOST": "http://127.0.0.1:1"}, "Connection refused"),
        (
            "gs://audits/run",
            {"STORAGE_EMULATOR_HOST": None, "GOOGLE_APPLICATION_CREDENTIALS": "no/such.json"},
            "no/such.json was not found.*GOOGLE_APPLICATION_CREDENTIALS",
        ),
        ("s3://audits/run", {}, "Orbax writes no checkpoints to s3://; use a local folder or gs://"),
    ],
)
def test_bucket_out_of_reach_is_one_line_before_any_compute(bucket, monkeypatch, workdir, environment, message):
    for name, value in environment.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    with pytest.raises(ValueError, match=rf"^workdir '{workdir}'.*{message}") as error:
        pipeline.prepare(smoke_config(), workdir)
    assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.optax
def test_run_in_a_bucket_killed_and_resumed_equals_a_local_run(bucket, tmp_path):
    """Killed in every stage; the last command finishes. Then nothing is left to do, and the bucket can be read from."""
    local = start(tmp_path / "local")
    _, error = local.communicate(timeout=900)
    assert local.returncode == 0, error
    workdir = bucket / "runs" / "smoke"
    for stage in ("target", "synthetic", "labels", "classifier", "extract"):
        process = start(workdir)
        while not (workdir / stage / files.SPEC).exists():
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.05)
        time.sleep(2 * (stage in ("target", "labels", "classifier")))  # into the training
        process.kill()
        process.communicate()
    last = start(workdir)
    out, error = last.communicate(timeout=900)
    assert last.returncode == 0, error
    assert out == f"report: {workdir / 'report.html'}\n"
    assert "watching" not in error  # the kernel knows that the killed run is gone
    (tmp_path / "copy").mkdir()
    for name in ("matches.parquet", "metrics.json"):
        (tmp_path / "copy" / name).write_bytes((workdir / name).read_bytes())
    assert_same_results(tmp_path / "copy", tmp_path / "local")
    assert not (workdir / LOCK).exists()
    assert all(step.complete for step in pipeline.plan(pipeline.prepare(smoke_config(), workdir)))
    ours, theirs = (side_jax.load_target(root).params for root in (workdir, tmp_path / "local"))
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_array_equal(one, other)
    assert side_jax.load_classifier(workdir).net.num_classes == 40
