"""The photos of an audit: their options, and their split into training and held-out photos."""

import dataclasses
import itertools

import numpy as np
from etils import epath

from side_jax.data import cache
from side_jax.data.images import ImageSet
from side_jax.data.load import load_images, location
from side_jax.data.splitting import Split, near_duplicate_groups, split_images
from side_jax.runtime.declare import CONTENT, at_least, option
from side_jax.runtime.distributed import once
from side_jax.runtime.files import is_local
from side_jax.runtime.mapped import rows


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
        0.98, "pixel cosine from which two images stay on one side of the split", decides=CONTENT
    )
    split_seed: int = option(0, "decides the split, alone", at_least(0))

    def check(self, path: str) -> None:
        """Refuses a held-out fraction together with a held-out path."""
        if self.heldout_path and self.heldout_fraction:
            raise ValueError(
                f"{path}.heldout_path {self.heldout_path!r} and {path}.heldout_fraction {self.heldout_fraction}"
                " exclude each other; set the fraction to 0"
            )


def load_split(dataset: DatasetOptions, workdir: epath.Path | None = None) -> Split:
    """Reads the photos of a config and splits them into training and held-out photos.

    Args:
      dataset: of the config.
      workdir: if given, the photos are taken from its cache where that holds them, and else get the key for `keep`.
    """
    if workdir is None:
        return _split(dataset)
    key = _key(dataset)  # before anything is read: what changes meanwhile has another key
    # `--force_new` is asked for the one workdir, and works in another beside it.
    folders = [workdir, *sorted(workdir.parent.glob(f"{workdir.name}-*"))]
    kept = cache.find([folder / cache.FOLDER for folder in folders], key)
    return kept or dataclasses.replace(_split(dataset), key=key)


def keep(split: Split, workdir: epath.Path) -> Split:
    """The same photos, kept in a workdir. Every process calls it: the primary writes, and all map what it wrote."""
    folder = workdir / cache.FOLDER
    once("photos", lambda: cache.write(folder, split))
    if not split.key or split.folder == str(folder) or not is_local(folder):
        return split
    return cache.find([folder], split.key) or split  # its temporary files are given up


def _key(dataset: DatasetOptions) -> str:
    options = dataclasses.asdict(dataset)
    paths = (dataset.path, dataset.heldout_path) if dataset.heldout_path else (dataset.path,)
    sources = {location(dataset.name, path, dataset.data_dir) for path in paths}
    named = {epath.Path(value) for value in options.values() if value and isinstance(value, str)}
    return cache.cache_key(options, sources | {path for path in named if path.exists()})


def _split(dataset: DatasetOptions) -> Split:
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
    groups = near_duplicate_groups(itertools.chain(rows(images.images), rows(unseen.images)), dataset.near_duplicate)
    known = np.isin(groups[len(images) :], groups[: len(images)])
    overlap = not set(images.ids).isdisjoint(unseen.ids)
    if known.any() and (dataset.name != "tfds" or overlap or known.all()):
        raise ValueError(
            f"dataset.heldout_path {dataset.heldout_path!r}: {int(known.sum())} of its {len(unseen)} images are"
            f" training images too, or nearly (pixel cosine {dataset.near_duplicate} or more), such as"
            f" {unseen.ids[int(known.argmax())]}; remove them from one of the two"
        )
    dropped = tuple((unseen.ids[i], "held out, but nearly a training image") for i in np.flatnonzero(known))
    skipped = images.skipped + unseen.skipped + dropped
    kept = np.flatnonzero(~known)
    heldout = _numbered_as(images.label_names, unseen[kept])
    return Split(images, heldout, skipped, groups[np.append(np.arange(len(images)), len(images) + kept)], separate=True)


def _numbered_as(names: tuple[str, ...], images: ImageSet) -> ImageSet:
    """The images with their classes numbered by name: as in `names`, and after those the names that are not there."""
    every = (*names, *(name for name in images.label_names if name not in names))
    number = np.array([every.index(name) for name in images.label_names] + [-1], np.int32)  # the last one is no class
    return dataclasses.replace(images, labels=number[images.labels], label_names=every)
