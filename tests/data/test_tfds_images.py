"""TensorFlow Datasets: small ones written to disk in both kinds of format, and TFDS's mocks of the real builders."""

import io
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from side_jax.audit.dataset import DatasetOptions, load_split
from side_jax.data.images import decode
from side_jax.data.load import load_images

FORMATS = ("array_record", "tfrecord")  # with random access, and without
SIZES = ((20, 16), (9, 31), (8, 8))
TEXT = b"no image"


def photo(index):
    index = 5 if index == 105 else index  # a test photo that is a training photo too
    height, width = SIZES[index % len(SIZES)]
    image = np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG" if index % 2 else "PNG")
    return buffer.getvalue()


class Photos(tfds.core.GeneratorBasedBuilder):
    """20 encoded images in "train", of classes that alternate, and 7 in "test", one of which is none."""

    VERSION = tfds.core.Version("1.2.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=["cat", "dog"]),
            "number": np.int64,
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, manager):
        return {"train": self._generate_examples(range(20)), "test": self._generate_examples(range(100, 107))}

    def _generate_examples(self, indices):
        for i in indices:
            yield i, {"image": io.BytesIO(TEXT if i == 103 else photo(i)), "label": i % 2, "number": i}


class Waves(tfds.core.GeneratorBasedBuilder):
    """No images."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"wave": np.float32, "label": np.int64}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield 0, {"wave": 0.0, "label": 0}


def prepare(builder, root, file_format, shards=3):
    options = tfds.download.DownloadConfig(num_shards=shards)
    builder(data_dir=root, file_format=file_format).download_and_prepare(download_config=options)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The data folder of each format; the number of files differs."""
    folders = {name: str(tmp_path_factory.mktemp(name)) for name in FORMATS}
    for shards, (name, folder) in enumerate(folders.items(), 2):
        prepare(Photos, folder, name, shards)
    return folders


@pytest.mark.parametrize("split", ["train", "train[3:11]", "train[50%:]", "test[2:]+train[:4]"])
def test_both_paths_give_the_same_image_set(prepared, split):
    random, sequential = (load_images("tfds", f"photos@{split}", 8, 3, prepared[name]) for name in FORMATS)
    np.testing.assert_array_equal(random.images, sequential.images)
    np.testing.assert_array_equal(random.labels, sequential.labels)
    for field in ("ids", "hashes", "label_names", "skipped"):
        assert getattr(random, field) == getattr(sequential, field)


def test_each_format_is_read_its_own_way(prepared, monkeypatch):
    """Or the test above would compare a path with itself."""
    builder = tfds.core.DatasetBuilder
    for name, unused in (("array_record", "as_dataset"), ("tfrecord", "as_data_source")):
        with monkeypatch.context() as patch:
            if name == "array_record":
                patch.setattr(builder, unused, None)
            assert len(load_images("tfds", "photos@train", 8, 3, prepared[name])) == 20
    with pytest.raises(NotImplementedError):
        tfds.builder("photos", data_dir=prepared["tfrecord"]).as_data_source("train")


@pytest.mark.parametrize("file_format", FORMATS)
def test_ids_are_indices_in_the_whole_split(prepared, file_format):
    whole = load_images("tfds", "photos@train", 8, 3, prepared[file_format])
    assert whole.ids == tuple(f"photos/1.2.0/train#{i}" for i in range(20))
    part = load_images("tfds", "photos:1.2.0@train[-7:]", 8, 3, prepared[file_format])
    assert part.ids == whole.ids[13:]
    assert part.hashes == whole.hashes[13:]
    np.testing.assert_array_equal(part.images, whole.images[13:])


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_those_of_image_folder(prepared, tmp_path, file_format, channels):
    for i in range(20):
        (tmp_path / f"{i}.png").write_bytes(photo(i))
    files = load_images("image_folder", str(tmp_path), 8, channels)
    records = load_images("tfds", "photos@train", 8, channels, prepared[file_format])
    assert sorted(files.hashes) == sorted(records.hashes)
    labels = dict(zip(files.hashes, range(20), strict=True))
    np.testing.assert_array_equal(records.labels, [labels[name] % 2 for name in records.hashes])
    assert records.label_names == ("cat", "dog")


