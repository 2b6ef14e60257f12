import numpy as np
import pytest

import side_jax


def test_pixel_descriptor_is_the_correlation_of_pixels(image_set):
    images = image_set(5, size=6, channels=3).images
    descriptors = side_jax.load_descriptor("pixel")(images)
    np.testing.assert_allclose(np.linalg.norm(descriptors, axis=1), 1, rtol=1e-5)
    expected = np.corrcoef(images.reshape(5, -1).astype(float))
    np.testing.assert_allclose(descriptors @ descriptors.T, expected, atol=1e-5)


def test_brightness_and_contrast_do_not_matter():
    image = np.random.default_rng(0).integers(50, 100, (1, 8, 8, 1), np.uint8)
    embed = side_jax.load_descriptor("pixel")
    np.testing.assert_allclose(embed(image), embed(2 * image + 10), atol=1e-6)


def test_constant_image_is_zero_and_not_nan():
    assert not side_jax.load_descriptor("pixel")(np.full((1, 4, 4, 1), 9, np.uint8)).any()


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="descriptor must be 'pixel', got 'clip'"):
        side_jax.load_descriptor("clip")
    with pytest.raises(ValueError, match=r"no weights, got 'x.pt'"):
        side_jax.load_descriptor("pixel", "x.pt")
    with pytest.raises(ValueError, match="uint8"):
        side_jax.load_descriptor("pixel")(np.zeros((1, 4, 4, 1)))
