"""What every stage gets, and the checks that need the data or the target."""

import dataclasses
from typing import Any

import numpy as np
from etils import epath

from side_jax.artifacts import MANIFEST, fingerprint, read_json
from side_jax.cost.programs import unet_variables
from side_jax.diffusion.schedule import Schedule
from side_jax.extraction.descriptors import descriptor_facts, load_descriptor
from side_jax.images import ImageSet
from side_jax.interop import diffusers, guided_diffusion
from side_jax.interop.torchvision import load_resnet
from side_jax.models.unet import UNet, check_unet
from side_jax.options import AuditOptions
from side_jax.precision import compute_dtype
from side_jax.representation.activations import check_layers
from side_jax.representation.membership import Attack
from side_jax.representation.probe import check_timesteps
from side_jax.representation.steering import steered_steps
from side_jax.splitting import Split
from side_jax.target import Target
from side_jax.training import TrainOptions

EXPORT = "diffusers"  # a trained target as a diffusers directory, below target/


@dataclasses.dataclass(frozen=True)
class Audit:
    """Everything a stage function gets: checked options, where to work, the images.

    A comparison of several methods (Table 1) is one audit per method. They share target, synthetic images and the
    report; `branch` names one that is not the main one and has labels, classifier and sweep of its own;
    `compared` are the options of all.
    """

    options: AuditOptions
    workdir: epath.Path
    split: Split
    branch: str = ""
    compared: tuple[AuditOptions, ...] = ()

    def folder(self, name: str) -> epath.Path:
        """Where an artifact lies: `labels`, `classifier` and `extract` of a branch below methods/BRANCH."""
        return (self.workdir / "methods" / self.branch if self.branch and name in _OWN else self.workdir) / name

    def methods(self) -> "dict[str, Audit]":
        """One audit per method, the main one first."""
        rows = self.options.rows()
        main = next(iter(rows))
        return {
            name: dataclasses.replace(
                self, options=options, branch="" if name == main else name, compared=tuple(rows.values())
            )
            for name, options in rows.items()
        }

    def main(self) -> "Audit":
        """The audit of the main method."""
        return next(iter(self.methods().values()))

    @property
    def guided(self) -> bool:
        """Does any method need a guide?"""
        return any(row.classifier.guide != "none" for row in self.options.rows().values())

    @property
    def synthetic(self) -> bool:
        """Does any guide learn from synthetic images?"""
        rows = self.options.rows().values()
        return any(row.classifier.guide != "none" and row.labels.source not in ("dataset", "heldout") for row in rows)


_OWN = ("labels", "classifier", "extract")


def load_target(path: epath.PathLike) -> Target:
    """Reads a diffusion model.

    Args:
      path: a diffusers directory (a DDPM or DDIM pipeline, or a UNet2DModel), a guided-diffusion state dict (`.pt`,
        `.pth`, `.safetensors`) with its flags beside it (`.json`), or the workdir of an audit.

    Raises:
      ValueError: if there is neither, or what is there does not fit together; names the file or option.
    """
    root = model_directory(path)
    return guided_diffusion.load_target(root) if guided_diffusion.is_weights(root) else diffusers.load_target(root)


def read_architecture(path: epath.PathLike) -> UNet | None:
    """The network of the model at `path`, without its weights, which need not be there; None if nothing is."""
    flags = epath.Path(path).with_suffix(".json") if guided_diffusion.is_weights(path) else None
    if not (flags or epath.Path(path)).exists():
        return None
    root = epath.Path(path) if flags else model_directory(path)
    return guided_diffusion.read_architecture(root) if flags else diffusers.read_architecture(root)


def model_files(root: epath.Path) -> dict[str, epath.Path]:
    """Name -> file, of all that defines the model that `model_directory` found."""
    if guided_diffusion.is_weights(root):
        return {file.name: file for file in guided_diffusion.files(root)}
    return {str(file.relative_to(root)): file for file in diffusers.files(root)}


def model_directory(path: epath.PathLike) -> epath.Path:
    """The diffusers directory or guided-diffusion file that `path` means: itself, or what a workdir made or loaded."""
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
        unet = options.target.make_unet(dataset.image_size, dataset.channels)
        check_unet(unet, dataset.image_size, dataset.channels)
        schedule = options.target.make_schedule()
    else:
        target = load_target(options.target.path)
        unet, schedule = target.unet, target.schedule
        wanted = (dataset.image_size, dataset.image_size, dataset.channels)
        if target.image_shape != wanted:
            raise ValueError(
                f"target {options.target.path} makes {target.image_shape} images, the data set is {wanted}; set"
                " dataset.image_size and dataset.channels to the target's"
            )
        _check_training_images(target, audit)
    check_num_steps(options, schedule)
    check_detect_timesteps(options, schedule)
    layers = options.detect.layers if options.detect.num_images else ()
    layers += options.steer.layers if options.steer.weights else ()
    if layers:
        abstract = unet_variables(unet, (dataset.image_size, dataset.image_size, dataset.channels))["params"]
        check_layers(Target(unet, abstract, schedule), layers)
    load_descriptor(options.extract.descriptor, options.extract.weights, options.extract.preprocessing)
    if options.classifier.pretrained:
        load_resnet(options.classifier.arch, options.classifier.pretrained)
    labels = audit.split.train.labels
    for row in options.rows().values():
        if row.classifier.guide == "exact":
            _check_exact(row, audit)
        labelled = row.classifier.guide != "none" and (row.has_teacher or row.labels.source == "dataset")
        if labelled and len(np.unique(labels[labels >= 0])) < 2:
            raise ValueError(
                f"labels.source={row.labels.source!r} needs training images of at least 2 classes, in class folders;"
                " use labels.source='clusters' (with another labels.descriptor than teacher) for images without labels"
            )
    if options.extract.top_k > len(audit.split.train):
        raise ValueError(
            f"extract.top_k {options.extract.top_k} is more than the {len(audit.split.train)} training images"
        )