@pytest.mark.parametrize("file_format", FORMATS)
def test_undecodable_image_is_listed_and_skipped(prepared, file_format):
    images = load_images("tfds", "photos@test", 8, 3, prepared[file_format])
    ((name, reason),) = images.skipped
    assert len(images) == 6
    assert name not in images.ids
    assert {*images.ids, name} == {f"photos/1.2.0/test#{i}" for i in range(7)}
    assert reason == "ValueError: no image, or of an unknown format"


def split_options(prepared, path, heldout_path):
    folder = prepared["array_record"]
    return DatasetOptions("tfds", path, 8, 3, 0.0, heldout_path, folder, near_duplicate=0.98, split_seed=0)


def test_heldout_record_that_is_a_training_image_is_skipped_and_listed(prepared):
    """Nobody can remove it from a public data set; a folder's is refused (tests/audit/test_pipeline.py)."""
    split = load_split(split_options(prepared, "photos@train", "photos@test"))
    assert len(split.train) == 20
    assert len(split.heldout) == 5
    assert not set(split.heldout.hashes) & set(split.train.hashes)
    undecodable, known = split.skipped
    assert known[1] == "held out, but nearly a training image"
    assert {undecodable[0], known[0], *split.heldout.ids} == {f"photos/1.2.0/test#{i}" for i in range(7)}


def test_overlapping_slices_are_refused(prepared):
    with pytest.raises(
        ValueError,
        match=r"3 of its 8 images are training images too.*train#7 \(as photos/1.2.0/train#7\), photos.*#9\)$",
    ):
        load_split(split_options(prepared, "photos@train[:10]", "photos@train[7:15]"))


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("damage", ["cut", "missing", "promises more"])
def test_missing_or_damaged_file_is_one_line(prepared, tmp_path, file_format, damage):
    shutil.copytree(prepared[file_format], tmp_path / "copy")
    folder = tmp_path / "copy" / "photos" / "1.2.0"
    file, info = sorted(folder.glob("photos-train*"))[1], folder / "dataset_info.json"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:50])
    elif damage == "missing":
        file.unlink()
    else:
        promises = json.loads(info.read_text())
        lengths = next(split for split in promises["splits"] if split["name"] == "train")["shardLengths"]
        lengths[-1] = str(int(lengths[-1]) + 3)
        info.write_text(json.dumps(promises))
    again = r"'photos@train': .*1\.2\.0 cannot be read, .*; remove it and prepare it again$"
    with pytest.raises(ValueError, match=again) as error:
        load_images("tfds", "photos@train", 8, 3, str(tmp_path / "copy"))
    assert "\n" not in str(error.value)
    assert "{{" not in str(error.value)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("photos", r"'photos' is not NAME\[/CONFIG\]\[:VERSION\]@SPLIT, such as cifar10@train\[:1000\]"),
        ("huggingface:mnist@train", "is not NAME"),  # TFDS would download it
        ("photoz@train", r"'photoz@train': Dataset photoz not found \(tensorflow.org/datasets/catalog\)"),
        ("cifar10:9.9.9@train", "cannot be loaded at version 9.9.9, only: 3.0.2"),
        ("photos@validation", r"Unknown split 'validation'. Should be one of \['\w+', '\w+'\]$"),
        ("photos@train[15:25]", r"Requested slice \[15:25\] incompatible with 20 examples"),
        ("photos@train[5:3]", r"'train\[5:3\]' is empty"),
        ("photos@train[", r"Error parsing split 'train\['"),
        ("photos@train+train[:3]", r"'train\+train\[:3\]' names a record twice"),
        ("photos@test[3:4]", ""),
        ("waves@train", "its feature 'image' is not among wave, label; only 8 or 16-bit images can be read"),
    ],
)
def test_bad_paths_are_named_in_one_line(prepared, path, message):
    if path == "waves@train":
        prepare(Waves, prepared["array_record"], "array_record", 1)
    if path == "photos@test[3:4]":
        bad = load_images("tfds", "photos@test", 8, 3, prepared["array_record"]).skipped[0][0].partition("#")[2]
        path, message = (
            f"photos@test[{bad}:{int(bad) + 1}]",
            "none of its 1 images can be decoded, ValueError: no image",
        )
    with pytest.raises(ValueError, match=message) as error:
        load_images("tfds", path, 8, 3, prepared["array_record"])
    assert str(error.value).startswith(f"dataset.path '{path}'")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["cifar10", "celeb_a"])
