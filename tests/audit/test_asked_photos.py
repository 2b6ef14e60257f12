import numpy as np

from side_jax.audit.asked_photos import AskedPhotos
from side_jax.data.splitting import Split


def split(image_set, train=30, heldout=24, groups=None):
    photos = image_set(train + heldout, classes=4)
    return Split(photos[np.arange(train)], photos[np.arange(train, train + heldout)], groups=groups)


def test_pairs_share_a_class_while_both_kinds_have_it(image_set):
    made = split(image_set)
    photos = AskedPhotos.of(made)
    train, heldout = photos.order[:, 0], photos.order[:, 1] - 30
    assert len(photos.order) == 24 and len(set(train)) == len(set(heldout)) == 24
    alike = made.train.labels[train] == made.heldout.labels[heldout]
    assert alike.sum() == sum(min(np.sum(made.train.labels == k), np.sum(made.heldout.labels == k)) for k in range(4))


def test_few_photos_are_of_every_class(image_set):
    made = split(image_set)
    first = AskedPhotos.of(made).order[:4, 0]
    assert set(made.train.labels[first]) == {0, 1, 2, 3}


def test_an_image_belongs_to_its_photo_whatever_number_is_asked_for(image_set):
    photos = AskedPhotos.of(split(image_set))
    few, many = photos.indices(3, 2), photos.indices(10, 3)
    assert set(few) <= set(many) and len(few) == 2 * 3 * 2
    first, second = photos.position(few[:6]), photos.position(few[6:])
    assert (first == second).all() and (first == photos.order[:3].ravel()).all()


def test_one_photo_of_each_picture_is_asked_for(image_set):
    groups = np.arange(54)
    groups[[3, 8, 9]] = 3
    groups[40] = 39
    photos = AskedPhotos.of(split(image_set, groups=groups))
    assert len(photos.train) == 28 and len(photos.heldout) == 23
    assert not {8, 9} & set(photos.train)
    assert len(photos.images()) == len(photos.classes) == 51