def labelled_photos(options: AuditOptions, audit: Audit) -> ImageSet | None:
    """The photos that a guide's set is: of training, or for the control as many held-out ones; None if neither."""
    source, split = options.labels.source, audit.split
    if source not in ("dataset", "heldout"):
        return None
    photos = split.train if source == "dataset" else split.heldout[paired_positions(audit)[1]]
    return photos[np.flatnonzero(photos.labels >= 0)]


def _check_exact(row: AuditOptions, audit: Audit) -> None:
    """An exact guide over photos needs a photo of every class, held-out ones for the control."""
    photos = labelled_photos(row, audit)
    if photos is None:
        return
    source = row.labels.source
    name = f"classifier.guide='exact' with labels.source={source!r}"
    if source == "heldout" and not len(audit.split.heldout):
        raise ValueError(
            f"{name}, the control, needs held-out images, and there are none; give dataset.heldout_path or"
            " dataset.heldout_fraction, or leave exact_heldout out of methods"
        )
    if not len(photos):
        raise ValueError(
            f"{name} needs labels of its photos, in class folders; use labels.source='clusters' without them"
        )
    count = int(audit.split.train.labels.max(initial=-1)) + 1
    present = np.bincount(photos.labels, minlength=count) > 0
    if not present.all() or len(present) > count:
        absent = int((~present).argmax()) if not present.all() else count
        where = "training photo" if present.all() or source == "dataset" else "held-out photo"
        raise ValueError(
            f"{name}: class {absent} of {len(present)} has no {where}; add one, or leave that class out of the data"
        )


def check_num_steps(options: AuditOptions, schedule: Schedule) -> None:
    """Raises `ValueError`, naming the field, if the schedule has no sampler of so many steps, or it none to steer."""
    for name in ("synthesize", "extract"):
        try:
            schedule.ddim_timesteps(getattr(options, name).num_steps)
        except ValueError as error:
            raise ValueError(f"{name}.{error}") from error
    if options.steer.weights:
        try:
            steered_steps(options.steer.window, options.extract.num_steps)
        except ValueError as error:
            raise ValueError(f"steer.{error}") from error


def check_detect_timesteps(options: AuditOptions, schedule: Schedule) -> None:
    """Raises `ValueError`, naming the field, if the detect stage is to look at a t that the schedule does not have."""
    detect, last = options.detect, schedule.num_train_timesteps
    if not detect.num_images:
        return
    check_timesteps(detect.timesteps, last, "detect.timesteps")
    for attack in detect.attacks:
        highest = Attack(attack, last).last_timestep
        check_timesteps(detect.attack_timesteps, highest + 1, f"detect.attack_timesteps of {attack}")


def _check_training_images(target: Target, audit: Audit) -> None:
    """A target must have been trained on this split's training images, and say so where photos are held out of them."""
    split, path, fraction = audit.split, audit.options.target.path, audit.options.dataset.heldout_fraction
    trained = target.facts.get("training_hashes")
    if trained is None and fraction > 0:
        raise ValueError(
            f"target {path} does not say which images it was trained on: dataset.heldout_fraction={fraction:g} would"
            " call some of them held-out, and hide what it copies; name photos that it never saw in"
            " dataset.heldout_path, or set dataset.heldout_fraction=0, which calibrates nothing"
        )
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


def paired_positions(audit: Audit) -> tuple[np.ndarray, np.ndarray]:
    """Equally many training and held-out images, at random by the split's seed: positions, ascending."""
    num_train, num_heldout = len(audit.split.train), len(audit.split.heldout)
    rng = np.random.default_rng((audit.options.dataset.split_seed, 1))
    size = min(num_train, num_heldout)
    return np.sort(rng.permutation(num_train)[:size]), np.sort(rng.permutation(num_heldout)[:size])


def data_print(images: ImageSet) -> str:
    """Fingerprint of a set: ids and pixels."""
    return fingerprint([images.ids, images.hashes])


def descriptor_spec(name: str, weights: str, preprocessing: str) -> dict[str, Any]:
    """What decides the scores: the hash of the descriptor's weights and not their path, for files move."""
    facts = descriptor_facts(name, weights, preprocessing)
    files = {"weights": facts["sha256"], "preprocessing": facts["preprocessing"]} if facts["sha256"] else {}
    return {"descriptor": facts["name"]} | files


def precision_spec(audit: Audit) -> dict[str, str]:
    """The dtype that networks infer in here, whatever `auto` would mean elsewhere."""
    return {"precision": compute_dtype(audit.options.precision).name}


def train_spec(train: TrainOptions) -> dict[str, Any]:
    """The training options that change a result."""
    fields = dataclasses.asdict(train)
    del fields["checkpoint_every"], fields["log_every"]
    return fields