def test_unprepared_data_set_says_how_to_prepare_it_and_downloads_nothing(tmp_path, name, caplog, monkeypatch):
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", None)
    with pytest.raises(ValueError, match="nothing is prepared in .*; download and prepare it with") as error:
        load_images("tfds", f"{name}@train", 32, 3, str(tmp_path))
    assert not list(tmp_path.iterdir())
    assert not caplog.records
    command = str(error.value).partition('python -c "')[2].partition('"')[0]
    seen = {}
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", lambda self: seen.update(builder=self))
    exec(command, {})
    assert seen["builder"].name == name
    assert seen["builder"].info.file_format.value == "array_record"
    assert str(seen["builder"].data_dir).startswith(str(tmp_path))


def metadata(root, name, count):
    """What TFDS writes beside the records of a real data set; its mocks read it."""
    builder = tfds.builder(name, data_dir=root)
    template = tfds.core.ShardedFileTemplate(
        dataset_name=name, data_dir=builder.data_path, filetype_suffix="array_record"
    )
    splits = [tfds.core.SplitInfo(split, [count], 0, template) for split in ("train", "test")]
    builder.info.set_splits(tfds.core.SplitDict(splits))
    builder.data_path.mkdir(parents=True)
    builder.info.write_to_directory(builder.data_path)


def without_random_access(self, split, **options):
    raise NotImplementedError(f"{split}: prepared as tfrecord")


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize(
    ("name", "version", "classes", "shape"),
    [("cifar10", "3.0.2", 10, (32, 32)), ("celeb_a", "2.1.0", 0, (218, 178))],
)
def test_the_real_builders_as_tfds_mocks_them(tmp_path, name, version, classes, shape, sequential):
    metadata(tmp_path, name, 6)
    source = without_random_access if sequential else None
    policy = tfds.testing.MockPolicy.USE_FILES
    with tfds.testing.mock_data(6, policy=policy, data_dir=str(tmp_path), as_data_source_fn=source):
        images = load_images("tfds", f"{name}@train", 16, 3)
        builder, options = tfds.builder(name), {"split": "train", "decoders": {"image": tfds.decode.SkipDecoding()}}
        if sequential:
            expected = list(tfds.as_numpy(builder.as_dataset(**options)))
        else:
            expected = [builder.as_data_source(**options)[i] for i in range(6)]
    assert images.ids == tuple(f"{name}/{version}/train#{i}" for i in range(6))
    assert len(images.label_names) == classes
    for image, label, example in zip(images.images, images.labels, expected, strict=True):
        assert Image.open(io.BytesIO(example["image"])).size == shape[::-1]
        np.testing.assert_array_equal(image, decode(example["image"], 16, 3))
        assert label == (example["label"] if classes else -1)


def test_random_access_needs_no_tensorflow(prepared):
    script = (
        "import sys; from side_jax.data.load import load_images;"
        f"print(len(load_images('tfds', 'photos@train', 8, 3, {prepared['array_record']!r})), end=' ');"
        "print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["20", "False"]
