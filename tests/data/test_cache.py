"""Photos are decoded once per workdir, and a workdir never gives another picture than decoding would."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
from etils import epath
from PIL import Image

from side_jax.audit import dataset
from side_jax.audit.dataset import DatasetOptions, keep, load_split
from side_jax.data import cache
from side_jax.data.images import ImageSet


def photo(path, seed):
    """24 × 16 pixels, uncompressed: every photo has the same size in bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 24, 3), np.uint8)).save(path, "BMP")


@pytest.fixture
def audit(tmp_path):
    """(options, workdir) of ten photos, one of them twice, and a text."""
    for i in range(10):
        photo(tmp_path / "photos" / f"{'ab'[i % 2]}" / f"{i}.bmp", i)
    photo(tmp_path / "photos" / "b" / "copy.bmp", 4)
    (tmp_path / "photos" / "notes.txt").write_text("no photo")
    (tmp_path / "runs").mkdir()
    return DatasetOptions(path=str(tmp_path / "photos"), image_size=16), epath.Path(tmp_path / "runs" / "audit")


def assert_same(split, wanted):
    """Every field, but for those that say how they were read."""
    for field in dataclasses.fields(split):
        one, other = getattr(split, field.name), getattr(wanted, field.name)
        if isinstance(one, ImageSet):
            assert_same(one, other)
        elif field.name not in ("key", "folder"):
            np.testing.assert_array_equal(one, other)
            assert type(one) is type(other)
            assert getattr(one, "dtype", None) == getattr(other, "dtype", None)


def start(options, workdir):
    return keep(load_split(options, workdir), workdir)


@pytest.mark.given(
    kind=15,
    input="a second start in the same workdir",
    before="",
    now="nothing is decoded; pixels, groups of near-duplicates and hashes are the same",
)
def test_second_start_decodes_nothing(audit, monkeypatch):
    options, workdir = audit
    assert load_split(options, workdir).folder == ""
    first = start(options, workdir)
    monkeypatch.delattr(dataset, "load_images")
    second = start(options, workdir)
    assert first.folder == second.folder == str(workdir / "photos")
    monkeypatch.undo()
    assert_same(second, load_split(options))
    assert second.skipped == (("notes.txt", "ValueError: no image, or of an unknown format"),)
    assert second.train.label_names == ("a", "b")
    assert len(set(second.groups.tolist())) == 10
    with pytest.raises(ValueError, match="read-only"):
        second.train.images[0] = 0


def test_held_out_folder_is_kept_too(audit, tmp_path):
    options, workdir = audit
    for i in range(3):
        photo(tmp_path / "unseen" / "b" / f"{i}.bmp", 100 + i)
    options = dataclasses.replace(options, heldout_fraction=0.0, heldout_path=str(tmp_path / "unseen"))
    start(options, workdir)
    assert_same(start(options, workdir), load_split(options))
    photo(tmp_path / "unseen" / "b" / "3.bmp", 103)
    assert len(start(options, workdir).heldout) == 4


def test_nothing_held_out_is_kept(audit):
    options, workdir = dataclasses.replace(audit[0], heldout_fraction=0.0), audit[1]
    start(options, workdir)
    second = start(options, workdir)
    assert second.folder
    assert_same(second, load_split(options))


def added(folder):
    photo(folder / "a" / "new.bmp", 11)


def removed(folder):
    (folder / "b" / "1.bmp").unlink()


def renamed(folder):
    (folder / "a" / "0.bmp").rename(folder / "b" / "0.bmp")


def changed(folder):
    photo(folder / "a" / "0.bmp", 12)


@pytest.mark.given(
    kind=0,
    input="a cache of another listing",
    before="",
    now='"… photos is not used (it holds other photos, or photos that were read otherwise)", and decodes again',
)
@pytest.mark.parametrize("change", [added, removed, renamed, changed])
def test_other_photos_are_decoded_again(audit, change, caplog):
    options, workdir = audit
    start(options, workdir)
    change(epath.Path(options.path))
    split = load_split(options, workdir)
    assert split.folder == ""
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{workdir}/photos is not used (it holds other photos, or photos that were read otherwise): the photos are"
        " decoded again"
    )
    assert_same(keep(split, workdir), load_split(options))
    assert load_split(options, workdir).folder


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(DatasetOptions)])
def test_every_option_counts(audit, field):
    """New ones too: none is listed by hand."""
    options, other = audit[0], {"name": "orl", "path": audit[0].path + "/a", "heldout_path": audit[0].path + "/b"}
    other["labels"] = audit[0].path + "/a/0.bmp"
    changed = dataclasses.replace(options, **{field: other.get(field, ("another value",))})
    assert dataset._key(changed) != dataset._key(options) == dataset._key(dataclasses.replace(options))


