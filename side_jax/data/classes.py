"""Which class a photo has, and which number a class has: from folders, file names or a table beside the photos."""

import csv
import dataclasses
import io
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from etils import epath

from side_jax.data.images import ImageSet

ORDERS = ("natural", "string", "prefix")
Table = Mapping[str, str]  # file name, or path below the folder -> name of the class


def check_order(order: str | tuple[str, ...], field: str) -> None:
    """Raises `ValueError` for what is neither a name in `ORDERS` nor some distinct names of classes."""
    if isinstance(order, str):
        if order not in ORDERS:
            raise ValueError(f"{field} must be one of {', '.join(ORDERS)} or the names of all classes, got {order!r}")
    elif len(set(order)) < len(order) or not order:
        twice = next((name for name, count in Counter(order).items() if count > 1), None)
        raise ValueError(f"{field} {f'names {twice!r} twice' if twice else 'has no names'}")


def numbered(images: ImageSet, order: str | tuple[str, ...]) -> ImageSet:
    """The images with their classes in another order.

    Args:
      images: in whose `label_names` the classes stand in natural order (2 before 10), or in that of their source.
      order: natural, as they are | string, by code points as torchvision's ImageFolder has them (10 before 2) | prefix,
        the class is the file name up to the first underscore, by code points as guided-diffusion has it | the names.

    Raises:
      ValueError: if the names lack a class of the images, or a file name has no underscore.
    """
    if order == "natural":
        return images
    if order == "prefix":
        images = _by_prefix(images)
    if isinstance(order, str):
        return renumbered(images, tuple(sorted(images.label_names)))
    absent = [name for name in images.label_names if name not in order]
    if absent or not images.label_names:
        fault = f"lacks {absent[0]!r}, a class of the photos" if absent else "names classes, but the photos have none"
        raise ValueError(f"dataset.class_order {fault}; give the names of all classes, number by number")
    return renumbered(images, order)


def renumbered(images: ImageSet, names: tuple[str, ...]) -> ImageSet:
    """The images with their classes numbered by name: as in `names`, and after those the names that are not there."""
    number = {name: k for k, name in enumerate(dict.fromkeys((*names, *images.label_names)))}
    numbers = np.array([number[name] for name in images.label_names] + [-1], np.int32)  # the last one is no class
    return dataclasses.replace(images, labels=numbers[images.labels], label_names=tuple(number))


def _by_prefix(images: ImageSet) -> ImageSet:
    files = [posixpath.basename(name) for name in images.ids]
    without = [name for name in files if "_" not in name]
    if without:
        raise ValueError(
            f"dataset.class_order='prefix': {len(without)} of {len(files)} photos have no underscore in their file"
            f" names, such as {without[0]}"
        )
    return classified(images, [name.partition("_")[0] for name in files])


def classified(images: ImageSet, classes: list[str]) -> ImageSet:
    """The images with these classes, in natural order; "" is none."""
    names = tuple(sorted({name for name in classes if name}, key=natural_key))
    position = {name: k for k, name in enumerate(names)} | {"": -1}
    labels = np.array([position[name] for name in classes], np.int32)
    return dataclasses.replace(images, labels=labels, label_names=names)


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Orders s2 before s10."""
    digits = "".join(c if c.isdigit() else f" {c} " for c in text).split()
    return [(0, int(d), "") if d.isdigit() and d.isascii() else (1, 0, d) for d in digits]


def labelled(images: ImageSet, table: Table, path: str) -> ImageSet:
    """The images with the classes of a table, in natural order.

    Args:
      images: any.
      table: by id of the image or, where that is not in it, by file name.
      path: of the table, for messages.

    Raises:
      ValueError: for photos without a row, or a row for a file name that several photos have.
    """
    files = [posixpath.basename(name) for name in images.ids]
    keys = [name if name in table else file for name, file in zip(images.ids, files, strict=True)]
    missing = [name for name, key in zip(images.ids, keys, strict=True) if key not in table]
    if missing:
        raise ValueError(
            f"dataset.labels {path!r} has no row for {len(missing)} of {len(images)} photos, such as {missing[0]}; add"
            " their rows (a file name, or a path below the folder), or remove the photos"
        )
    key, count = Counter(keys).most_common(1)[0]
    if count > 1:
        raise ValueError(
            f"dataset.labels {path!r}: its row {key} fits {count} photos; give their paths below the folder"
        )
    return classified(images, [table[key] for key in keys])


def read_table(path: str) -> Table:
    """File -> class, of a CSV with a header, of CelebA's identity_CelebA.txt, or of its list_attr_celeba.txt.

    Args:
      path: of the file; a column is named after a colon, as in list_attr_celeba.txt:Male. The first column is the file,
        whatever its name. Without a colon the class is the only other column, or the one called "class".

    Raises:
      ValueError: for a file that is not such a table, naming the line; for a file with two classes.
    """
    source, column = _source(path)
    try:
        text = source.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"dataset.labels {path!r} cannot be read: {error}") from error
    rows = csv.reader(io.StringIO(text)) if source.suffix == ".csv" else map(str.split, text.splitlines())
    header, numbered_rows = _header(path, _filled(rows), source.suffix == ".csv")
    position = _position(path, header, column)
    table: dict[str, str] = {}
    for line, row in numbered_rows:
        if len(row) != len(header):
            raise ValueError(f"dataset.labels {path!r}: line {line} has {len(row)} fields, not {len(header)}")
        if table.setdefault(row[0], row[position]) != row[position]:
            raise ValueError(f"dataset.labels {path!r}: {row[0]} has two classes, the second in line {line}")
    return table


def table_file(path: str) -> epath.Path:
    """The file that `read_table` reads. Raises `ValueError` if there is none."""
    return _source(path)[0]


def _source(path: str) -> tuple[epath.Path, str]:
    """The file, and the name of a column after its last colon or ""."""
    head, colon, tail = path.rpartition(":")
    named = colon and "/" not in tail and not epath.Path(path).exists()
    source, column = epath.Path(head if named else path), tail if named else ""
    if not source.is_file():
        raise ValueError(f"dataset.labels {str(source)!r} is not a file")
    return source, column


def _filled(rows: Iterable[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not empty, with their line numbers and without spaces around their fields."""
    for line, row in enumerate(rows, 1):
        if row:
            yield line, [field.strip() for field in row]


def _header(
    path: str, rows: Iterator[tuple[int, list[str]]], is_csv: bool
) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """Names of the columns, and the rows below. A list of attributes begins with their number and names."""
    line, first = next(rows, (0, []))
    if is_csv and len(first) > 1:
        return first, rows
    if not is_csv and len(first) == 1 and first[0].isdigit():
        return ["file", *next(rows, (0, []))[1]], rows
    if not is_csv and len(first) == 2:
        return ["file", "class"], iter([(line, first), *rows])
    raise ValueError(
        f"dataset.labels {path!r} is no table of classes: a CSV needs a header and two columns; a text file two columns"
        " without a header, or CelebA's number of rows and names of attributes above"
    )


def _position(path: str, header: list[str], column: str) -> int:
    """Where the class stands in a row."""
    columns = header[1:]
    wanted = column or (columns[0] if len(columns) == 1 else "class")
    if columns.count(wanted) != 1:
        shown = ", ".join(columns[:5]) + (", …" if len(columns) > 5 else "")
        example = f"{path}:{columns[0]}" if columns and not column else "another"
        raise ValueError(f"dataset.labels {path!r}: no column {wanted!r} among {shown}; name one, such as {example}")
    return 1 + columns.index(wanted)
