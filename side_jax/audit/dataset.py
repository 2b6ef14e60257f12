"""The photos of an audit: their options, and their split into training and held-out photos."""

import dataclasses
import itertools

import numpy as np

from side_jax.data.images import ImageSet
from side_jax.data.load import load_images
from side_jax.data.splitting import Split, near_duplicate_cosine, near_duplicate_groups, split_images
from side_jax.runtime.declare import CONTENT, at_least, option


@dataclasses.dataclass(frozen=True)
class DatasetOptions:
    """The training photos and the held-out photos."""

    name: str = option("image_folder", "orl | image_folder | npz | tfds", decides=CONTENT)
    path: str = option(
        "",
        "a folder of class folders, a flat folder, an npz file, or e.g. cifar10@train[:5000] of TFDS",
        decides=CONTENT,
    )
    image_size: int = option(128, "pixels a side, after a centre crop", decides=CONTENT)
    channels: int = option(3, "1 gray | 3 RGB", decides=CONTENT)
    heldout_fraction: float = option(0.5, "share never trained on; it calibrates the scores", decides=CONTENT)
    heldout_path: str = option(
        "", "instead: unseen images from the same pool, when the target trained on everything", decides=CONTENT
    )
    data_dir: str = option("", "tfds: where data sets are prepared; empty for its default", decides=CONTENT)
    near_duplicate: float = option(
        0.0,
        "pixel cosine from which two images stay on one side of the split and count as one picture; 0: 0.98, or more"
        " where all images are much alike",
        decides=CONTENT,
    )
    split_seed: int = option(0, "decides the split, alone", at_least(0))

    @property
    def held_out(self) -> bool:
        """True if any photo is to be held out."""
        return self.heldout_fraction > 0 or bool(self.heldout_path)

    def check(self, path: str) -> None:
        """Refuses a held-out fraction together with a held-out path."""
        if self.heldout_path and self.heldout_fraction:
            raise ValueError(
                f"{path}.heldout_path {self.heldout_path!r} and {path}.heldout_fraction {self.heldout_fraction}"
                " exclude each other; set the fraction to 0"
            )


_NAMED = 10  # held-out photos that a message names


class TrainedOn(ValueError):
    """Held-out photos are training photos too, or nearly.

    Attributes:
      pairs: id of each such held-out photo, and of a training photo that it repeats.
    """

    def __init__(self, message: str, pairs: list[tuple[str, str]]) -> None:
        super().__init__(message)
        self.pairs = pairs

    @property
    def named(self) -> bool:
        """True if the message names them all."""
        return len(self.pairs) <= _NAMED


def load_split(dataset: DatasetOptions) -> Split:
    """Reads the photos of a config and splits them into training and held-out photos."""

    def load(path: str) -> ImageSet:
        return load_images(dataset.name, path, dataset.image_size, dataset.channels, dataset.data_dir)

    images = load(dataset.path)
    split = split_images(images, dataset.heldout_fraction, dataset.near_duplicate, dataset.split_seed)
    if dataset.heldout_path:
        split = _with_unseen(images, load(dataset.heldout_path), dataset)
    return split


def _with_unseen(images: ImageSet, unseen: ImageSet, dataset: DatasetOptions) -> Split:
    """Training and held-out photos, without held-out near-duplicates of training photos, which calibrate nothing.

    Near-duplicates in files are refused: their owner can remove them. Those of a TensorFlow data set are skipped and
    listed (CIFAR-10's test split has hundreds of them, Barz and Denzler 2020).
    """
    cosine = dataset.near_duplicate or near_duplicate_cosine(images.images)
    groups = near_duplicate_groups(itertools.chain(images.images, unseen.images), cosine)
    known = np.isin(groups[len(images) :], groups[: len(images)])
    overlap = not set(images.ids).isdisjoint(unseen.ids)
    if known.any() and (dataset.name != "tfds" or overlap or known.all()):
        first = {group: name for name, group in reversed(list(zip(images.ids, groups[: len(images)], strict=True)))}
        pairs = [(unseen.ids[i], first[groups[len(images) + i]]) for i in np.flatnonzero(known)]
        such = ", ".join(f"{one} (as {other})" for one, other in pairs[:_NAMED])
        raise TrainedOn(
            f"dataset.heldout_path {dataset.heldout_path!r}: {len(pairs)} of its {len(unseen)} images are training"
            f" images too, or nearly (dataset.near_duplicate: pixel cosine {cosine:.5g} or more); remove them from one"
            f" of the two: {such}",
            pairs,
        )
    dropped = tuple((unseen.ids[i], "held out, but nearly a training image") for i in np.flatnonzero(known))
    skipped = images.skipped + unseen.skipped + dropped
    kept = np.flatnonzero(~known)
    heldout = _numbered_as(images.label_names, unseen[kept])
    groups = groups[np.append(np.arange(len(images)), len(images) + kept)]
    return Split(images, heldout, skipped, groups, cosine, separate=True)


def _numbered_as(names: tuple[str, ...], images: ImageSet) -> ImageSet:
    """The images with their classes numbered by name: as in `names`, and after those the names that are not there."""
    every = (*names, *(name for name in images.label_names if name not in names))
    number = np.array([every.index(name) for name in images.label_names] + [-1], np.int32)  # the last one is no class
    return dataclasses.replace(images, labels=number[images.labels], label_names=every)
