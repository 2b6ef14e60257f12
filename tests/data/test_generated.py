"""Generated images that are given: folders, npz files and zarr arrays, and what is said of those that do not fit."""

import numpy as np
import pytest
from etils import epath
from PIL import Image

from side_jax.data.generated import load_generated, native_shape
from side_jax.data.preparation import Recipe
from side_jax.runtime.arrays import ImageStore, save_array

FIELD = "samples.paths 'gen':"


def noise(count, size=8, channels=1, seed=0):
    return np.random.default_rng(seed).integers(1, 256, (count, size, size, channels), np.uint8)


def load(path, size=8, channels=1, **more):
    return load_generated(FIELD, path, size, channels, Recipe(), **more)


def write_folder(folder, images, suffix=".png"):
    folder.mkdir(exist_ok=True)
    for i, image in enumerate(images):
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(folder / f"{i}{suffix}")
    return folder


@pytest.mark.parametrize("kind", ["folder", "npz", "compressed", "zarr"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_source_gives_the_same_pixels_in_the_same_order(tmp_path, kind, channels):
    images = noise(12, channels=channels)
    if kind == "folder":
        path = write_folder(tmp_path / "gen", images)
    elif kind == "zarr":
        path = tmp_path / "images.zarr"
        save_array(epath.Path(path), images, chunk_rows=5)
    else:
        path = tmp_path / "gen.npz"
        (np.savez if kind == "npz" else np.savez_compressed)(path, images=images, ids=[f"n{i}" for i in range(12)])
    found = load(path, channels=channels)
    np.testing.assert_array_equal(found.images, images)
    assert found.ids[2] == {"folder": "2.png", "zarr": "00000002"}.get(kind, "n2")
    assert (found.labels == -1).all() and found.label_names == ()
    assert native_shape(FIELD, path) == (8, 8, channels)


def test_gray_npz_may_lack_the_channel(tmp_path):
    np.savez(tmp_path / "a.npz", images=noise(3)[..., 0])
    assert load(tmp_path / "a.npz").images.shape == (3, 8, 8, 1)


def test_pixels_are_mapped_and_not_held_in_memory(tmp_path):
    np.savez(tmp_path / "a.npz", images=noise(12))
    images = load(tmp_path / "a.npz").images
    assert not images.flags.writeable and not images.flags.owndata


def test_images_that_a_store_never_got_are_skipped_and_listed(tmp_path):
    images = noise(6)
    store = ImageStore(epath.Path(tmp_path / "images.zarr"), 6, (8, 8, 1), 2)
    store.write(np.array([0, 1, 4]), images[[0, 1, 4]])
    found = load(tmp_path / "images.zarr")
    np.testing.assert_array_equal(found.images, images[[0, 1, 4]])
    assert found.ids == ("00000000", "00000001", "00000004")
    assert found.skipped == tuple((f"0000000{i}", "zeros: no image was stored") for i in (2, 3, 5))


def test_files_that_are_no_images_are_skipped_and_listed(tmp_path):
    folder = write_folder(tmp_path / "gen", noise(3))
    (folder / "notes.txt").write_text("seed 0")
    found = load(folder)
    assert len(found) == 3 and [name for name, _ in found.skipped] == ["notes.txt"]


def test_resizing_is_asked_for_and_then_recorded(tmp_path):
    folder = write_folder(tmp_path / "gen", noise(3, size=16))
    with pytest.raises(
        ValueError, match=r"0.png has 16x16 pixels, dataset.image_size is 8; set that .* or dataset.res"
    ):
        load(folder)
    found = load(folder, resize=True)
    assert found.images.shape == (3, 8, 8, 1)
    assert found.traits["not 8 pixels on the short side (dataset.filter)"] == 3


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("gen", lambda path: None, "does not exist"),
        ("gen", lambda path: path.mkdir(), "it has no files"),
        (
            "gen",
            lambda path: write_folder(path, noise(2, channels=3)),
            r"0.png has 3 channel\(s\), dataset.channels is 1",
        ),
        ("gen.tar", lambda path: path.write_bytes(b"x"), "neither a folder of images, nor an .npz file, nor a zarr"),
        ("gen.npz", lambda path: path.write_bytes(b"x"), "is no npz file with an array 'images'"),
        ("gen.npz", lambda path: np.savez(path, pictures=noise(2)), "is no npz file with an array 'images'"),
        (
            "gen.npz",
            lambda path: np.savez(path, images=noise(2, size=4)),
            r"holds uint8 \(2, 4, 4, 1\), the config asks",
        ),
        ("gen.npz", lambda path: np.savez(path, images=noise(2) / 255), r"holds float64 \(2, 8, 8, 1\), the config"),
        ("gen.npz", lambda path: np.savez(path, images=noise(0)), r"\(0, 8, 8, 1\), the config asks for .* with N > 0"),
        ("gen.npz", lambda path: np.savez(path, images=noise(2), ids=["a", "a"]), "'ids' has 'a' twice"),
        ("gen.npz", lambda path: np.savez(path, images=noise(2), ids=["a"]), "'ids' has 1 for 2 images"),
        ("gen.npz", lambda path: np.savez(path, images=np.asfortranarray(noise(2))), "is in Fortran order"),
        ("a.zarr", lambda path: save_array(epath.Path(path), noise(2, size=4)), r"holds uint8 \(2, 4, 4, 1\), the con"),
        ("a.zarr", lambda path: save_array(epath.Path(path), 0 * noise(2)), "all of its 2 images are zeros"),
    ],
)
def test_what_does_not_fit_is_one_line_that_names_the_set(tmp_path, name, make, message):
    make(tmp_path / name)
    with pytest.raises(ValueError, match=message) as error:
        load(tmp_path / name)
    assert str(error.value).startswith(FIELD) and "\n" not in str(error.value)
