"""What a config may say, as frozen dataclasses that check themselves.

`AuditOptions.from_config` is where ml_collections ends: stage functions see these, never a ConfigDict. Every check that
needs neither data nor weights is made here; errors name the field as the command line does.
"""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any, TypeVar

import flax.linen as nn

from side_jax.diffusion.schedule import Schedule
from side_jax.extraction.descriptors import check_descriptor
from side_jax.models.resnet import ARCHITECTURES
from side_jax.models.unet import UNet
from side_jax.training import TrainOptions

T = TypeVar("T")
Band = tuple[str, float, float]  # name, lowest score in it, lowest score above it


def _require(condition: bool, field: str, value: Any, rule: str) -> None:
    if not condition:
        raise ValueError(f"{field} must be {rule}, got {value!r}")


@dataclasses.dataclass(frozen=True)
class DatasetOptions:
    """See configs/default.py for every field."""

    name: str
    path: str
    image_size: int
    channels: int
    heldout_fraction: float
    heldout_path: str
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
            raise ValueError("target.path is empty; target.source='load' needs a diffusers directory or a workdir")

    def make_unet(self, image_size: int, channels: int) -> UNet:
        """The UNet to train. Lists become tuples, sizes come from the data set."""
        fields: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in self.unet.items()}
        _known(UNet, fields, "target.unet")
        return UNet(sample_size=image_size, in_channels=channels, out_channels=channels, **fields)

    def make_schedule(self) -> Schedule:
        """The noise schedule to train with."""
        _known(Schedule, self.schedule, "target.schedule")
        return Schedule(**self.schedule)


@dataclasses.dataclass(frozen=True)
class SynthesizeOptions:
    """See configs/default.py for every field."""

    num_images: int
    num_steps: int
    batch_size: int

    def __post_init__(self) -> None:
        for name in ("num_images", "num_steps", "batch_size"):
            _require(getattr(self, name) >= 1, f"synthesize.{name}", getattr(self, name), "at least 1")


@dataclasses.dataclass(frozen=True)
class LabelOptions:
    """See configs/default.py for every field."""

    source: str
    num_clusters: int
    cohesion: float
    train: TrainOptions

    def __post_init__(self) -> None:
        _require(self.source in ("classifier", "clusters"), "labels.source", self.source, "classifier or clusters")
        _require(self.num_clusters >= 2, "labels.num_clusters", self.num_clusters, "at least 2")
        _require(-1 <= self.cohesion <= 1, "labels.cohesion", self.cohesion, "a cosine in [-1, 1]")


@dataclasses.dataclass(frozen=True)
class ClassifierOptions:
    """See configs/default.py for every field."""

    arch: str
    guide: str
    pretrained: str
    train: TrainOptions

    def __post_init__(self) -> None:
        _require(self.arch in ARCHITECTURES, "classifier.arch", self.arch, "one of " + ", ".join(ARCHITECTURES))
        _require(self.guide == "time_dependent", "classifier.guide", self.guide, "time_dependent")


@dataclasses.dataclass(frozen=True)
class ExtractOptions:
    """See configs/default.py for every field."""

    scales: tuple[float, ...]
    num_images: int
    num_steps: int
    eta: float
    batch_size: int
    descriptor: str
    weights: str
    preprocessing: str
    top_k: int
    save_images: bool
    bands: tuple[Band, ...]

    def __post_init__(self) -> None:
        _require(len(self.scales) > 0, "extract.scales", self.scales, "at least one λ")
        _require(len(set(self.scales)) == len(self.scales), "extract.scales", self.scales, "without repetitions")
        for scale in self.scales:
            # Folder names carry two decimals; a finer λ would share a folder with another.
            _require(0 <= scale < 1000, "extract.scales: λ", scale, "0 or more (and below 1000)")
            _require(round(scale, 2) == scale, "extract.scales: λ", scale, "given to at most two decimals")
        for name in ("num_images", "num_steps", "batch_size", "top_k"):
            _require(getattr(self, name) >= 1, f"extract.{name}", getattr(self, name), "at least 1")
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
class ReportOptions:
    """See configs/default.py for every field."""

    pairs: int

    def __post_init__(self) -> None:
        _require(self.pairs >= 1, "report.pairs", self.pairs, "at least 1")


@dataclasses.dataclass(frozen=True)
class AuditOptions:
    """One audit, checked."""

    seed: int
    dataset: DatasetOptions
    target: TargetOptions
    synthesize: SynthesizeOptions
    labels: LabelOptions
    classifier: ClassifierOptions
    extract: ExtractOptions
    report: ReportOptions

    def __post_init__(self) -> None:
        _require(0 <= self.seed < 2**31, "seed", self.seed, "in [0, 2^31)")
        if self.classifier.pretrained and self.labels.source != "classifier":
            raise ValueError(
                f"classifier.pretrained {self.classifier.pretrained!r} is the teacher's start, and labels.source"
                f" {self.labels.source!r} has no teacher; leave classifier.pretrained empty"
            )
        if self.labels.source == "clusters" and self.labels.num_clusters > self.synthesize.num_images:
            raise ValueError(
                f"labels.num_clusters {self.labels.num_clusters} is more than synthesize.num_images"
                f" {self.synthesize.num_images}; lower the one or raise the other"
            )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "AuditOptions":
        """From a ConfigDict or a plain mapping with the fields of configs/default.py.

        Raises:
          ValueError: for an unknown or missing field, or a value out of range.
        """
        return _build(cls, _plain(config), "")


def _plain(value: Any) -> Any:
    if hasattr(value, "items"):
        return {key: _plain(item) for key, item in value.items()}
    return tuple(_plain(item) for item in value) if isinstance(value, list | tuple) else value


def _known(kind: type, fields: Mapping[str, Any], where: str) -> None:
    names = {field.name for field in dataclasses.fields(kind)}
    if issubclass(kind, nn.Module):
        names -= {"parent", "name"}
    unknown = sorted(set(fields) - names)
    if unknown:
        raise ValueError(f"{where}.{unknown[0]} is not a field; known: {', '.join(sorted(names))}")


def _build(kind: type[T], values: Any, where: str) -> T:
    """A dataclass from a mapping, nested ones included."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{where or 'config'} must be a group of fields, got {values!r}")
    _known(kind, values, where or "config")
    built = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        path = f"{where}.{field.name}" if where else field.name
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if field.name not in values:
            if required:
                raise ValueError(f"{path} is missing from the config; configs/default.py has every field")
            continue
        value = values[field.name]
        group: Any = field.type if dataclasses.is_dataclass(field.type) else None
        try:
            built[field.name] = _build(group, value, path) if group else value
        except ValueError as error:
            if str(error).startswith("train."):  # TrainOptions does not know whose training it describes
                raise ValueError(f"{where}.{error}") from error
            raise
    return kind(**built)
