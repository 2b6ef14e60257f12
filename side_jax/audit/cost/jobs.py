"""The programs that an audit's stages call: number of images, calls per image, and batch size."""

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from side_jax.audit.cost import programs
from side_jax.audit.cost.programs import Lowered, Shape, abstract
from side_jax.diffusion.guide import Guide
from side_jax.matching.descriptor import Descriptor
from side_jax.matching.descriptors import abstract_descriptor
from side_jax.surrogate.exact import ExactGuide
from side_jax.surrogate.resnet import ARCHITECTURES, ResNet
from side_jax.targets.target import Target

if TYPE_CHECKING:
    from side_jax.audit.options import AuditOptions

CLASSES = 1_000  # an assumption, where the classes of the training photos are not known
AUTO_BATCH = 64  # batch from which the memory of an automatic batch is extrapolated
_LABEL_BATCH = 256  # images that the teacher labels at once


@dataclasses.dataclass(frozen=True)
class Setting:
    """The audit that is counted.

    Attributes:
      options: of the audit.
      target: without numbers; None for an audit without a model.
      devices: over which a batch is split.
      num_train: training images.
      num_classes: classes of training images.
      num_heldout: held-out images; None: as many as training images, if any are held out.
    """

    options: "AuditOptions"
    target: Target | None
    devices: int
    num_train: int
    num_classes: int = CLASSES
    num_heldout: int | None = None

    @property
    def model(self) -> Target:
        """The target. Only stages of an audit with a model ask for it."""
        assert self.target is not None
        return self.target

    @property
    def shape(self) -> Shape:
        """(H, W, C) of an image."""
        dataset = self.options.dataset
        return (dataset.image_size, dataset.image_size, dataset.channels)

    @property
    def dimensions(self) -> int:
        """Dimensions D of that descriptor."""
        return self.embed.dimensions(self.shape)

    @property
    def embed(self) -> Descriptor:
        """The descriptor of the extract stage, with abstract parameters."""
        extract = self.options.extract
        return abstract_descriptor(extract.descriptor, extract.preprocessing)

    @property
    def has_heldout(self) -> bool:
        """Whether the audit has held-out photos."""
        return bool(self.options.dataset.heldout_fraction or self.options.dataset.heldout_path)

    @property
    def heldout(self) -> int:
        """Number of held-out images."""
        return self.num_train * self.has_heldout if self.num_heldout is None else self.num_heldout

    def methods(self) -> "dict[str, AuditOptions]":
        """The options of each method, by the suffix of its stages' names; a single method has an empty suffix."""
        rows = self.options.rows()
        return {f" ({name})" if len(rows) > 1 else "": row for name, row in rows.items()}

    def per_device(self, batch: int | str) -> int:
        """Images per device in a batch."""
        return AUTO_BATCH if isinstance(batch, str) else -(-batch // self.devices)


@dataclasses.dataclass(frozen=True)
class Job:
    """A program, the number of images it is called for, and its calls per image; `batch` is the config's.

    `limits` is False for a program whose memory never limits the stage. A `measurement` makes nothing that a later
    stage uses.
    """

    stage: str
    what: str
    images: int
    key: str
    lower: Callable[[int], Lowered]
    batch: int | str
    calls: int = 1
    precision: str = "default"
    limits: bool = True
    measurement: bool = False


@dataclasses.dataclass(frozen=True)
class Work:
    """Operations of one kind in one stage.

    Attributes:
      stage: its name, with the method if there are several.
      what: the operation.
      images: number of images.
      flops: operations per image.
      precision: of the matrix products, as `Accelerator.hours` names it.
    """

    stage: str
    what: str
    images: int
    flops: float
    precision: str = "default"

    @property
    def total(self) -> float:
        """Operations of the whole stage."""
        return self.images * self.flops


def match_flops(setting: Setting) -> float:
    """Dot products of descriptors, and of pixels with their squared norms (`nearest_l2`): 2·M·(D + P + 1) an image.

    M counts no more held-out than training images: those that are paired.
    """
    photos = setting.num_train + min(setting.num_train, setting.heldout)
    return 2.0 * photos * (setting.dimensions + math.prod(setting.shape) + 1)


def set_images(setting: Setting, row: "AuditOptions") -> int:
    """Number of labelled images that a guide learns from. Held-out photos are assumed as many as training photos."""
    photos = row.labels.source in ("dataset", "heldout")
    return setting.num_train if photos else row.synthesize.num_images


def soft(row: "AuditOptions") -> bool:
    """Whether the labels are probabilities."""
    return row.labels.source in ("classifier", "clusters") and row.labels.targets == "soft"


def _num_classes(row: "AuditOptions", num_classes: int) -> int:
    own = {"clusters": row.labels.num_clusters, "random": row.synthesize.num_images}
    own["repeats"] = row.labels.num_clusters  # an upper bound is enough: no count depends on it
    return own.get(row.labels.source, num_classes)


def teacher_net(row: "AuditOptions", num_classes: int = CLASSES) -> ResNet:
    """The teacher: a classifier of `num_classes` classes of training photos."""
    arch, pretrained = ARCHITECTURES[row.classifier.arch], bool(row.classifier.pretrained)
    return ResNet(arch, num_classes, imagenet_input=pretrained)


def guide_net(row: "AuditOptions", num_classes: int = CLASSES) -> ResNet:
    """The classifier that guides. `num_classes` are those of the training photos, which some label sources take."""
    arch, pretrained = ARCHITECTURES[row.classifier.arch], bool(row.classifier.pretrained)
    return ResNet(arch, _num_classes(row, num_classes), row.classifier.guide == "time_dependent", pretrained)


def guide_of(setting: Setting, row: "AuditOptions") -> Guide:
    """The guide, with abstract parameters."""
    if row.classifier.guide != "exact":
        return programs.network_guide(guide_net(row, setting.num_classes), setting.shape)
    return exact_guide_of(setting, row)


def exact_guide_of(setting: Setting, row: "AuditOptions") -> ExactGuide:
    """The exact guide of the labelled images: the optimum of the student's loss."""
    size, classes = set_images(setting, row), _num_classes(row, setting.num_classes)
    return programs.exact_guide(size, classes, soft(row), row.classifier.block, setting.shape)


def abstract_images(shape: Shape, batch: int) -> jax.ShapeDtypeStruct:
    """A batch of images without values: uint8 [N, H, W, C]."""
    return abstract((batch, *shape), jnp.uint8)


def sampling(
    stage: str, setting: Setting, num_images: int, num_steps: int, batch: int | str, row: "AuditOptions | None" = None
) -> Job:
    """Sampling: unguided, or with the guide of a method."""
    guide = guide_of(setting, row) if row else None
    what = f"{'guided' if row else 'unguided'}, {num_steps} steps"
    lower = lambda size: programs.sampling_step(setting.model, size, guide)  # noqa: E731
    precision = inference(setting.options, "default")
    return Job(stage, what, num_images, f"step of {programs.name_of(guide)}", lower, batch, num_steps, precision)


def inference(options: "AuditOptions", otherwise: str) -> str:
    """The precision of inference on a GPU or TPU: bfloat16, or `otherwise` if the options ask for float32."""
    return otherwise if options.precision == "float32" else "bfloat16"
