"""The photos of an audit: their options, and their split into training and held-out photos."""

import csv
import dataclasses
import io
import itertools
from collections import Counter
from typing import Any

import numpy as np
from etils import epath

from side_jax.data import cache
from side_jax.data.classes import ORDERS, check_order, labelled, numbered, read_table, renumbered, table_file
from side_jax.data.images import ImageSet
from side_jax.data.load import load_images, location
from side_jax.data.preparation import BACKGROUNDS, FILTERS, ORIENTATIONS, RECIPES, RESIZES, Recipe
from side_jax.data.splitting import Split, near_duplicate_cosine, near_duplicate_groups, split_images
from side_jax.runtime.declare import CONTENT, at_least, named_in, option
from side_jax.runtime.distributed import is_primary, once
from side_jax.runtime.files import is_local, write_bytes
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
        0.0,
        "pixel cosine from which two images stay on one side of the split and count as one picture; 0: 0.98, or more"
        " where all images are much alike",
        decides=CONTENT,
    )
    split_seed: int = option(0, "decides the split, alone", at_least(0))
    prepare: str = option(
        "side_jax",
        "how photos become pixels, as when the target was trained: side_jax | diffusers, its unconditional example |"
        " guided_diffusion. The five fields below replace single choices; empty or 0: the recipe's",
        named_in(RECIPES),
        decides=CONTENT,
    )
    orientation: str = option(
        "", "exif, turned as a viewer shows it | stored, as the pixels lie", named_in(ORIENTATIONS, ""), decides=CONTENT
    )
    background: str = option(
        "",
        "of transparent parts: white | black | dropped, the colour stored there, as convert('RGB')",
        named_in(BACKGROUNDS, ""),
        decides=CONTENT,
    )
    white: float = option(
        0.0,
        "value of white in gray of more than 8 bits and in floats: 65535, 4095 for 12 bits, 1; 255 is convert('RGB')",
        at_least(0),
        decides=CONTENT,
    )
    resize: str = option(
        "",
        "crop_first | short_side, torchvision's Resize and CenterCrop | halving, guided-diffusion's | stretch",
        named_in(RESIZES, ""),
        decides=CONTENT,
    )
    filter: str = option("", f"Pillow's {' | '.join(FILTERS)}", named_in(FILTERS, ""), decides=CONTENT)
    class_order: str | tuple[str, ...] = option(
        "natural",
        "numbers of the classes: natural, 2 before 10 | string, 10 before 2, as torchvision's ImageFolder | prefix, the"
        " class is the file name up to its first underscore, as in guided-diffusion | or all names, number by number",
        decides=CONTENT,
    )
    labels: str = option(
        "",
        "the classes, instead of folders: a CSV of file and class, identity_CelebA.txt, or list_attr_celeba.txt:Male,"
        " a column after a colon",
        decides=CONTENT,
    )

    @property
    def held_out(self) -> bool:
        """True if any photo is to be held out."""
        return self.heldout_fraction > 0 or bool(self.heldout_path)

    def check(self, path: str) -> None:
        """Refuses fields that exclude each other, and an order of classes that is none."""
        if self.heldout_path and self.heldout_fraction:
            raise ValueError(
                f"{path}.heldout_path {self.heldout_path!r} and {path}.heldout_fraction {self.heldout_fraction}"
                " exclude each other; set the fraction to 0"
            )
        if self.name == "npz" and self.recipe() != RECIPES["side_jax"]:
            raise ValueError(
                f"{path}.prepare={self.prepare!r} with {self.choices()} is for encoded photos, but {path}.name='npz'"
                " has pixels already; leave these fields as they are"
            )
        check_order(self.class_order, f"{path}.class_order")
        if self.labels and self.class_order == "prefix":
            raise ValueError(
                f"{path}.labels {self.labels!r} and {path}.class_order='prefix' both say which class a photo has; leave"
                f" one out ({path}.class_order may be {ORDERS[0]}, {ORDERS[1]} or names)"
            )

    def recipe(self) -> Recipe:
        """The recipe with the single choices that replace its own."""
        return dataclasses.replace(RECIPES[self.prepare], **self.choices())

    def choices(self) -> dict[str, Any]:
        """The single choices that are made here, by name."""
        fields = (field.name for field in dataclasses.fields(Recipe))
        return {name: getattr(self, name) for name in fields if getattr(self, name)}


