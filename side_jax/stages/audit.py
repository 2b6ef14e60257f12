"""What every stage gets, and the checks that need the data or the target."""

import dataclasses
from typing import Any

import numpy as np
from etils import epath

from side_jax.artifacts import MANIFEST, fingerprint, read_json
from side_jax.extraction.descriptors import descriptor_facts, load_descriptor
from side_jax.images import ImageSet
from side_jax.interop import diffusers
from side_jax.interop.torchvision import load_resnet
from side_jax.models.unet import check_unet
from side_jax.options import AuditOptions, ExtractOptions
from side_jax.splitting import Split
from side_jax.target import Target
from side_jax.training import TrainOptions

EXPORT = "diffusers"  # a trained target as a diffusers directory, below target/


@dataclasses.dataclass(frozen=True)
class Audit:
    """Everything a stage function gets: checked options, where to work, the images."""

    options: AuditOptions
    workdir: epath.Path
    split: Split


def load_target(path: epath.PathLike) -> Target:
    """Reads a diffusion model.

    Args:
      path: a diffusers pipeline directory (`unet/`, `scheduler/`), or the workdir of an audit.

    Raises:
      ValueError: if there is neither, or what is there does not fit together; names the file or option.
    """
    return diffusers.load_target(model_directory(path))


def model_directory(path: epath.PathLike) -> epath.Path:
    """The diffusers directory that `path` means: itself, or the target that a workdir trained or loaded."""
    root = epath.Path(path)
    if not root.exists():
        raise ValueError(f"target path {str(root)!r} does not exist")
    manifest = root / "target" / MANIFEST
    if not manifest.exists():
        return root
    facts = read_json(manifest)["facts"]
    return model_directory(facts["path"]) if facts["source"] == "load" else root / "target" / EXPORT


def check(audit: Audit) -> None:
    """Checks options against images and target. Raises `ValueError`."""
    options, dataset = audit.options, audit.options.dataset
    if options.target.source == "train":
        check_unet(options.target.make_unet(dataset.image_size, dataset.channels), dataset.image_size, dataset.channels)
        schedule = options.target.make_schedule()
    else:
        target = load_target(options.target.path)
        schedule = target.schedule
        wanted = (dataset.image_size, dataset.image_size, dataset.channels)
        if target.image_shape != wanted:
            raise ValueError(
                f"target {options.target.path} makes {target.image_shape} images, the data set is {wanted}; set"
                " dataset.image_size and dataset.channels to the target's"
            )
        _check_training_images(target, audit.split, options.target.path)
    for name in ("synthesize", "extract"):
        try:
            schedule.ddim_timesteps(getattr(options, name).num_steps)
        except ValueError as error:
            raise ValueError(f"{name}.{error}") from error
    load_descriptor(options.extract.descriptor, options.extract.weights, options.extract.preprocessing)
    if options.classifier.pretrained:
        load_resnet(options.classifier.arch, options.classifier.pretrained)
    labels = audit.split.train.labels
    if options.labels.source == "classifier" and len(np.unique(labels[labels >= 0])) < 2:
        raise ValueError(
            "labels.source='classifier' needs training images of at least 2 classes, in class folders; use"
            " labels.source='clusters' for images without labels"
        )
    if options.extract.top_k > len(audit.split.train):
        raise ValueError(
            f"extract.top_k {options.extract.top_k} is more than the {len(audit.split.train)} training images"
        )


def _check_training_images(target: Target, split: Split, path: str) -> None:
    """A target that names its training images must have been trained on this split's."""
    trained = target.facts.get("training_hashes")
    if trained is None:
        return
    leaked = len(set(trained) & set(split.heldout.hashes))
    absent = len(set(split.train.hashes) - set(trained))
    if leaked or absent:
        raise ValueError(
            f"target {path} was trained on other images: {leaked} of its {len(trained)} are held out by this config,"
            f" and it never saw {absent} of the {len(split.train)} called training images; use the dataset.* settings"
            " of its training"
        )


def data_print(images: ImageSet) -> str:
    """Fingerprint of a set: ids and pixels."""
    return fingerprint([images.ids, images.hashes])


def descriptor_spec(options: ExtractOptions) -> dict[str, Any]:
    """What decides the scores: the hash of the descriptor's weights and not their path, for files move."""
    facts = descriptor_facts(options.descriptor, options.weights, options.preprocessing)
    files = {"weights": facts["sha256"], "preprocessing": facts["preprocessing"]} if facts["sha256"] else {}
    return {"descriptor": facts["name"]} | files


def train_spec(train: TrainOptions) -> dict[str, Any]:
    """The training options that change a result."""
    fields = dataclasses.asdict(train)
    del fields["checkpoint_every"], fields["log_every"]
    return fields
