"""Photos of two folders: classes by name, and nothing held out that was trained on."""

import numpy as np
import pytest
from PIL import Image

from side_jax.audit.dataset import DatasetOptions, load_split
from side_jax.evidence import null


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


def test_classes_of_the_held_out_folder_are_numbered_by_name(folders):
    split = folders(["ant/1.png", "bee/1.png", "cat/1.png"], ["bee/2.png", "dog/3.png", "4.png"])
    assert split.train.label_names == ("ant", "bee", "cat")
    assert split.heldout.label_names == ("ant", "bee", "cat", "dog")
    labels = dict(zip(split.heldout.ids, split.heldout.labels.tolist(), strict=True))
    assert labels == {"bee/2.png": 1, "dog/3.png": 3, "4.png": -1}


def test_flat_held_out_photos_can_change_places_with_those_of_class_folders(folders):
    """What ended in p = 1 and "no sign of copying", whatever the target copied."""
    split = folders([f"{c}/{i}.png" for c in "ab" for i in range(5)], [f"{i}.png" for i in range(10)])
    labels = relabelled(split)
    assert (labels.relabelled, labels.reason) == (20, None)
    assert labels.least_p == pytest.approx(1e-4)


def test_shared_classes_keep_their_counts(folders):
    split = folders([f"{c}/{i}.png" for c in "ab" for i in range(5)], [f"{c}/{i}.png" for c in "bz" for i in range(5)])
    train, heldout = split.strata()
    assert set(train[:5]) == set(heldout[5:]) == {3}
    assert set(train[5:]) == set(heldout[:5]) == {1}


def test_a_link_that_leads_upwards_is_followed_once(tmp_path):
    write(tmp_path / "photos", [f"a/{i}.png" for i in range(4)], 0)
    (tmp_path / "photos" / "a" / "loop").symlink_to(tmp_path / "photos")
    split = load_split(DatasetOptions(path=str(tmp_path / "photos"), heldout_fraction=0.5, image_size=16))
    ids = split.train.ids + split.heldout.ids
    assert sorted(ids) == [f"a/{i}.png" for i in range(4)]


def test_linked_class_folders_are_read(tmp_path):
    write(tmp_path / "elsewhere", [f"{i}.png" for i in range(4)], 0)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a").symlink_to(tmp_path / "elsewhere")
    split = load_split(DatasetOptions(path=str(tmp_path / "photos"), heldout_fraction=0.0, image_size=16))
    assert split.train.ids == tuple(f"a/{i}.png" for i in range(4))
