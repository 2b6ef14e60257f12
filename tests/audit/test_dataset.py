"""Photos of two folders: classes by name, and nothing held out that was trained on."""

import csv
import shutil

import numpy as np
import pytest
from PIL import Image

from configs import smoke
from side_jax.audit import pipeline
from side_jax.audit.dataset import DatasetOptions, load_split
from side_jax.audit.target_files import load_target
from side_jax.evidence import null
from side_jax.runtime.declare import as_config, build


def write(folder, names, seed):
    rng = np.random.default_rng(seed)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(path)


@pytest.fixture
def folders(tmp_path):
    def make(train, heldout):
        write(tmp_path / "train", train, 0)
        write(tmp_path / "unseen", heldout, 1)
        options = DatasetOptions(
            path=str(tmp_path / "train"), heldout_path=str(tmp_path / "unseen"), heldout_fraction=0.0, image_size=16
        )
        return load_split(options)

    return make


def relabelled(split):
    train, heldout = split.strata()
    actual = np.arange(len(train) + len(heldout)) < len(train)
    return null.relabellings(actual, np.concatenate([train, heldout]), 0)


@pytest.mark.given(
    kind=4,
    input="a held-out folder with other classes",
    before="numbered anew, so a bee is an ant in membership losses",
    now="a bee has one number in both folders; a class of the held-out folder alone comes after the others",
)
def test_classes_of_the_held_out_folder_are_numbered_by_name(folders):
    split = folders(["ant/1.png", "bee/1.png", "cat/1.png"], ["bee/2.png", "dog/3.png", "4.png"])
    assert split.train.label_names == ("ant", "bee", "cat")
    assert split.heldout.label_names == ("ant", "bee", "cat", "dog")
    labels = dict(zip(split.heldout.ids, split.heldout.labels.tolist(), strict=True))
    assert labels == {"bee/2.png": 1, "dog/3.png": 3, "4.png": -1}


@pytest.mark.given(
    kind=1,
    input="training photos in class folders, held-out photos in a flat folder",
    before='90.6 % nearest is a training photo, "within 90.6 to 90.6 % … p = 1.000"',
    now="all 20 photos can change places; the least p possible is 0.0001",
)
def test_flat_held_out_photos_can_change_places_with_those_of_class_folders(folders):
    """What ended in p = 1 and "no sign of copying", whatever the target copied."""
    split = folders([f"{c}/{i}.png" for c in "ab" for i in range(5)], [f"{i}.png" for i in range(10)])
    labels = relabelled(split)
    assert (labels.relabelled, labels.reason) == (20, None)
    assert labels.least_p == pytest.approx(1e-4)


@pytest.mark.given(
    kind=1,
    input="class folders of which training and held-out photos share one",
    before="class numbers come from each folder by itself",
    now="photos of the shared class change places with each other, and so do all others",
)
def test_shared_classes_keep_their_counts(folders):
    split = folders([f"{c}/{i}.png" for c in "ab" for i in range(5)], [f"{c}/{i}.png" for c in "bz" for i in range(5)])
    train, heldout = split.strata()
    assert set(train[:5]) == set(heldout[5:]) == {3}
    assert set(train[5:]) == set(heldout[:5]) == {1}


@pytest.mark.given(
    kind=1, input="a folder link `a/loop -> ..` beside four photos", before="164 images, each 41 times", now="4 images"
)
@pytest.mark.given(
    kind=5, input="a link to a folder above", before="read many times, without a word", now="followed once"
)
def test_a_link_that_leads_upwards_is_followed_once(tmp_path):
    write(tmp_path / "photos", [f"a/{i}.png" for i in range(4)], 0)
    (tmp_path / "photos" / "a" / "loop").symlink_to(tmp_path / "photos")
    split = load_split(DatasetOptions(path=str(tmp_path / "photos"), heldout_fraction=0.5, image_size=16))
    ids = split.train.ids + split.heldout.ids
    assert sorted(ids) == [f"a/{i}.png" for i in range(4)]


@pytest.mark.given(kind=5, input="a class folder that is a link", before="", now="its photos are read")
def test_linked_class_folders_are_read(tmp_path):
    write(tmp_path / "elsewhere", [f"{i}.png" for i in range(4)], 0)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a").symlink_to(tmp_path / "elsewhere")
    split = load_split(DatasetOptions(path=str(tmp_path / "photos"), heldout_fraction=0.0, image_size=16))
    assert split.train.ids == tuple(f"a/{i}.png" for i in range(4))


