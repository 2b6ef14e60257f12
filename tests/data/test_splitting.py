import numpy as np
import pytest

from side_jax.data import splitting
from side_jax.data.images import ImageSet
from side_jax.data.load import load_images
from side_jax.data.splitting import Split, near_duplicate_groups, split_images


@pytest.fixture(scope="module")
def faces():
    return load_images("orl", None, 32, 1)


def test_split_is_a_partition_by_seed_and_even_in_every_class(faces):
    split = split_images(faces, 0.5, 0.98, 0)
    assert set(split.train.ids) | set(split.heldout.ids) == set(faces.ids)
    assert not set(split.train.ids) & set(split.heldout.ids)
    np.testing.assert_array_equal(np.bincount(split.train.labels), np.full(40, 5))
    assert split_images(faces, 0.5, 0.98, 0).train.ids == split.train.ids
    assert split_images(faces, 0.5, 0.98, 1).train.ids != split.train.ids


@pytest.mark.parametrize("seed", range(5))
def test_near_duplicates_stay_on_one_side(faces, seed):
    split = split_images(faces, 0.5, 0.97, seed)
    groups = dict(zip(faces.ids, near_duplicate_groups(faces.images, 0.97), strict=True))
    assert len(set(groups.values())) < 400
    assert not {groups[i] for i in split.train.ids} & {groups[i] for i in split.heldout.ids}


def test_groups_are_connected_components(image_set):
    images = image_set(4, size=32).images.copy()
    images[2] = images[0]
    groups = near_duplicate_groups(images, 0.99)
    assert groups[0] == groups[2]
    assert len(set(groups)) == 3


def test_groups_are_numbered_by_their_first_image_across_blocks(monkeypatch):
    """Chains that only later blocks close; the numbering decides the split and the relabellings."""
    monkeypatch.setattr(splitting, "_BLOCK", 4)
    rng = np.random.default_rng(0)
    scenes = rng.integers(0, 256, (6, 32, 32, 1), np.uint8)
    chosen = np.array([5, 1, 2, 1, 0, 5, 3, 2, 5, 0, 4, 3, 1])
    groups = near_duplicate_groups((scenes[i] for i in chosen), 0.99)
    np.testing.assert_array_equal(groups, [0, 1, 2, 1, 3, 0, 4, 2, 0, 3, 5, 4, 1])
    fading = np.array([np.clip(rng.normal(128, 40, (32, 32, 1)), 0, 255)] * 9)
    for i in range(1, 9):  # each resembles its neighbours, and the ends do not resemble each other
        fading[i] = np.clip(fading[i - 1] + rng.normal(0, 12, (32, 32, 1)), 0, 255)
    order = rng.permutation(9)
    assert len(set(near_duplicate_groups(fading[order].astype(np.uint8), 0.94))) == 1
    assert len(set(near_duplicate_groups(fading[[0, 8]].astype(np.uint8), 0.94))) == 2


def test_nothing_held_out_copies_no_image(image_set):
    images = image_set(10)
    assert split_images(images, 0, 0.98, 0).train.images is images.images


def test_fraction_is_respected(image_set):
    split = split_images(image_set(40, 4, 32), 0.25, 0.98, 0)
    assert len(split.heldout) == 10
    assert len(split_images(image_set(10), 0, 0.98, 0).heldout) == 0


@pytest.mark.parametrize(
    ("fraction", "duplicate", "message"),
    [(1.0, 0.98, r"must be in \[0, 1\), got 1.0"), (0.5, 0, r"near_duplicate must be in \(0, 1\]")],
)
def test_bad_fractions_are_named(image_set, fraction, duplicate, message):
    with pytest.raises(ValueError, match=message):
        split_images(image_set(), fraction, duplicate, 0)


def test_split_that_leaves_nothing_is_refused(image_set):
    with pytest.raises(ValueError, match="leaves 2 to train on and 0 held out"):
        split_images(image_set(2, 2), 0.2, 0.98, 0)


def test_mirrored_photos_and_photos_of_one_colour_are_near_duplicates(image_set):
    images = image_set(3, size=32, channels=3).images
    mirrored = np.concatenate([images, images[:1, :, ::-1]])
    np.testing.assert_array_equal(near_duplicate_groups(mirrored, 0.99), [0, 1, 2, 0])
    one_colour = [np.full((32, 32, 3), level, np.uint8) for level in (0, 200, 0, 100)]
    np.testing.assert_array_equal(near_duplicate_groups([*one_colour, images[0]], 0.99), [0, 1, 0, 2, 3])


def test_one_photo_stands_for_each_picture(image_set):
    images = image_set(20, size=32)
    twice = images.images[np.concatenate([np.arange(20), [3, 3, 7]])]
    pool = ImageSet(twice, np.zeros(23, np.int32), tuple(map(str, range(23))))
    split = split_images(pool, 0.5, 0.99, 0)
    train, heldout = split.representatives()
    chosen = [split.train.ids[i] for i in train] + [split.heldout.ids[i] for i in heldout]
    assert sorted(chosen, key=int) == [str(i) for i in range(20)]


def photos(names, labels):
    pixels, ids = np.zeros((len(labels), 2, 2, 1), np.uint8), tuple(map(str, range(len(labels))))
    return ImageSet(pixels, np.array(labels, np.int32), ids, names)


def test_strata_are_classes_and_of_two_folders_those_without_a_counterpart_are_one_more():
    train, heldout = photos(("a", "b", "c"), [0, 0, 1, 2]), photos(("a", "b", "c", "d"), [0, 3, -1])
    one_pool = Split(train, heldout).strata()
    assert [side.tolist() for side in one_pool] == [[0, 0, 1, 2], [0, 3, -1]]
    two_folders = Split(train, heldout, separate=True).strata()
    assert [side.tolist() for side in two_folders] == [[0, 0, 4, 4], [0, 4, 4]]
    flat = Split(train, photos((), [-1, -1]), separate=True).strata()
    assert len(set(np.concatenate(flat))) == 1
