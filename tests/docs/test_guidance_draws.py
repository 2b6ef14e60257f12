import jax.numpy as jnp
import numpy as np
import pytest

import side_jax
from docs.guidance import draws, setting
from side_jax.surrogate.exact import exact_guide


@pytest.fixture(scope="module")
def known():
    """The demo with 24 photos in place of synthetic images, of which the last is the first again, a little brighter."""
    target = side_jax.load_target("assets/orl_target")
    photos = setting.training_photos(target)
    again = np.minimum(photos.images[:1], 240) + np.uint8(3)
    return setting.Setting(target, photos, np.concatenate([photos.images[:24], again]), None)


def test_window_guides_inside_and_nowhere_else(known):
    guide = exact_guide(known.target, known.synthetic[:4], np.array([0, 0, 1, 1]))
    window = draws.Window(guide, 300, 600)
    x_t, labels, t = jnp.zeros((4, 32, 32, 1)), jnp.array([0, 1, 0, 1]), jnp.array([299, 300, 599, 600])
    inside, anywhere = (np.asarray(one.gradient(x_t, t, labels)) for one in (window, guide))
    np.testing.assert_array_equal(inside[1:3], anywhere[1:3])
    assert anywhere[1:3].any()
    assert not inside[[0, 3]].any()


@pytest.mark.slow
def test_image_has_the_scale_at_its_place_whatever_the_others_have(known):
    mixed = draws._images(known, draws.Draw("single", (0.0, 4.0), synthetic=8), 4)
    alone = draws._images(known, draws.Draw("single", (4.0,), synthetic=8), 4)
    unguided = draws._images(known, draws.Draw("none", (0.0,)), 4)
    close = np.abs(mixed.astype(int) - np.where(np.arange(4)[:, None, None, None] % 2, alone, unguided))
    assert close.max() <= 1  # another batch may round otherwise


def test_surest_images_are_the_asked_number_of_different_ones(known):
    """Photos that the target was trained on; the first and its brighter copy are one class."""
    labels = draws._surest(known, known.synthetic, 24)
    assert labels.num_classes == 24
    assert labels.labels[24] == labels.labels[0] >= 0
    few = draws._surest(known, known.synthetic, 5)
    assert few.num_classes == len(np.unique(few.labels[few.labels >= 0])) == 5
