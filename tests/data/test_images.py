import io
import os

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from side_jax.data.images import ImageSet, decode
from side_jax.data.load import load_images


def encode(image, file_format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def test_orl_has_400_photos_of_40_people():
    images = load_images("orl", None, 32, 1)
    assert images.images.shape == (400, 32, 32, 1)
    np.testing.assert_array_equal(np.bincount(images.labels), np.full(40, 10))
    assert images.ids[0] == "s1/1.pgm"
    assert images.ids[-1] == "s40/10.pgm"
    assert images.label_names[1] == "s2"
    assert images.skipped == ()  # a stray target.jpg among the photos is none of them
    assert 60 < images.images.mean() < 160


def test_folder_of_classes(tmp_path):
    for name, level in (("b/1.png", 10), ("a/2.jpg", 200), ("a/10.png", 30)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (level, level, level)).save(tmp_path / name)
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "a" / ".hidden.png").write_bytes(b"no image")
    images = load_images("image_folder", str(tmp_path), 4, 1)
    assert images.ids == ("a/2.jpg", "a/10.png", "b/1.png")
    assert images.label_names == ("a", "b")
    np.testing.assert_array_equal(images.labels, [0, 0, 1])
    np.testing.assert_array_equal(images.images[:, 0, 0, 0], [200, 30, 10])


def test_class_is_the_immediate_parent_in_both_halves_of_a_data_set(tmp_path):
    """CelebA-HQ-FI: train/ID/x.jpg and test/ID/y.jpg, most IDs in both; the class does not depend on the half."""
    for name in ("train/10/a.png", "train/2/b.png", "test/10/c.png", "test/30/d.png", "stray.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), 7).save(tmp_path / name)
    images = load_images("image_folder", str(tmp_path), 4, 1)
    assert images.ids == ("stray.png", "test/10/c.png", "test/30/d.png", "train/2/b.png", "train/10/a.png")
    assert images.label_names == ("2", "10", "30")
    np.testing.assert_array_equal(images.labels, [-1, 1, 2, 0, 1])


def test_class_without_a_readable_image_is_none(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        Image.new("L", (4, 4), 7).save(tmp_path / name / "x.png")
    (tmp_path / "b" / "x.png").write_bytes(b"no image")
    images = load_images("image_folder", str(tmp_path), 4, 1)
    assert images.label_names == ("a", "c")
    np.testing.assert_array_equal(images.labels, [0, 1])
    assert images.skipped[0][0] == "b/x.png"


def test_flat_folder_has_no_labels(tmp_path):
    Image.new("L", (4, 4), 7).save(tmp_path / "x.png")
    images = load_images("image_folder", str(tmp_path), 4, 3)
    np.testing.assert_array_equal(images.labels, [-1])
    assert images.images.shape == (1, 4, 4, 3)


@pytest.mark.given(kind=5, input="a cut JPEG, and a text named .png", before="", now="listed, each with its reason")
def test_corrupt_jpeg_is_listed_and_skipped(tmp_path):
    whole = encode(Image.effect_noise((64, 64), 80), "JPEG")
    (tmp_path / "good.jpg").write_bytes(whole)
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_bytes(b"not an image")
    images = load_images("image_folder", str(tmp_path), 8, 1)
    assert images.ids == ("good.jpg",)
    assert [name for name, _ in images.skipped] == ["cut.jpg", "text.png"]
    assert all(reason for _, reason in images.skipped)


def test_modes_are_understood():
    """Gray, RGB, 16-bit, RGBA on white, palette with transparency: the value a viewer would show."""
    assert decode(encode(Image.new("L", (4, 4), 100)), 4, 3)[0, 0].tolist() == [100, 100, 100]
    assert decode(encode(Image.new("RGB", (4, 4), (255, 0, 0))), 4, 1)[0, 0, 0] == 76
    deep = Image.fromarray(np.full((4, 4), 40_000, np.uint16))
    assert decode(encode(deep), 4, 1)[0, 0, 0] == 40_000 // 257
    assert decode(encode(Image.new("RGBA", (4, 4), (0, 0, 0, 0))), 4, 3)[0, 0].tolist() == [255, 255, 255]
    assert decode(encode(Image.new("RGBA", (4, 4), (0, 0, 0, 255))), 4, 3)[0, 0].tolist() == [0, 0, 0]
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    assert decode(encode(palette), 4, 3)[0, 0].tolist() == [10, 20, 30]
    assert decode(encode(palette, transparency=1), 4, 3)[0, 0].tolist() == [255, 255, 255]


def test_exif_rotation_is_applied():
    image = Image.new("L", (8, 8), 0)
    image.paste(255, (0, 0, 8, 4))  # white above
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to show
    turned = decode(encode(image, "JPEG", exif=exif, quality=95), 8, 1)
    assert turned[:, 4:].mean() > 240
    assert turned[:, :4].mean() < 15


def test_centre_is_cropped_and_resize_is_antialiased():
    wide = Image.new("L", (16, 8), 0)
    wide.paste(255, (4, 0, 12, 8))
    assert decode(encode(wide), 4, 1)[:, 1:3].min() == 255
    assert decode(encode(wide), 4, 1).min() > 200  # the filter reaches a little over the crop's edge
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (32, 16)))
    assert abs(decode(encode(stripes), 4, 1).astype(int) - 127).max() <= 6  # not 0 or 255, which skipping pixels gives


