import re

import numpy as np
import pytest
from PIL import Image

from side_jax.data.count import Count, count_generated, count_images
from side_jax.data.load import load_images


def photos(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), 7).save(root / name, "PNG")


def test_a_folder_has_the_photos_and_classes_that_reading_finds(tmp_path):
    photos(tmp_path, "stray.png", "train/10/a.png", "train/2/b.PNG", "test/10/c", ".hidden/d.png")
    (tmp_path / "notes.txt").write_text("no image")
    counted, read = count_images("image_folder", str(tmp_path), 4, 1), load_images("image_folder", str(tmp_path), 4, 1)
    assert counted == Count(len(read), len(read.label_names)) == Count(4, 2)


def test_photos_with_a_usual_ending_are_not_even_opened(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    (tmp_path / "b.jpg").symlink_to(tmp_path / "nowhere")
    assert count_images("image_folder", str(tmp_path), 4, 1).photos == 2


def test_classes_of_a_table_of_file_names_and_of_a_list_replace_the_folders(tmp_path):
    photos(tmp_path, "x/cat_1.png", "x/dog_1.png", "x/dog_2.png")

    def classes(**given):
        return count_images("image_folder", str(tmp_path), 4, 1, **given).classes

    assert classes() == 1
    assert classes(order="prefix") == 2
    assert classes(order=("x", "y", "z")) == 3
    table = {"x/cat_1.png": "a", "dog_1.png": "b", "dog_2.png": "c", "other.png": "d"}
    assert classes(table=table) == 3


def test_an_npz_is_counted_by_its_header_and_labels(tmp_path):
    path = tmp_path / "photos.npz"
    np.savez(path, images=np.zeros((5, 4, 4), np.uint8), labels=np.array([0, 2, 2, 0, -1]))
    read = load_images("npz", str(path), 4, 1)
    assert count_images("npz", str(path), 4, 1) == Count(len(read), len(read.label_names)) == Count(5, 3)
    np.savez(path, images=np.zeros((5, 4, 4, 3), np.uint8))
    assert count_images("npz", str(path), 4, 3) == Count(5, 0)


def test_orl_is_counted_where_it_is_installed():
    assert count_images("orl", "", 32, 1) == Count(400, 40)


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("npz", lambda path: np.savez(path, images=np.zeros((5, 8, 8), np.uint8)), "asks for uint8 (N, 4, 4, 1)"),
        ("npz", lambda path: path.write_bytes(b"no zip"), "is no npz file with an array 'images'"),
        ("image_folder", lambda path: path.write_bytes(b""), "is not a folder"),
        ("image_folder", lambda path: path.mkdir(), "none of its files is an image"),
        ("folder", lambda path: path.mkdir(), "dataset.name must be one of orl, image_folder, npz, tfds, got 'folder'"),
        ("image_folder", lambda path: None, "does not exist"),
    ],
)
def test_data_that_cannot_be_read_are_refused(tmp_path, name, make, message):
    path = tmp_path / "data.npz"
    make(path)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        count_images(name, str(path), 4, 1)
    assert "\n" not in str(error.value)


def test_generated_images_are_counted_in_a_folder_and_an_npz(tmp_path):
    photos(tmp_path / "gen", "a.png", "b.png")
    np.savez(tmp_path / "gen.npz", images=np.zeros((5, 4, 4), np.uint8))
    assert count_generated("samples", str(tmp_path / "gen")) == 2
    assert count_generated("samples", str(tmp_path / "gen.npz")) == 5
