import functools

import jax
import numpy as np
import pytest
from PIL import Image

from side_jax.matching.descriptors.sscd_input import output_size, resize, sscd_input

BILINEAR = Image.Resampling.BILINEAR


def pil(image, height, width):
    """Rows first, then columns, as one call of Pillow did until version 12."""
    gray = image.shape[-1] == 1
    opened = Image.fromarray(image[..., 0] if gray else image)
    resized = opened.resize((width, image.shape[0]), BILINEAR).resize((width, height), BILINEAR)
    return np.asarray(resized).reshape(height, width, image.shape[-1])


SIZES = [(32, 32, 3), (128, 128, 1), (17, 23, 3), (178, 218, 3), (500, 333, 3), (289, 287, 1), (1, 5, 3), (900, 640, 1)]


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("preprocessing", ["small_edge_288", "square_320"])
def test_resizing_is_pils_bit_for_bit(shape, preprocessing):
    height, width = output_size(preprocessing, *shape[:2])
    images = np.random.default_rng(0).integers(0, 256, (2, *shape), np.uint8)
    images[1] = images[1] // 128 * 255  # black and white: every rounding at its widest
    ours = np.asarray(jax.jit(resize, static_argnums=(1, 2))(images, height, width))
    np.testing.assert_array_equal(ours, np.stack([pil(image, height, width) for image in images]))
    channel = images[0, ..., 0]
    direct = np.asarray(Image.fromarray(channel).resize((width, height), BILINEAR))
    difference = abs(ours[0, ..., 0].astype(int) - direct).max()
    assert difference <= (1 if shape[0] > shape[1] else 0)  # Pillow 13's order where the height shrinks more


def test_extreme_shrinking_is_pils_too():
    images = np.random.default_rng(0).integers(0, 256, (1, 2500, 40, 1), np.uint8)
    np.testing.assert_array_equal(jax.jit(resize, static_argnums=(1, 2))(images, 9, 7)[0], pil(images[0], 9, 7))


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (128, 128, (288, 288)),
        (100, 150, (288, 432)),
        (150, 100, (432, 288)),
        (218, 178, (352, 288)),
        (3, 7, (288, 672)),
    ],
)
def test_the_small_edge_becomes_288_and_the_long_one_is_rounded_down(height, width, expected):
    assert output_size("small_edge_288", height, width) == expected
    assert output_size("square_320", height, width) == (320, 320)


def test_pixels_are_normalised_as_torchvision_does_and_gray_is_repeated():
    gray = np.random.default_rng(0).integers(0, 256, (2, 288, 288, 1), np.uint8)
    prepare = jax.jit(functools.partial(sscd_input, preprocessing="small_edge_288"))
    expected = (gray.astype(np.float64) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(prepare(gray), expected, atol=1e-6)
    np.testing.assert_allclose(prepare(gray), prepare(np.repeat(gray, 3, axis=3)), atol=1e-6)
