"""What a config may say, as frozen dataclasses that check themselves.

`AuditOptions.from_config` is where ml_collections ends: stage functions see these, never a ConfigDict. Every check that
needs neither data nor weights is made here; errors name the field as the command line does.
"""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

from side_jax.batch_size import check_batch_size
from side_jax.diffusion.schedule import Schedule
from side_jax.extraction.descriptors import check_descriptor
from side_jax.fields import build, check_known
from side_jax.models.resnet import ARCHITECTURES
from side_jax.models.unet import UNet
from side_jax.precision import PRECISIONS
from side_jax.training import TrainOptions

Band = tuple[str, float, float]  # name, lowest score in it, lowest score above it


LABEL_SOURCES = ("classifier", "clusters", "dataset", "random")
SAVE_IMAGES = ("none", "matched", "all")
ATTACKS = ("loss", "secmi", "pia")
GUIDES = ("time_dependent", "time_independent", "none")
# Rows of Table 1 (seed 002), and the later version's clusters: labels.source and classifier.guide of each.
METHODS = {
    "random": ("classifier", "none"),
    "ol_ti": ("dataset", "time_independent"),
    "side": ("classifier", "time_dependent"),
    "side_clusters": ("clusters", "time_dependent"),
    "random_labels": ("random", "time_dependent"),
}


def _require(condition: bool, field: str, value: Any, rule: str) -> None:
    if not condition:
        raise ValueError(f"{field} must be {rule}, got {value!r}")


def _one_of(known: tuple[str, ...], field: str, value: str) -> None:
    _require(value in known, field, value, "one of " + ", ".join(name or "''" for name in known))


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
    clip_x0: bool
    train: TrainOptions

    def __post_init__(self) -> None:
        _require(self.source in ("train", "load"), "target.source", self.source, "train or load")
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
class SynthesizeOptions:
    """See configs/default.py for every field."""

    num_images: int
    num_steps: int
    batch_size: int | str

    def __post_init__(self) -> None:
        for name in ("num_images", "num_steps"):
            _require(getattr(self, name) >= 1, f"synthesize.{name}", getattr(self, name), "at least 1")
        check_batch_size("synthesize.batch_size", self.batch_size)


@dataclasses.dataclass(frozen=True)
class LabelOptions:
    """See configs/default.py for every field."""

    source: str
    targets: str
    num_clusters: int
    cohesion: float
    temperature: float
    descriptor: str
    train: TrainOptions

    def __post_init__(self) -> None:
        _one_of(LABEL_SOURCES, "labels.source", self.source)
        _one_of(("soft", "hard"), "labels.targets", self.targets)
        _one_of(("", "pixel", "sscd", "teacher"), "labels.descriptor", self.descriptor)
        _require(self.num_clusters >= 2, "labels.num_clusters", self.num_clusters, "at least 2")
        _require(-1 <= self.cohesion <= 1, "labels.cohesion", self.cohesion, "a cosine in [-1, 1]")
        _require(self.temperature > 0, "labels.temperature", self.temperature, "above 0")


@dataclasses.dataclass(frozen=True)
class ClassifierOptions:
    """See configs/default.py for every field."""

    arch: str
    guide: str
    pretrained: str
    train: TrainOptions

    def __post_init__(self) -> None:
        _one_of(tuple(ARCHITECTURES), "classifier.arch", self.arch)
        _one_of(GUIDES, "classifier.guide", self.guide)


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
    bands: tuple[Band, ...]

    def __post_init__(self) -> None:
        _require(len(self.scales) > 0, "extract.scales", self.scales, "at least one λ")
        _require(len(set(self.scales)) == len(self.scales), "extract.scales", self.scales, "without repetitions")
        for scale in self.scales:
            # Folder names carry two decimals; a finer λ would share a folder with another.
            _require(0 <= scale < 1000, "extract.scales: λ", scale, "0 or more (and below 1000)")
            _require(round(scale, 2) == scale, "extract.scales: λ", scale, "given to at most two decimals")
        for name in ("num_images", "num_steps", "top_k"):
            _require(getattr(self, name) >= 1, f"extract.{name}", getattr(self, name), "at least 1")
        check_batch_size("extract.batch_size", self.batch_size)
        _one_of(SAVE_IMAGES, "extract.save_images", self.save_images)
        _one_of(("auto", "replicated", "sharded"), "extract.references", self.references)
        _require(0 <= self.eta <= 1, "extract.eta", self.eta, "in [0, 1]")
        check_descriptor(self.descriptor, self.weights, self.preprocessing)
        check_bands(self.bands)