def test_npz(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 4), np.uint8)
    path = tmp_path / "set.npz"
    np.savez(path, images=images, labels=np.array([1, 0, 1]), ids=np.array(["x", "y", "z"]))
    loaded = load_images("npz", str(path), 4, 1)
    np.testing.assert_array_equal(loaded.images[..., 0], images)
    assert loaded.ids == ("x", "y", "z")
    np.testing.assert_array_equal(loaded.labels, [1, 0, 1])
    np.savez(path, images=images)
    assert load_images("npz", str(path), 4, 1).ids == ("00000000", "00000001", "00000002")


def test_pickled_npz_is_refused(tmp_path):
    np.savez(tmp_path / "set.npz", images=np.array([{"a": 1}], object))
    with pytest.raises(ValueError, match="not a readable npz file"):
        load_images("npz", str(tmp_path / "set.npz"), 4, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cifar", "", 8, 1), "dataset.name must be one of orl, image_folder, npz, tfds, got 'cifar'"),
        (("image_folder", "", 8, 1), "dataset.path is empty"),
        (("image_folder", "nowhere", 8, 1), "dataset.path 'nowhere' does not exist"),
        pytest.param(
            ("image_folder", "~/nowhere", 8, 1),
            "dataset.path '~/nowhere' does not exist; write /.*/nowhere, as ~ is a",
            marks=pytest.mark.given(
                kind=10,
                input="`~/photos`",
                before="the program's own exception",
                now="\"dataset.path '~/nowhere' does not exist; write …/nowhere\", with the home folder in full",
            ),
        ),
        (("orl", "", 8, 2), "dataset.channels must be 1 or 3, got 2"),
        (("orl", "", 0, 1), "dataset.image_size must be at least 1, got 0"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        load_images(*arguments)


def test_folder_without_images_is_refused_with_the_first_reason(tmp_path):
    with pytest.raises(ValueError, match="it has no files"):
        load_images("image_folder", str(tmp_path), 8, 1)
    (tmp_path / "bad.png").write_bytes(b"")
    message = r"none of its 1 files can be read as an image \(bad.png: ValueError: no image, or of an unknown format\)"
    with pytest.raises(ValueError, match=message):
        load_images("image_folder", str(tmp_path), 8, 1)


@pytest.mark.given(
    kind=5,
    input="`.jfif`, `.apng`, `.jp2`, and images without a suffix",
    before="ignored, `skipped == ()`",
    now="read; a text beside them is listed with its reason",
)
@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.jfif", "JPEG"), ("b.apng", "PNG"), ("c", "WEBP"), ("d.dat", "TIFF"), ("e.jp2", "JPEG2000"), ("f.x", "AVIF")],
)
def test_images_are_known_by_their_content_and_not_their_name(tmp_path, name, kind):
    (tmp_path / name).write_bytes(encode(Image.new("L", (32, 32), 200), kind))
    (tmp_path / "notes.txt").write_text("two photos")
    images = load_images("image_folder", str(tmp_path), 8, 1)
    assert images.ids == (name,) and abs(int(images.images.mean()) - 200) <= 1
    assert images.skipped == (("notes.txt", "ValueError: no image, or of an unknown format"),)


@pytest.mark.given(
    kind=5,
    input="second pages of a TIFF, frames of a GIF",
    before="not read, without a word",
    now='listed: "2 of its 3 frames: the first alone is read"',
)
def test_later_frames_are_listed(tmp_path):
    frames = [Image.new("L", (8, 8), level) for level in (0, 100, 200)]
    for name, kind in (("a.gif", "GIF"), ("b.tif", "TIFF"), ("c.webp", "WEBP")):
        frames[0].save(tmp_path / name, kind, save_all=True, append_images=frames[1:])
    images = load_images("image_folder", str(tmp_path), 8, 1)
    assert images.ids == ("a.gif", "b.tif", "c.webp") and images.images.max() == 0
    assert [name for name, reason in images.skipped] == ["a.gif", "b.tif", "c.webp"]
    assert images.skipped[0][1] == "2 of its 3 frames: the first alone is read"


@pytest.mark.given(
    kind=9,
    input="a file name that is not UTF-8",
    before="ends the run in extract",
    now="read; its id is caf\\xe9.png, with a backslash",
)
def test_name_that_is_no_utf8_has_an_id_that_a_table_can_hold(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(image).save(tmp_path / "plain.png")
    (tmp_path / "plain.png").rename(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    photos = load_images("image_folder", str(tmp_path), 8, 1)
    assert photos.ids == ("caf\\xe9.png",)
    pa.array(photos.ids)


@pytest.mark.given(
    kind=10,
    input="`.npy` as npz",
    before="the program's own exception",
    now='"… set.npy\' is not a readable npz file: it is one array; write it with np.savez"',
)
@pytest.mark.given(
    kind=10,
    input="an npz with an id twice",
    before="the program's own exception",
    now="\"… set.npz': 'ids' has 'a' twice; they must differ\"",
)
def test_npy_and_repeated_ids_are_named(tmp_path):
    images = np.zeros((2, 8, 8), np.uint8)
    np.save(tmp_path / "set.npy", images)
    with pytest.raises(ValueError, match=r"set.npy' is not a readable npz file: it is one array; write it with np.sav"):
        load_images("npz", str(tmp_path / "set.npy"), 8, 1)
    np.savez(tmp_path / "set.npz", images=images, ids=["a", "a"])
    with pytest.raises(ValueError, match="set.npz': 'ids' has 'a' twice; they must differ"):
        load_images("npz", str(tmp_path / "set.npz"), 8, 1)


def test_one_hot_labels_are_refused(tmp_path):
    np.savez(tmp_path / "set.npz", images=np.zeros((2, 8, 8), np.uint8), labels=np.eye(2))
    with pytest.raises(ValueError, match=r"'labels' is float64 \(2, 2\), it must be integers, one for each of the 2"):
        load_images("npz", str(tmp_path / "set.npz"), 8, 1)


def test_npz_of_another_shape_is_refused(tmp_path):
    np.savez(tmp_path / "set.npz", images=np.zeros((2, 4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match=r"uint8 \(2, 4, 4, 3\), the config asks for uint8 \(N, 8, 8, 3\)"):
        load_images("npz", str(tmp_path / "set.npz"), 8, 3)


def test_ids_must_be_unique():
    image = np.zeros((2, 4, 4, 1), np.uint8)
    with pytest.raises(ValueError, match="not unique"):
        ImageSet(image, np.zeros(2, np.int32), ("a", "a"))
