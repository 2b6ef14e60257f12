"""Recipes: the same photo as other programs' loaders make it, and what is said of photos on which they differ."""

import dataclasses
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from side_jax.data.images import decode
from side_jax.data.load import load_images
from side_jax.data.preparation import RECIPES, Recipe

OURS, DIFFUSERS, GUIDED = (RECIPES[name] for name in ("side_jax", "diffusers", "guided_diffusion"))


def noise(width, height, mode="RGB", seed=0):
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, *channels), np.uint8))


def encoded(image, file_format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def colour_png(values):
    """16-bit RGB, which Pillow does not write."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def cosine(a, b):
    a, b = (x.astype(float).ravel() - x.mean() for x in (a, b))
    return a @ b / np.sqrt((a @ a) * (b @ b))


@pytest.mark.given(
    kind=2,
    input="photos that are not square, by the recipe `diffusers`",
    before="",
    now="the pixels of torchvision's Resize and CenterCrop",
)
@pytest.mark.parametrize(
    ("size", "resized", "corner"),
    [((10, 7), (5, 4), (0, 0)), ((7, 11), (4, 6), (0, 1)), ((11, 7), (6, 4), (1, 0)), ((4, 4), (4, 4), (0, 0))],
)
def test_diffusers_resizes_the_short_side_and_crops_as_torchvision(size, resized, corner):
    """Resize rounds the long side down, 4 · 10 / 7 = 5.7; CenterCrop rounds (5 − 4) / 2 to the even 0."""
    photo = noise(*size)
    whole = np.asarray(photo.resize(resized, Image.Resampling.BILINEAR))
    left, top = corner
    np.testing.assert_array_equal(decode(encoded(photo), 4, 3, DIFFUSERS), whole[top : top + 4, left : left + 4])


@pytest.mark.given(
    kind=2,
    input="guided-diffusion's resize (box halving, then bicubic)",
    before="79 % of photos below .98 with themselves",
    now="`dataset.prepare=guided_diffusion`: the same pixels",
)
@pytest.mark.parametrize(
    ("size", "halves", "resized", "corner"),
    [((37, 20), [(18, 10), (9, 5)], (7, 4), (1, 0)), ((10, 7), [], (6, 4), (1, 0)), ((8, 8), [(4, 4)], (4, 4), (0, 0))],
)
def test_guided_diffusion_halves_by_boxes_and_ends_bicubic(size, halves, resized, corner):
    image = photo = noise(*size)
    for half in halves:
        image = image.resize(half, Image.Resampling.BOX)
    whole, (left, top) = np.asarray(image.resize(resized, Image.Resampling.BICUBIC)), corner
    np.testing.assert_array_equal(decode(encoded(photo), 4, 3, GUIDED), whole[top : top + 4, left : left + 4])


@pytest.mark.given(
    kind=2,
    input="EXIF orientation 6, by the recipes `diffusers` and `guided_diffusion`",
    before="no sign of copying, p = .19",
    now="the pixels as they lie in the file",
)
def test_training_that_ignored_exif_saw_other_pixels():
    photo = noise(16, 16)
    data = encoded(photo, "PNG", exif=exif(6))
    assert abs(cosine(decode(data, 16, 3, OURS), np.asarray(photo))) < 0.2
    for recipe in (DIFFUSERS, GUIDED, dataclasses.replace(OURS, orientation="stored")):
        np.testing.assert_array_equal(decode(data, 16, 3, recipe), np.asarray(photo))


@pytest.mark.given(
    kind=2,
    input='RGBA laid on white where `convert("RGB")` gave black',
    before="a photo scores .13 with itself",
    now="`dataset.background`: white, black, or `dropped`, which gives the colour stored there",
)
@pytest.mark.given(
    kind=13,
    input="a transparent border that a browser shows as white",
    before="black in training",
    now="white, or the colour stored there with `dataset.background=dropped`",
)
def test_transparent_parts_are_what_the_training_saw():
    """`convert("RGB")` keeps the colour below: often black, where a browser shows white."""
    pixels = np.asarray(noise(16, 16, "RGBA")).copy()
    pixels[..., 3] = np.where(np.arange(16) < 8, 0, 255)
    below = pixels[..., :3].copy()
    pixels[:, :8, :3] = below[:, :8] = 30
    data = encoded(Image.fromarray(pixels))
    for recipe, level in ((OURS, 255), (dataclasses.replace(OURS, background="black"), 0), (DIFFUSERS, 30)):
        made = decode(data, 16, 3, recipe)
        np.testing.assert_array_equal(made[:, :8], np.full((16, 8, 3), level))
        np.testing.assert_array_equal(made[:, 8:], below[:, 8:])
    assert decode(data, 16, 1, DIFFUSERS)[0, 0, 0] == 30


@pytest.mark.given(
    kind=2, input="a transparent palette image, by the recipe `diffusers`", before="", now="the colour of its palette"
)
def test_dropping_the_transparency_of_a_palette_gives_its_colour():
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30, 5, 5, 5])
    palette.putpixel((0, 0), 2)
    data = encoded(palette, transparency=bytes([255, 0, 128]))  # Pillow warns of these on conversion
    assert decode(data, 4, 3, DIFFUSERS)[3, 3].tolist() == [10, 20, 30]


@pytest.mark.given(
    kind=2,
    input="12-bit data in a 16-bit PNG",
    before="16 gray levels, AMS 9.4 → 1.6 %",
    now="all 256 gray levels with `dataset.white=4095`",
)
def test_twelve_bits_in_sixteen_keep_their_levels_where_white_is_told():
    """With white at 65535 they had 16 gray levels."""
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    data = encoded(Image.fromarray(values))
    assert len(np.unique(decode(data, 64, 1))) == 16
    told = decode(data, 64, 1, Recipe(white=4095))
    np.testing.assert_array_equal(told[..., 0], values.astype(int) * 255 // 4095)
    np.testing.assert_array_equal(decode(data, 64, 1, DIFFUSERS)[..., 0], np.minimum(values, 255))


@pytest.mark.given(
    kind=2,
    input="a float TIFF in [0, 1]",
    before="black, verdict flips",
    now='all 256 gray levels with `dataset.white=1`; without it not read: "black where … is white … set dataset.white"',
)
def test_floats_are_scaled_where_white_is_told_and_never_black():
    levels = np.arange(256, dtype=np.float32).reshape(16, 16)
    data = encoded(Image.fromarray(levels / 255), "TIFF")
    for recipe in (OURS, DIFFUSERS):
        with pytest.raises(ValueError, match=r"black where \d+ is white, its highest value is 1; set dataset.white"):
            decode(data, 16, 1, recipe)
    np.testing.assert_array_equal(decode(data, 16, 1, Recipe(white=1))[..., 0], levels)
    with pytest.raises(ValueError, match="not all finite"):
        decode(encoded(Image.fromarray(levels + np.float32(np.nan)), "TIFF"), 16, 1, Recipe(white=1))


@pytest.mark.given(kind=2, input="12-bit data in a 16-bit colour PNG", before="", now='not read: "values below 4096"')
def test_sixteen_bit_colour_is_read_unless_its_levels_are_lost():
    values = np.random.default_rng(0).integers(0, 65536, (4, 4, 3), np.uint16)
    np.testing.assert_array_equal(decode(colour_png(values), 4, 3), values >> 8)
    with pytest.raises(ValueError, match="values below 4096"):
        decode(colour_png(values >> 4), 4, 3)


@pytest.mark.given(
    kind=2,
    input="the recipe `diffusers` with another resize and filter",
    before="",
    now="the pixels of the single choices",
)
def test_choices_replace_those_of_a_recipe():
    wide = noise(12, 8)
    recipe = dataclasses.replace(DIFFUSERS, resize="stretch", filter="lanczos")
    made = decode(encoded(wide), 4, 3, recipe)
    np.testing.assert_array_equal(made, np.asarray(wide.resize((4, 4), Image.Resampling.LANCZOS)))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"background": "blue"}, "background must be one of white, black, dropped, got 'blue'"),
        ({"resize": "crop"}, "resize must be one of crop_first, short_side, halving, stretch, got 'crop'"),
        ({"white": 0}, "white must be above 0, got 0"),
    ],
)
def test_unknown_choice_is_named(choice, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**choice)


@pytest.mark.given(
    kind=0,
    input='`load_images(recipe="torch")`',
    before="",
    now="\"recipe must be one of side_jax, diffusers, guided_diffusion, got 'torch'\"",
)
def test_unknown_recipe_is_named():
    with pytest.raises(ValueError, match="recipe must be one of side_jax, diffusers, guided_diffusion, got 'torch'"):
        load_images("orl", None, 8, 1, recipe="torch")


def test_images_are_loaded_by_a_named_recipe_or_one_of_ones_own(tmp_path):
    photo = noise(40, 24)
    photo.save(tmp_path / "x.png")
    for recipe in ("guided_diffusion", GUIDED):
        made = load_images("image_folder", str(tmp_path), 8, 3, recipe=recipe).images[0]
        np.testing.assert_array_equal(made, decode(encoded(photo), 8, 3, GUIDED))
    assert (made != load_images("image_folder", str(tmp_path), 8, 3).images[0]).any()


@pytest.mark.given(
    kind=2,
    input="a folder of twelve photos that recipes read differently",
    before="",
    now="nine properties are counted: orientation, transparency, bits, palette, CMYK, shape and size",
)
def test_photos_are_counted_by_the_properties_on_which_recipes_differ(tmp_path):
    """The properties of every file, and nothing of one that is as it is under every recipe."""
    plain = noise(8, 8)
    opaque, glass = noise(8, 8, "RGBA"), noise(8, 8, "RGBA")
    opaque.putalpha(255)
    files = {
        "plain.png": encoded(plain),
        "upright.jpg": encoded(plain, "JPEG", exif=exif(1)),
        "turned.jpg": encoded(plain, "JPEG", exif=exif(6)),
        "opaque.png": encoded(opaque),
        "glass.png": encoded(glass),
        "deep.png": encoded(Image.fromarray(np.full((8, 8), 900, np.uint16))),
        "deeper.png": encoded(Image.fromarray(np.full((8, 8), 4095, np.uint16))),
        "colour.png": colour_png(np.full((8, 8, 3), 60_000, np.uint16)),
        "palette.gif": encoded(plain.quantize(8), "GIF"),
        "print.jpg": encoded(plain.convert("CMYK"), "JPEG"),
        "wide.png": encoded(noise(9, 8)),
        "large.png": encoded(noise(16, 16)),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    images = load_images("image_folder", str(tmp_path), 8, 3)
    assert len(images) == len(files)
    assert images.traits == {
        "turned by their EXIF orientation (dataset.orientation)": 1,
        "transparent in parts (dataset.background)": 1,
        "gray of more than 8 bits, at most 4095 where 65535 is white (dataset.white)": 2,
        "colour of 16 bits, of which Pillow reads the high byte": 1,
        "of a palette": 1,
        "CMYK, made RGB by Pillow's formula and not by their profile": 1,
        "not square (dataset.resize)": 1,
        "16 pixels or more on the short side (dataset.resize)": 1,
        "not 8 pixels on the short side (dataset.filter)": 1,
    }
