"""The fields of one stage each, as frozen dataclasses that check themselves; `side_jax.options` has the audit's.

Every check that needs neither data nor weights is made here; errors name the field as the command line does.
"""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

from side_jax.batch_size import check_batch_size
from side_jax.diffusion.schedule import Schedule
from side_jax.diffusion.transforms import CLIP_ORDERS
from side_jax.extraction.descriptors import check_descriptor
from side_jax.fields import check_known
from side_jax.models.resnet import ARCHITECTURES
from side_jax.models.unet import UNet
from side_jax.training import TrainOptions

Band = tuple[str, float, float]  # name, lowest score in it, lowest score above it

LABEL_SOURCES = ("classifier", "clusters", "repeats", "dataset", "heldout", "random")
SAVE_IMAGES = ("none", "matched", "all")
ATTACKS = ("loss", "secmi", "pia")
DRAWS = ("uniform", "balanced")  # each class independently | every class once in each round of K images
GUIDES = ("exact", "time_dependent", "time_independent", "none")


def require(condition: bool, field: str, value: Any, rule: str) -> None:
    """Raises `ValueError`, naming the field, its rule and the value, unless the condition holds."""
    if not condition:
        raise ValueError(f"{field} must be {rule}, got {value!r}")


def one_of(known: tuple[str, ...], field: str, value: str) -> None:
    """Raises `ValueError` if the value is not a known one."""
    require(value in known, field, value, "one of " + ", ".join(name or "''" for name in known))


@dataclasses.dataclass(frozen=True)
class DatasetOptions:
    """See configs/default.py for every field."""

    name: str
    path: str
    image_size: int
    channels: int
    heldout_fraction: float
    heldout_path: str
    data_dir: str
    near_duplicate: float
    split_seed: int

    def __post_init__(self) -> None:
        if self.heldout_path and self.heldout_fraction:
            raise ValueError(
                f"dataset.heldout_path {self.heldout_path!r} and dataset.heldout_fraction {self.heldout_fraction}"
                " exclude each other; set the fraction to 0"
            )


@dataclasses.dataclass(frozen=True)
class TargetOptions:
    """See configs/default.py for every field."""

    source: str
    path: str
    unet: Mapping[str, Any]
    schedule: Mapping[str, Any]
    train: TrainOptions

    def __post_init__(self) -> None:
        require(self.source in ("train", "load"), "target.source", self.source, "train or load")
        if self.source == "load" and not self.path:
            raise ValueError(
                "target.path is empty; target.source='load' needs a diffusers directory, a guided-diffusion .pt or a"
                " workdir"
            )

    def make_unet(self, image_size: int, channels: int) -> UNet:
        """The UNet to train. Lists become tuples, sizes come from the data set."""
        fields: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in self.unet.items()}
        check_known(UNet, fields, "target.unet")
        if fields.get("num_class_embeds") is not None:
            raise ValueError(
                f"target.unet.num_class_embeds is {fields['num_class_embeds']}, but a target is trained without"
                " classes; leave it out (a class-conditional target can be loaded)"
            )
        return UNet(sample_size=image_size, in_channels=channels, out_channels=channels, **fields)

    def make_schedule(self) -> Schedule:
        """The noise schedule to train with."""
        fields: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in self.schedule.items()}
        check_known(Schedule, fields, "target.schedule")
        schedule = Schedule(**fields)
        if schedule.prediction_type != "epsilon":
            raise ValueError(
                f"target.schedule.prediction_type is {schedule.prediction_type!r}, but a target is trained to predict"
                " 'epsilon' (one that predicts something else can be loaded)"
            )
        return schedule


@dataclasses.dataclass(frozen=True)
class SamplerOptions:
    """See configs/default.py for every field."""

    clip: str

    def __post_init__(self) -> None:
        one_of(CLIP_ORDERS, "sampler.clip", self.clip)


@dataclasses.dataclass(frozen=True)
class SynthesizeOptions:
    """See configs/default.py for every field."""

    num_images: int
    num_steps: int
    batch_size: int | str

    def __post_init__(self) -> None:
        for name in ("num_images", "num_steps"):
            require(getattr(self, name) >= 1, f"synthesize.{name}", getattr(self, name), "at least 1")
        check_batch_size("synthesize.batch_size", self.batch_size)


@dataclasses.dataclass(frozen=True)
class LabelOptions:
    """See configs/default.py for every field."""

    source: str
    targets: str
    num_clusters: int
    cohesion: float
    temperature: float
    repeat: float
    descriptor: str
    draw: str
    train: TrainOptions

    def __post_init__(self) -> None:
        one_of(LABEL_SOURCES, "labels.source", self.source)
        one_of(("soft", "hard"), "labels.targets", self.targets)
        one_of(("", "pixel", "sscd", "teacher"), "labels.descriptor", self.descriptor)
        require(self.num_clusters >= 2, "labels.num_clusters", self.num_clusters, "at least 2")
        require(-1 <= self.cohesion <= 1, "labels.cohesion", self.cohesion, "a cosine in [-1, 1]")
        require(self.temperature > 0, "labels.temperature", self.temperature, "above 0")
        require(-1 <= self.repeat < 1, "labels.repeat", self.repeat, "a cosine in [-1, 1)")
        one_of(DRAWS, "labels.draw", self.draw)


