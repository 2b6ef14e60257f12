"""Classes by name: their order, and tables of them beside the photos."""

import numpy as np
import pytest
from PIL import Image

from side_jax.data.classes import check_order, labelled, numbered, read_table, renumbered
from side_jax.data.images import ImageSet
from side_jax.data.load import load_images

ATTRIBUTES = "3\n5_o_Clock_Shadow Male\n1.jpg -1  1\n2.jpg  1 -1\n10.jpg -1 -1\n"


def image_set(*ids):
    return ImageSet(np.zeros((len(ids), 2, 2, 1), np.uint8), np.full(len(ids), -1, np.int32), ids)


def by_class(images):
    return {name: images.label_names[k] if k >= 0 else "" for name, k in zip(images.ids, images.labels, strict=True)}


@pytest.fixture
def twelve(tmp_path):
    """Folders 1 … 12, which sorted by code points are 1, 10, 11, 12, 2, …"""
    for k in range(1, 13):
        (tmp_path / f"{k}").mkdir()
        Image.new("L", (2, 2), k).save(tmp_path / f"{k}" / "x_1.png")
    return load_images("image_folder", str(tmp_path), 2, 1)


@pytest.mark.given(
    kind=4,
    input="numeric folders 1 … 12",
    before="natural order here, 1, 10, 11, 12, 2 … in ImageFolder",
    now="`dataset.class_order=string`: 1, 10, 11, 12, 2 …",
)
def test_classes_are_numbered_as_imagefolder_numbers_them(twelve):
    assert numbered(twelve, "natural").label_names == tuple(map(str, range(1, 13)))
    ordered = numbered(twelve, "string")
    assert ordered.label_names == ("1", "10", "11", "12", "2", "3", "4", "5", "6", "7", "8", "9")
    np.testing.assert_array_equal(ordered.labels, [0, 4, 5, 6, 7, 8, 9, 10, 11, 1, 2, 3])
    assert by_class(ordered) == by_class(twelve)


@pytest.mark.given(
    kind=4,
    input="a list of names in `dataset.class_order`",
    before="",
    now="numbers are places in the list, also of a class without photos",
)
def test_classes_are_numbered_as_a_list_says(twelve):
    names = (*map(str, range(12, 0, -1)), "absent")
    ordered = numbered(twelve, names)
    assert ordered.label_names == names
    np.testing.assert_array_equal(ordered.labels, np.arange(11, -1, -1))


@pytest.mark.given(
    kind=4,
    input="classes in file names, as guided-diffusion has them",
    before="",
    now="`dataset.class_order=prefix`: 10 before 9; a file without an underscore is refused",
)
def test_prefix_of_the_file_name_is_the_class():
    """guided-diffusion: sorted set of `basename.split("_")[0]`; "10" before "9"."""
    images = numbered(image_set("a/9_1.png", "10_2.png", "b/10_x_y.png"), "prefix")
    assert images.label_names == ("10", "9")
    np.testing.assert_array_equal(images.labels, [1, 0, 0])
    with pytest.raises(ValueError, match=r"1 of 2 photos have no underscore in their file names, such as x\.png"):
        numbered(image_set("9_1.png", "a_b/x.png"), "prefix")


@pytest.mark.given(
    kind=0,
    input="a class list that does not fit the photos",
    before="",
    now="\"dataset.class_order lacks '2', a class of the photos\"",
)
def test_a_list_that_does_not_fit_is_refused(twelve):
    with pytest.raises(ValueError, match="dataset.class_order lacks '2', a class of the photos"):
        numbered(twelve, ("1", "3"))
    with pytest.raises(ValueError, match="names classes, but the photos have none"):
        numbered(image_set("x.png"), ("1", "3"))


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ("alphabet", "f must be one of natural, string, prefix or the names of all classes, got 'alphabet'"),
        (("a", "b", "a"), "f names 'a' twice"),
        ((), "f has no names"),
    ],
)
def test_an_order_that_is_none_is_refused(order, message):
    with pytest.raises(ValueError, match=message):
        check_order(order, "f")


def test_names_that_only_one_set_has_are_numbered_after_the_others():
    images = labelled(image_set("1", "2", "3"), {"1": "b", "2": "d", "3": ""}, "t")
    other = renumbered(images, ("a", "b", "c"))
    assert other.label_names == ("a", "b", "c", "d")
    np.testing.assert_array_equal(other.labels, [1, 3, -1])