def test_links_count_by_what_they_lead_to(audit, tmp_path):
    """One leads upwards, one nowhere."""
    options, folder, linked = audit[0], epath.Path(audit[0].path), tmp_path / "linked.bmp"
    photo(linked, 20)
    for name, to in (("a/up", folder), ("a/nowhere", tmp_path / "gone"), ("a/11.bmp", linked)):
        os.symlink(to, folder / name)
    before = dataset._key(options)
    assert dataset._key(options) == before
    photo(linked, 21)
    assert dataset._key(options) != before


@pytest.mark.parametrize("column", ["", ":Male"])
def test_table_of_classes_counts(audit, tmp_path, column):
    labels = tmp_path / "labels.csv"
    labels.write_text("a")
    options = dataclasses.replace(audit[0], labels=f"{labels}{column}")
    before = dataset._key(options)
    labels.write_text("other")
    assert dataset._key(options) != before


def test_folder_that_is_named_like_a_choice_does_not_count(audit, tmp_path, monkeypatch):
    """Such as side_jax, the recipe, in a checkout: every file that Python compiled made photos be decoded again."""
    monkeypatch.chdir(tmp_path)
    before = dataset._key(audit[0])
    os.mkdir(audit[0].prepare)
    (tmp_path / audit[0].prepare / "compiled.pyc").touch()
    assert dataset._key(audit[0]) == before


def flip_a_bit(folder):
    """Without a trace in size and time."""
    path = folder / "train.npy"
    stat, data = os.stat(path), bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(bytes(data))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def edit(change):
    def damage(folder):
        stored = json.loads((folder / "photos.json").read_text())
        change(stored)
        (folder / "photos.json").write_text(json.dumps(stored))

    return damage


def cut(name):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-10])


DAMAGES = {
    "a bit": flip_a_bit,
    "no pixels": lambda folder: (folder / "heldout.npy").unlink(),
    "pixels cut": cut("train.npy"),
    "other pixels": lambda folder: shutil.copy(folder / "train.npy", folder / "heldout.npy"),
    "pixels longer": lambda folder: (folder / "train.npy").write_bytes((folder / "train.npy").read_bytes() + b"x"),
    "record cut": cut("photos.json"),
    "record no object": lambda folder: (folder / "photos.json").write_text("[]"),
    "record not text": lambda folder: (folder / "photos.json").write_bytes(b"\xff"),
    "label": edit(lambda stored: stored["content"]["train"]["labels"]["values"].reverse()),
    "ids": edit(lambda stored: stored["content"]["train"]["ids"].pop()),
}


@pytest.mark.given(
    kind=15,
    input="damaged files in WORKDIR/photos",
    before="",
    now="they are not used, which a warning says, and are made again",
)
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_cache_is_made_again(audit, damage, caplog):
    options, workdir = audit
    start(options, workdir)
    damage(workdir / "photos")
    split = load_split(options, workdir)
    assert split.folder == ""
    (record,) = caplog.records
    assert "photos is not used (" in record.getMessage() and "\n" not in record.getMessage()
    assert_same(keep(split, workdir), load_split(options))
    assert load_split(options, workdir).folder


def test_cache_without_its_record_is_none(audit, caplog):
    """What a kill leaves behind: the record is written last, and removed first."""
    options, workdir = audit
    start(options, workdir)
    (workdir / "photos" / "photos.json").unlink()
    assert load_split(options, workdir).folder == "" and not caplog.records


def test_workdir_beside_is_looked_into(audit, caplog):
    """`--force_new` names the one workdir, and works in the other."""
    options, workdir = audit
    start(dataclasses.replace(options, image_size=8), workdir)
    beside = workdir.parent / "audit-0123456789abcdef"
    start(options, beside)
    caplog.clear()
    assert load_split(options, workdir).folder == str(beside / "photos") and not caplog.records


def test_value_that_cannot_be_kept_is_refused(audit):
    split = load_split(audit[0], audit[1])
    for value in ({1, 2}, (epath.Path("x"),), split.train):
        with pytest.raises(TypeError, match="which their cache cannot keep"):
            cache.write(audit[1] / "photos", dataclasses.replace(split, skipped=value))


def test_mappings_and_nested_tuples_survive(audit):
    split, folder = load_split(audit[0], audit[1]), audit[1] / "photos"
    value = {"exif": 3, 2: (("a", None), 0.5), "empty": ()}
    cache.write(folder, dataclasses.replace(split, skipped=value))
    assert cache.find([folder], split.key).skipped == value