@dataclasses.dataclass(frozen=True)
class ClassifierOptions:
    """See configs/default.py for every field."""

    arch: str
    guide: str
    learn: str
    timesteps: str
    block: int
    pretrained: str
    train: TrainOptions

    def __post_init__(self) -> None:
        one_of(tuple(ARCHITECTURES), "classifier.arch", self.arch)
        one_of(GUIDES, "classifier.guide", self.guide)
        one_of(("labels", "posterior"), "classifier.learn", self.learn)
        one_of(("uniform", "undecided"), "classifier.timesteps", self.timesteps)
        if self.train.flip and self.guide == "time_dependent" and self.learn == "posterior":
            raise ValueError(
                "classifier.learn='posterior' does not know mirrored images; set classifier.train.flip=False"
            )
        require(self.block >= 1, "classifier.block", self.block, "at least 1")


@dataclasses.dataclass(frozen=True)
class ExtractOptions:
    """See configs/default.py for every field."""

    scales: tuple[float, ...]
    num_images: int
    num_steps: int
    eta: float
    batch_size: int | str
    descriptor: str
    weights: str
    preprocessing: str
    top_k: int
    save_images: str
    references: str
    equal_compute: bool
    bands: tuple[Band, ...]

    def __post_init__(self) -> None:
        require(len(self.scales) > 0, "extract.scales", self.scales, "at least one λ")
        require(len(set(self.scales)) == len(self.scales), "extract.scales", self.scales, "without repetitions")
        for scale in self.scales:
            # Folder names carry two decimals; a finer λ would share a folder with another.
            require(0 <= scale < 1000, "extract.scales: λ", scale, "0 or more (and below 1000)")
            require(round(scale, 2) == scale, "extract.scales: λ", scale, "given to at most two decimals")
        for name in ("num_images", "num_steps", "top_k"):
            require(getattr(self, name) >= 1, f"extract.{name}", getattr(self, name), "at least 1")
        check_batch_size("extract.batch_size", self.batch_size)
        one_of(SAVE_IMAGES, "extract.save_images", self.save_images)
        one_of(("auto", "replicated", "sharded"), "extract.references", self.references)
        require(0 <= self.eta <= 1, "extract.eta", self.eta, "in [0, 1]")
        check_descriptor(self.descriptor, self.weights, self.preprocessing)
        check_bands(self.bands)


def check_bands(bands: tuple[Band, ...]) -> None:
    """Bands must be named, ascending, and must not overlap; touching ends are fine ([α, β))."""
    require(len(bands) > 0, "extract.bands", bands, "at least one (name, low, high)")
    for band in bands:
        name, low, high = band
        require(isinstance(name, str) and low < high <= 1, "extract.bands", band, "(name, low, high), low < high <= 1")
    for (first, _, end), (second, start, _) in itertools.pairwise(bands):
        if start < end:
            raise ValueError(f"extract.bands {first!r} and {second!r} overlap or descend: {end} > {start}")


@dataclasses.dataclass(frozen=True)
class DetectOptions:
    """See configs/default.py for every field."""

    num_images: int
    layers: tuple[str, ...]
    timesteps: tuple[int, ...]
    num_noises: int
    wiener: bool
    attacks: tuple[str, ...]
    attack_timesteps: tuple[int, ...]

    def __post_init__(self) -> None:
        require(self.num_images >= 0, "detect.num_images", self.num_images, "0 (no detect stage) or more")
        require(self.num_noises >= 1, "detect.num_noises", self.num_noises, "at least 1")
        for attack in self.attacks:
            one_of(ATTACKS, "detect.attacks", attack)
        for name in ("layers", "timesteps", "attacks", "attack_timesteps"):
            values = getattr(self, name)
            require(len(set(values)) == len(values), f"detect.{name}", values, "without repetitions")
        require(len(self.timesteps) > 0, "detect.timesteps", self.timesteps, "at least one")
        if self.attacks:
            require(len(self.attack_timesteps) > 0, "detect.attack_timesteps", self.attack_timesteps, "at least one")


@dataclasses.dataclass(frozen=True)
class SteerOptions:
    """See configs/default.py for every field."""

    weights: tuple[float, ...]
    layers: tuple[str, ...]
    window: tuple[float, float]
    num_images: int

    def __post_init__(self) -> None:
        for name in ("weights", "layers"):
            values = getattr(self, name)
            require(len(set(values)) == len(values), f"steer.{name}", values, "without repetitions")
        require(0 not in self.weights, "steer.weights", self.weights, "without 0, which is there anyway")
        fits = len(self.window) == 2 and 0 <= self.window[0] < self.window[1] <= 1
        require(fits, "steer.window", self.window, "(first, last), shares of the steps with 0 <= first < last <= 1")
        require(self.num_images >= 2, "steer.num_images", self.num_images, "at least 2")


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """See configs/default.py for every field."""

    pairs: int

    def __post_init__(self) -> None:
        require(self.pairs >= 1, "report.pairs", self.pairs, "at least 1")