def options(tmp_path, **fields):
    fields = {"path": str(tmp_path / "train"), "image_size": 16, "heldout_fraction": 0.0} | fields
    return build(DatasetOptions, as_config(DatasetOptions()).to_dict() | fields, "dataset")


@pytest.mark.given(
    kind=4,
    input="a held-out folder with fewer classes, in `natural`, `string` or given order",
    before="numbered anew",
    now="both folders have the numbers of the training folder",
)
def test_both_folders_have_one_order_of_classes(tmp_path):
    """What numbered a bee as an ant: UNSEEN has fewer classes, in another order."""
    write(tmp_path / "train", [f"{k}/a.png" for k in (1, 2, 10)], 0)
    write(tmp_path / "unseen", ["10/b.png", "2/b.png"], 1)
    unseen = str(tmp_path / "unseen")
    for order, names in (("natural", "1 2 10"), ("string", "1 10 2"), (("2", "1", "10"), "2 1 10")):
        split = load_split(options(tmp_path, heldout_path=unseen, class_order=order))
        assert split.train.label_names == split.heldout.label_names == tuple(names.split())
        labels = dict(zip(split.heldout.ids, split.heldout.labels, strict=True))
        assert {name: names.split()[k] for name, k in labels.items()} == {"2/b.png": "2", "10/b.png": "10"}


@pytest.mark.given(
    kind=14,
    input="one identity_CelebA.txt for the training and the held-out folder",
    before="",
    now="both have its classes, with the same numbers",
)
def test_one_table_has_the_classes_of_both_folders(tmp_path):
    write(tmp_path / "train", ["1.png", "2.png"], 0)
    write(tmp_path / "unseen", ["3.png", "4.png"], 1)
    table = tmp_path / "identity_CelebA.txt"
    table.write_text("1.png 7\n2.png 12\n3.png 12\n4.png 5\n9.png 7\n")
    split = load_split(options(tmp_path, heldout_path=str(tmp_path / "unseen"), labels=str(table)))
    assert split.train.label_names == ("7", "12")
    assert split.train.labels.tolist() == [0, 1]
    assert split.heldout.label_names == ("7", "12", "5")
    assert split.heldout.labels.tolist() == [1, 2]


