"""What a config names, for the dry run: read as far as it is there, without decoding a photo or reading weights.

What is not there is assumed, and each assumption is a line that begins with ASSUMED.
"""

import dataclasses

import jax
from etils import epath

from side_jax.audit.cost.jobs import CLASSES, Setting
from side_jax.audit.dataset import DatasetOptions
from side_jax.audit.options import AuditOptions
from side_jax.audit.pipeline import check_model
from side_jax.audit.stages.label import check_num_classes, of_classes
from side_jax.audit.target_files import read_architecture
from side_jax.data.classes import read_table, table_file
from side_jax.data.count import Count, count_generated, count_images
from side_jax.data.load import SOURCES, location
from side_jax.data.splitting import check_shares
from side_jax.diffusion.schedule import Schedule
from side_jax.targets.target import Network, Target, abstract_target

_PHOTOS = 10_000  # training photos that are assumed
ABSENT = "(not given)"  # stands for a path that is empty


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What is counted, and where its numbers come from.

    Attributes:
      setting: the audit.
      source: of the target's architecture.
      lines: what was counted in the config's data and, in capitals, what is assumed.
    """

    setting: Setting
    source: str
    lines: tuple[str, ...]


def read_inputs(options: AuditOptions) -> Inputs:
    """The audit of a config with the numbers of its own photos and its own model, where they are there.

    Raises:
      ValueError: as an audit would, for a model or photos that are there and do not fit the config.
    """
    options, given = _samples(options)
    target, source, missing = _target(options)
    setting = Setting(options, target, jax.device_count(), _PHOTOS)
    setting, photos = _photos(setting)
    return Inputs(setting, source, (*missing, *photos, *given))


def _target(options: AuditOptions) -> tuple[Target | None, str, list[str]]:
    """The target with abstract parameters, if there is one, the source of its architecture, and if it is assumed."""
    if options.modelless:
        return None, "no model", []
    dataset, path = options.dataset, options.target.path
    found, source, assumed = None, "target.unet", []
    if options.target.source == "load":
        found = read_architecture(path)
        source = path if found else "target.unet, assumed"
    net: Network = found or options.target.make_net(dataset.image_size, dataset.channels)
    if options.target.source == "load" and not found:
        why = "does not exist" if not epath.Path(path).exists() else "does not say its architecture"
        why = "target.path is empty" if path == ABSENT else f"target.path {path!r} {why}"
        assumed = [f"ASSUMED: the model is the UNet of target.unet, as {why}"]
    if net.image_shape[0] != dataset.image_size:
        raise ValueError(
            f"target {path} makes images of {net.image_shape[0]} pixels, dataset.image_size is {dataset.image_size};"
            " set it to the target's"
        )
    net.check(dataset.image_size, dataset.channels)
    schedule = Schedule() if options.target.source == "load" else options.target.make_schedule()
    target = abstract_target(net, schedule)
    check_model(options, target)
    return target, source, assumed


def _photos(setting: Setting) -> tuple[Setting, list[str]]:
    """The setting with the numbers of photos and classes."""
    options, dataset = setting.options, setting.options.dataset
    check_shares(dataset.heldout_fraction, dataset.near_duplicate)
    found, lines = _counted(dataset, dataset.path, True), []
    if isinstance(found, Count):
        held = round(dataset.heldout_fraction * found.photos)
        train, heldout = max(1, found.photos - held), held if dataset.heldout_fraction else None
        halves = f": {train:,} to train on, {held:,} held out" if held else ""
        lines.append(f"Counted: {found.photos:,} photos in {dataset.path or dataset.name!r}{halves}")
    else:
        train, heldout = setting.num_train, None
        both = ", and as many held out" if dataset.heldout_fraction else ""
        lines.append(f"ASSUMED: {train:,} training photos{both}, as {found}")
    if dataset.heldout_path:
        unseen = _counted(dataset, dataset.heldout_path, False)
        if isinstance(unseen, Count):
            heldout = unseen.photos
            lines.append(f"Counted: {heldout:,} held-out photos in {dataset.heldout_path!r}")
        else:
            reason = unseen.replace("dataset.path", "dataset.heldout_path")
            lines.append(f"ASSUMED: {train:,} held-out photos, as {reason}")
    setting = dataclasses.replace(setting, num_train=train, num_heldout=heldout)
    if options.modelless or not any(of_classes(row) for row in options.rows().values()):
        return setting, lines
    if isinstance(found, str) or _no_table(dataset):
        reason = found if isinstance(found, str) else _no_table(dataset)
        return setting, [*lines, f"ASSUMED: {CLASSES:,} classes of training photos, as {reason}"]
    check_num_classes(options, found.classes)
    lines.append(f"Counted: {found.classes:,} classes of training photos")
    return dataclasses.replace(setting, num_classes=found.classes), lines


def _counted(dataset: DatasetOptions, path: str, training: bool) -> Count | str:
    """The photos in a path, or why they are not counted. The classes of held-out photos are not asked for."""
    if dataset.name == "tfds":
        return "the dry run opens no TensorFlow data set (dataset.name='tfds')"
    if dataset.name in SOURCES:
        try:
            location(dataset.name, path)
        except ValueError as error:
            return str(error)
    table = read_table(dataset.labels) if training and dataset.labels and not _no_table(dataset) else None
    order = dataset.class_order if training else "natural"
    return count_images(dataset.name, path, dataset.image_size, dataset.channels, order, table)


def _no_table(dataset: DatasetOptions) -> str:
    """Why the table of classes cannot be read; empty if there is one, or none is asked for."""
    try:
        if dataset.labels:
            table_file(dataset.labels)
    except ValueError as error:
        return str(error)
    return ""


def _samples(options: AuditOptions) -> tuple[AuditOptions, list[str]]:
    """The options with the size of the largest given set as the number of images; as they are with a model."""
    if not options.modelless:
        return options, []
    counts, lines = [], []
    for name, path in options.samples.paths:
        if epath.Path(path).exists():
            counts.append(count_generated(f"samples.paths {name!r}:", path))
            lines.append(f"Counted: {counts[-1]:,} generated images in {path!r}")
    most = max(counts, default=0) or options.extract.num_images
    if len(counts) < len(options.samples.paths):
        absent = ", ".join(repr(path) for _, path in options.samples.paths if not epath.Path(path).exists())
        why = "samples.paths is empty" if ABSENT in absent else f"{absent} of samples.paths does not exist"
        lines.append(f"ASSUMED: {most:,} generated images in each other set, as {why}")
    return dataclasses.replace(options, extract=dataclasses.replace(options.extract, num_images=most)), lines
