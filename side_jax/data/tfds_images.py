"""TensorFlow Datasets (TFDS) as a source of images: read from disk after preparation, never downloaded."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from etils import epath

from side_jax.data.images import ImageSet, Record, decode_all
from side_jax.data.preparation import Recipe

_PATH = re.compile(r"(?P<name>\w+(/[\w.-]+)?(:\d+\.\d+\.\d+)?)@(?P<split>.+)")
Example = Mapping[str, Any]


def load_tfds(path: str, image_size: int, channels: int, data_dir: str, recipe: Recipe) -> ImageSet:
    """Images of one split, in the order of the files, the same in every format of TFDS.

    Args:
      path: NAME[/CONFIG][:VERSION]@SPLIT with TFDS's slices, such as "celeb_a@train[:25000]" or "cifar10:3.0.2@test".
      image_size: pixels a side.
      channels: 1 (gray) or 3 (RGB).
      data_dir: folder of prepared data sets; empty for TFDS's default.
      recipe: how photos become pixels.

    Returns:
      ids are NAME[/CONFIG]/VERSION/SPLIT#INDEX, the index in the whole split; labels are those of the feature "label",
      if it is a class; images that cannot be decoded are listed and skipped.

    Raises:
      ValueError: in one line, if TFDS does not know the data set, version or split, it is not prepared, it has no
        images, or its files cannot be read.
    """
    names = _class_names(path, _builder_and_split(path, data_dir)[0])
    records = encoded_records(path, data_dir)
    images, kept, labels, skipped, traits = decode_all(records, image_size, channels, recipe)
    if not kept:
        raise ValueError(f"dataset.path {path!r}: none of its {len(skipped)} images can be decoded, {skipped[0][1]}")
    return ImageSet(images, np.array(labels, np.int32), kept, names, skipped, traits)


def encoded_records(path: str, data_dir: str) -> Iterator[Record[int]]:
    """Id of every image of a split, and what gives it encoded, with its label. Raises `ValueError` as `load_tfds`."""
    builder, split = _builder_and_split(path, data_dir)
    labelled = bool(_class_names(path, builder))
    for name, example in zip(_ids(path, builder, split), _examples(path, builder, split), strict=True):
        yield name, partial(_encoded, example, labelled)


def prepared_folder(path: str, data_dir: str = "") -> epath.Path:
    """The folder of the files that `load_tfds` reads. Raises `ValueError` as that."""
    return epath.Path(_builder_and_split(path, data_dir)[0].data_dir)


def _builder_and_split(path: str, data_dir: str) -> tuple[tfds.core.DatasetBuilder, str]:
    matched = _PATH.fullmatch(path)
    if not matched:
        raise ValueError(f"dataset.path {path!r} is not NAME[/CONFIG][:VERSION]@SPLIT, such as cifar10@train[:1000]")
    return _builder(path, matched["name"], data_dir), matched["split"]


def _builder(path: str, name: str, data_dir: str) -> tfds.core.DatasetBuilder:
    """The reader of a prepared data set."""
    try:
        with _no_warnings():
            builder = tfds.builder(name, data_dir=data_dir or None)
    except Exception as error:  # unknown names, configs and versions each have an exception of their own
        raise ValueError(f"dataset.path {path!r}: {_first_line(error)} (tensorflow.org/datasets/catalog)") from error
    if not builder.info.splits:
        where = f", data_dir={data_dir!r}" if data_dir else ""
        raise ValueError(
            f"dataset.path {path!r}: nothing is prepared in {builder.data_dir}; download and prepare it with python -c"
            f" \"import tensorflow_datasets as tfds; tfds.builder({name!r}{where}, file_format='array_record')"
            '.download_and_prepare()", or set dataset.data_dir to where it is'
        )
    return builder


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    """TFDS logs a warning that repeats its error."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _class_names(path: str, builder: tfds.core.DatasetBuilder) -> tuple[str, ...]:
    """Names of the classes of the feature "label"; empty if it is no class. Checks the feature "image"."""
    features = dict(builder.info.features.items())
    image, label = features.get("image"), features.get("label")
    if not isinstance(image, tfds.features.Image) or image.np_dtype not in (np.uint8, np.uint16):
        fault = f"is a {image.np_dtype} {type(image).__name__}" if image else "is not among " + ", ".join(features)
        raise ValueError(f"dataset.path {path!r}: its feature 'image' {fault}; only 8 or 16-bit images can be read")
    return tuple(label.names) if isinstance(label, tfds.features.ClassLabel) else ()


def _ids(path: str, builder: tfds.core.DatasetBuilder, split: str) -> list[str]:
    """NAME/VERSION/SPLIT#INDEX of every record, the index in the whole split."""
    splits, name = builder.info.splits, builder.info.full_name
    try:
        parts = tfds.core.ReadInstruction.from_spec(split).to_absolute(splits)
    except Exception as error:  # TFDS asserts some of its rules
        raise ValueError(f"dataset.path {path!r}: {_first_line(error)}") from error
    ids = []
    for part in parts:
        end = splits[part.splitname].num_examples if part.to is None else part.to
        ids += [f"{name}/{part.splitname}#{i}" for i in range(part.from_ or 0, end)]
    if not ids or len(set(ids)) < len(ids):
        raise ValueError(f"dataset.path {path!r}: {split!r} {'names a record twice' if ids else 'is empty'}")
    return ids


def _examples(path: str, builder: tfds.core.DatasetBuilder, split: str) -> Iterator[Example]:
    """Every record in the order of the files. Images stay encoded: TFDS decodes each format by another library."""
    decoders = {"image": tfds.decode.SkipDecoding()}
    try:
        try:
            source = builder.as_data_source(split, decoders=decoders)
            yield from (source[i] for i in range(len(source)))
        except NotImplementedError:  # prepared in a format without random access
            one_file_at_a_time = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
            yield from tfds.as_numpy(
                builder.as_dataset(split=split, shuffle_files=False, decoders=decoders, read_config=one_file_at_a_time)
            )
    except Exception as error:  # a damaged file: each format has its own exceptions
        raise ValueError(
            f"dataset.path {path!r}: {builder.data_dir} cannot be read, {_first_line(error)}; remove it and prepare it"
            " again"
        ) from error


def _encoded(example: Example, labelled: bool) -> tuple[bytes, int]:
    return example["image"], int(example["label"]) if labelled else -1


def _first_line(error: Exception) -> str:
    """The first line of its message, without the names of TensorFlow's operations."""
    line = str(error).strip().partition("\n")[0]
    return re.sub(r"\{\{.*?\}\} | \[Op:.*", "", line).rstrip(".:; ")