def test_photos_of_both_folders_are_prepared_and_counted_alike(tmp_path):
    for folder, seed in (("train", 0), ("unseen", 1)):
        write(tmp_path / folder, [f"{i}.png" for i in range(3)], seed)
        image = np.random.default_rng(seed).integers(0, 256, (16, 24, 3), np.uint8)
        Image.fromarray(image).save(tmp_path / folder / "wide.png")
    made = options(tmp_path, heldout_path=str(tmp_path / "unseen"), resize="stretch")
    split = load_split(made)
    assert split.traits == {"not square (dataset.resize)": 2}
    whole = load_split(options(tmp_path, heldout_fraction=0.5, prepare="diffusers"))
    assert whole.traits == {"not square (dataset.resize)": 1}
    for photos, folder in ((split.train, "train"), (split.heldout, "unseen")):
        wide = Image.open(tmp_path / folder / "wide.png").resize((16, 16), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(photos.images[photos.ids.index("wide.png")], np.asarray(wide))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param(
            {"prepare": "torch"},
            "dataset.prepare must be one of side_jax, diffusers, guided_diffusion, got 'torch'",
            marks=pytest.mark.given(
                kind=0,
                input="a recipe that does not exist",
                before="",
                now="\"dataset.prepare must be one of side_jax, diffusers, guided_diffusion, got 'torch'\"",
            ),
        ),
        ({"resize": "crop"}, "dataset.resize must be one of '', crop_first, short_side, halving, stretch, got 'crop'"),
        ({"white": -1.0}, "dataset.white must be at least 0"),
        ({"class_order": "alphabet"}, "dataset.class_order must be one of natural, string, prefix or the names"),
        ({"class_order": (1, 2)}, r"dataset.class_order must be str \| tuple"),
        ({"class_order": "prefix", "labels": "t.csv"}, "both say which class a photo has"),
        ({"name": "npz", "background": "black"}, r"dataset.prepare='side_jax' with {'background': 'black'} is for"),
    ],
)
def test_what_decides_pixels_and_classes_is_checked_first(tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        options(tmp_path, **fields)


def with_repeats(tmp_path, count):
    """A config whose held-out folder has `count` of its 14 photos from the training folder."""
    write(tmp_path / "train", [f"{i}.png" for i in range(14)], 0)
    write(tmp_path / "unseen", [f"{i}.png" for i in range(14 - count)], 1)
    for i in range(count):
        shutil.copy(tmp_path / "train" / f"{i}.png", tmp_path / "unseen" / f"copy, {i}.png")
    config = smoke.get_config()
    paths = {"path": str(tmp_path / "train"), "heldout_path": str(tmp_path / "unseen")}
    config.dataset.update(paths | {"name": "image_folder", "heldout_fraction": 0.0})
    return config


@pytest.mark.given(
    kind=13,
    input="held-out photos that were trained on",
    before="named one of n",
    now="up to ten are named; of more, WORKDIR-near_duplicates.csv has all",
)
def test_held_out_photos_that_were_trained_on_are_all_listed(tmp_path):
    """Up to ten in the message; of more, which were named one of n, a table beside the workdir has all."""
    with pytest.raises(ValueError, match="2 of its 14 images are training images too") as error:
        pipeline.prepare(with_repeats(tmp_path / "few", 2), tmp_path / "run")
    assert "copy, 0.png (as 0.png), copy, 1.png (as 1.png)" in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["few"]
    with pytest.raises(ValueError, match="12 of its 14 .*run-near_duplicates.csv has them all") as error:
        pipeline.prepare(with_repeats(tmp_path / "many", 12), tmp_path / "run")
    assert "\n" not in str(error.value)
    with (tmp_path / "run-near_duplicates.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["held_out", "training"]
    assert sorted(rows[1:]) == sorted([f"copy, {i}.png", f"{i}.png"] for i in range(12))
    assert not (tmp_path / "run").exists()


@pytest.mark.given(
    kind=13, input="a run without held-out photos", before="starts silently", now="begins with a warning"
)
@pytest.mark.parametrize("fraction", [0.0, 0.5])
def test_a_run_without_held_out_photos_says_so_at_its_start(tmp_path, caplog, monkeypatch, fraction):
    config = smoke.get_config()
    config.dataset.heldout_fraction = fraction
    monkeypatch.setattr(pipeline, "_run", lambda step: None)
    pipeline.run(config, tmp_path / "run")
    warnings = [record.message for record in caplog.records if "held out" in record.message]
    assert len(warnings) == (fraction == 0)


@pytest.mark.given(
    kind=9,
    input="the workdir is the model's own folder",
    before="RecursionError, and a model that could not be loaded afterwards",
    now="refused: choose a folder outside",
)
def test_workdir_among_the_photos_or_in_the_place_of_the_model_is_refused(tmp_path):
    write(tmp_path / "photos", [f"a/{i}.png" for i in range(8)], 0)
    config = smoke.get_config()
    config.dataset.update({"name": "image_folder", "path": str(tmp_path / "photos")})
    config.target.update({"source": "load", "path": str(tmp_path / "model")})
    for place, field in (("photos/run", "dataset.path"), ("model", "target.path")):
        with pytest.raises(ValueError, match=f"is or lies in {field} .*; choose a folder outside"):
            pipeline.prepare(config, tmp_path / place)
    assert {path.name for path in tmp_path.iterdir()} == {"photos"}


@pytest.mark.given(
    kind=10,
    input="a name on a hub as target.path; ~/photos",
    before="does not exist",
    now="nothing is downloaded: `hf download NAME`; write the folder out, as ~ is a word of the shell",
)
def test_name_on_a_hub_and_a_home_that_no_shell_expanded_say_what_to_do():
    with pytest.raises(ValueError, match="does not exist; nothing is downloaded: `hf download google/ddpm-cifar10-32 "):
        load_target("google/ddpm-cifar10-32")
    with pytest.raises(ValueError, match="does not exist; write .*/photos, as ~ is a word of the shell"):
        load_split(DatasetOptions(path="~/photos"))