def check_bands(bands: tuple[Band, ...]) -> None:
    """Bands must be named, ascending, and must not overlap; touching ends are fine ([α, β))."""
    _require(len(bands) > 0, "extract.bands", bands, "at least one (name, low, high)")
    for band in bands:
        name, low, high = band
        _require(isinstance(name, str) and low < high <= 1, "extract.bands", band, "(name, low, high), low < high <= 1")
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
        _require(self.num_images >= 0, "detect.num_images", self.num_images, "0 (no detect stage) or more")
        _require(self.num_noises >= 1, "detect.num_noises", self.num_noises, "at least 1")
        for attack in self.attacks:
            _one_of(ATTACKS, "detect.attacks", attack)
        for name in ("layers", "timesteps", "attacks", "attack_timesteps"):
            values = getattr(self, name)
            _require(len(set(values)) == len(values), f"detect.{name}", values, "without repetitions")
        _require(len(self.timesteps) > 0, "detect.timesteps", self.timesteps, "at least one")
        if self.attacks:
            _require(len(self.attack_timesteps) > 0, "detect.attack_timesteps", self.attack_timesteps, "at least one")


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
            _require(len(set(values)) == len(values), f"steer.{name}", values, "without repetitions")
        _require(0 not in self.weights, "steer.weights", self.weights, "without 0, which is there anyway")
        fits = len(self.window) == 2 and 0 <= self.window[0] < self.window[1] <= 1
        _require(fits, "steer.window", self.window, "(first, last), shares of the steps with 0 <= first < last <= 1")
        _require(self.num_images >= 2, "steer.num_images", self.num_images, "at least 2")


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """See configs/default.py for every field."""

    pairs: int

    def __post_init__(self) -> None:
        _require(self.pairs >= 1, "report.pairs", self.pairs, "at least 1")


@dataclasses.dataclass(frozen=True)
class AuditOptions:
    """One audit, checked."""

    seed: int
    precision: str
    dataset: DatasetOptions
    target: TargetOptions
    synthesize: SynthesizeOptions
    labels: LabelOptions
    classifier: ClassifierOptions
    extract: ExtractOptions
    detect: DetectOptions
    steer: SteerOptions
    report: ReportOptions

    methods: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require(0 <= self.seed < 2**31, "seed", self.seed, "in [0, 2^31)")
        _one_of(PRECISIONS, "precision", self.precision)
        for method in self.methods:
            _one_of(tuple(METHODS), "methods: a row of Table 1", method)
        _require(len(set(self.methods)) == len(self.methods), "methods", self.methods, "without repetitions")
        scales = self.extract.scales
        if "random" in self.methods and 0.0 not in scales:
            raise ValueError(f"methods has 'random', but extract.scales {scales} lacks its λ, 0")
        if self._guided_methods() and not max(scales) > 0:
            raise ValueError(f"methods {self.methods} needs a λ above 0 in extract.scales, got {scales}")
        if not self.methods and self.classifier.guide == "none" and max(scales) > 0:
            raise ValueError(f"classifier.guide='none' allows λ = 0 only, got extract.scales {scales}")
        clusters = self.labels.source == "clusters" or "side_clusters" in self.methods
        if clusters and self.labels.descriptor == "sscd" != self.extract.descriptor:
            raise ValueError(
                f"labels.descriptor='sscd' takes the weights of extract.descriptor='sscd', got"
                f" {self.extract.descriptor!r}; set both, or leave labels.descriptor empty"
            )
        if clusters and self.labels.num_clusters > self.synthesize.num_images:
            raise ValueError(
                f"labels.num_clusters {self.labels.num_clusters} is more than synthesize.num_images"
                f" {self.synthesize.num_images}; lower the one or raise the other"
            )

    @property
    def has_teacher(self) -> bool:
        """Is a classifier of the training images needed, for labels or as a descriptor?"""
        source = self.labels.source
        return source == "classifier" or (source == "clusters" and self.labels.descriptor == "teacher")

    def cluster_descriptor(self) -> tuple[str, str, str]:
        """Name, weights and preprocessing of the descriptor that clusters are found by."""
        name, extract = self.labels.descriptor or self.extract.descriptor, self.extract
        return (name, extract.weights, extract.preprocessing) if name == extract.descriptor else (name, "", "")

    def _guided_methods(self) -> tuple[str, ...]:
        return tuple(method for method in self.methods if method != "random")

    def rows(self) -> "dict[str, AuditOptions]":
        """The audits that make up this one, by method: the main one first, SIDE if it is among them, then the others.

        λ = 0 is the same for all methods, and in the main one only.
        """
        if not self.methods:
            chosen = (self.labels.source, self.classifier.guide)
            name = next((name for name, row in METHODS.items() if row == chosen), f"{chosen[0]}, {chosen[1]}")
            return {"random" if self.classifier.guide == "none" else name: self}
        guided = self._guided_methods() or ("random",)
        main = "side" if "side" in guided else guided[0]
        others = [name for name in guided if name != main]
        rows = {main: self._as(main, self.extract.scales if main != "random" else (0.0,))}
        return rows | {name: self._as(name, tuple(s for s in self.extract.scales if s > 0)) for name in others}

    def _as(self, method: str, scales: tuple[float, ...]) -> "AuditOptions":
        source, guide = METHODS[method]
        return dataclasses.replace(
            self,
            labels=dataclasses.replace(self.labels, source=source),
            classifier=dataclasses.replace(self.classifier, guide=guide),
            extract=dataclasses.replace(self.extract, scales=scales),
            methods=(),
        )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "AuditOptions":
        """From a ConfigDict or a plain mapping with the fields of configs/default.py.

        Raises:
          ValueError: for an unknown or missing field, or a value out of range.
        """
        options = build(cls, config)
        weights, scales = options.steer.weights, options.extract.scales
        if weights and 0.0 not in scales:  # of the whole audit: rows of Table 1 other than the main one never have it
            raise ValueError(
                f"steer.weights {weights} are for unguided images, but extract.scales {scales} lacks their λ, 0; add"
                " it, or set steer.weights=()"
            )
        return options