_NAMED = 10  # held-out photos that a message names


def load_split(dataset: DatasetOptions, workdir: epath.Path | None = None) -> Split:
    """Reads the photos of a config and splits them into training and held-out photos.

    Args:
      dataset: of the config.
      workdir: if given, the photos are taken from its cache where that holds them, and else get the key for `keep`.
    """
    if workdir is None:
        return _split(dataset, None)
    key = _key(dataset)  # before anything is read: what changes meanwhile has another key
    # `--force_new` is asked for the one workdir, and works in another beside it.
    folders = [workdir, *sorted(workdir.parent.glob(f"{workdir.name}-*"))]
    kept = cache.find([folder / cache.FOLDER for folder in folders], key)
    return kept or dataclasses.replace(_split(dataset, workdir), key=key)


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
    table = {table_file(dataset.labels)} if dataset.labels else set()
    return cache.cache_key(options, sources | table)


def _split(dataset: DatasetOptions, workdir: epath.Path | None) -> Split:
    recipe, order = dataset.recipe(), dataset.class_order
    table = read_table(dataset.labels) if dataset.labels else None

    def load(path: str, order: str | tuple[str, ...]) -> ImageSet:
        images = load_images(dataset.name, path, dataset.image_size, dataset.channels, dataset.data_dir, recipe)
        return numbered(labelled(images, table, dataset.labels) if table is not None else images, order)

    images = load(dataset.path, order)
    split = split_images(images, dataset.heldout_fraction, dataset.near_duplicate, dataset.split_seed)
    traits = Counter(images.traits)
    if dataset.heldout_path:
        # Its classes may be fewer than those that a list names, or more, which get numbers after them.
        unseen = load(dataset.heldout_path, order if isinstance(order, str) else "natural")
        traits += Counter(unseen.traits)
        split = _with_unseen(images, unseen, dataset, workdir)
    return dataclasses.replace(split, traits=dict(traits))


def _with_unseen(images: ImageSet, unseen: ImageSet, dataset: DatasetOptions, workdir: epath.Path | None) -> Split:
    """Training and held-out photos, without held-out near-duplicates of training photos, which calibrate nothing.

    Near-duplicates in files are refused: their owner can remove them. Those of a TensorFlow data set are skipped and
    listed (CIFAR-10's test split has hundreds of them, Barz and Denzler 2020).
    """
    cosine = dataset.near_duplicate or near_duplicate_cosine(images.images)
    groups = near_duplicate_groups(itertools.chain(rows(images.images), rows(unseen.images)), cosine)
    known = np.isin(groups[len(images) :], groups[: len(images)])
    overlap = not set(images.ids).isdisjoint(unseen.ids)
    if known.any() and (dataset.name != "tfds" or overlap or known.all()):
        first = {group: name for name, group in reversed(list(zip(images.ids, groups[: len(images)], strict=True)))}
        pairs = [(unseen.ids[i], first[groups[len(images) + i]]) for i in np.flatnonzero(known)]
        such = ", ".join(f"{one} (as {other})" for one, other in pairs[:_NAMED])
        more = f" …; {_list_beside(workdir, pairs)} has them all" if workdir and len(pairs) > _NAMED else ""
        raise ValueError(
            f"dataset.heldout_path {dataset.heldout_path!r}: {len(pairs)} of its {len(unseen)} images are training"
            f" images too, or nearly (dataset.near_duplicate: pixel cosine {cosine:.5g} or more); remove them from one"
            f" of the two: {such}{more}"
        )
    dropped = tuple((unseen.ids[i], "held out, but nearly a training image") for i in np.flatnonzero(known))
    skipped = images.skipped + unseen.skipped + dropped
    kept = np.flatnonzero(~known)
    heldout = renumbered(unseen[kept], images.label_names)
    groups = groups[np.append(np.arange(len(images)), len(images) + kept)]
    return Split(images, heldout, skipped, groups, cosine, separate=True)


def _list_beside(workdir: epath.Path, pairs: list[tuple[str, str]]) -> epath.Path:
    """Writes which held-out photo repeats which training photo, beside the workdir: that is not begun, or another's."""
    path = workdir.parent / f"{workdir.name}-near_duplicates.csv"
    if is_primary():
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([("held_out", "training"), *pairs])
        write_bytes(path, text.getvalue().encode())
    return path