@pytest.mark.given(
    kind=14,
    input="identity_CelebA.txt, list_attr_celeba.txt or a CSV beside an image folder",
    before="TFDS's celeb_a cannot be prepared on most days (quota)",
    now="`dataset.labels` gives each photo its class",
)
@pytest.mark.parametrize(
    ("name", "text", "column", "classes"),
    [
        ("identity_CelebA.txt", "1.jpg 2880\n2.jpg 2937\n10.jpg 2880\n", "", ["2880", "2937", "2880"]),
        ("list_attr_celeba.txt", ATTRIBUTES, ":Male", ["1", "-1", "-1"]),
        ("list_attr_celeba.txt", ATTRIBUTES, ":5_o_Clock_Shadow", ["-1", "1", "-1"]),
        ("labels.csv", '\ufeffid,class\n1.jpg,a\n2.jpg,"b, c"\n\n10.jpg,a\n', "", ["a", "b, c", "a"]),
        ("metadata.csv", "file_name,label\n1.jpg,a\n2.jpg,b\n10.jpg,a\n", "", ["a", "b", "a"]),
        ("three.csv", "file,class,age\n1.jpg,a,3\n2.jpg,b,3\n10.jpg,a,4\n", "", ["a", "b", "a"]),
        ("three.csv", "file,class,age\n1.jpg,a,3\n2.jpg,b,3\n10.jpg,a,4\n", ":age", ["3", "3", "4"]),
    ],
)
def test_tables_of_classes(tmp_path, name, text, column, classes):
    (tmp_path / name).write_text(text, encoding="utf-8")
    table = read_table(f"{tmp_path / name}{column}")
    images = labelled(image_set("a/1.jpg", "2.jpg", "10.jpg"), table, name)
    assert list(by_class(images).values()) == classes


@pytest.mark.parametrize(
    ("name", "text", "column", "message"),
    [
        (
            "l.csv",
            "file,class,age\n1.jpg,a,3\n",
            ":size",
            "no column 'size' among class, age; name one, such as another",
        ),
        (
            "l.csv",
            "file,race,age\n1.jpg,a,3\n",
            "",
            "no column 'class' among race, age; name one, such as .*l.csv:race",
        ),
        ("l.csv", "file,class\n1.jpg,a\n2.jpg\n", "", "line 3 has 1 fields, not 2"),
        ("l.csv", "file,class\n1.jpg,a\n1.jpg,b\n", "", "1.jpg has two classes, the second in line 3"),
        ("l.csv", "1.jpg\n", "", "is no table of classes"),
        ("l.txt", "", "", "is no table of classes"),
        ("l.txt", ATTRIBUTES, "", "no column 'class' among 5_o_Clock_Shadow, Male"),
        ("l.csv", "file,class\n\udcff,a\n", "", "cannot be read"),
    ],
)
def test_a_file_that_is_no_such_table_is_refused(tmp_path, name, text, column, message):
    (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=f"dataset.labels .*{message}"):
        read_table(f"{tmp_path / name}{column}")


def test_a_table_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="no.csv' is not a file"):
        read_table(str(tmp_path / "no.csv"))


@pytest.mark.given(
    kind=0,
    input="a label file without some of the photos",
    before="",
    now="\"dataset.labels 't' has no row for 2 of 3 photos, such as a/2.jpg\"",
)
def test_photos_without_a_row_are_refused_with_their_number_and_one_of_them():
    with pytest.raises(ValueError, match=r"dataset.labels 't' has no row for 2 of 3 photos, such as a/2\.jpg"):
        labelled(image_set("1.jpg", "a/2.jpg", "3.jpg"), {"1.jpg": "x"}, "t")


def test_a_path_decides_before_a_file_name_and_a_name_that_two_photos_have_is_refused():
    images = image_set("a/1.jpg", "b/1.jpg")
    assert by_class(labelled(images, {"a/1.jpg": "x", "1.jpg": "y"}, "t")) == {"a/1.jpg": "x", "b/1.jpg": "y"}
    with pytest.raises(ValueError, match=r"its row 1\.jpg fits 2 photos; give their paths"):
        labelled(images, {"1.jpg": "y"}, "t")
