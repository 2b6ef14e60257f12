"""The programs that an audit calls, by stage: for how many images, how often, in which batches."""

import dataclasses
import math
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp

from side_jax.cost import programs
from side_jax.cost.programs import Lowered, Shape, abstract
from side_jax.diffusion.schedule import Schedule
from side_jax.models.resnet import ARCHITECTURES, ResNet
from side_jax.models.sscd import SSCD
from side_jax.models.unet import UNet
from side_jax.options import AuditOptions
from side_jax.representation.membership import Attack
from side_jax.representation.steering import steered_steps
from side_jax.surrogate.distill import AGREEMENT_BATCH, AGREEMENT_LEVELS, AGREEMENT_SHARE, Known, distill_loss
from side_jax.surrogate.exact import ExactGuide
from side_jax.surrogate.guide import Guide
from side_jax.surrogate.labels import teacher_loss
from side_jax.target import target_loss

CLASSES = 1_000  # assumed of the labels of training images
AUTO_BATCH = 64  # images of the program from which the memory of an automatic batch is estimated
_LABEL_BATCH = 256  # images that the teacher labels at once


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is counted.

    Attributes:
      options: of the audit; no file that they name is opened.
      unet: the target's architecture.
      devices: over which a batch is split.
      num_train: training images.
      num_classes: classes of training images.
    """

    options: AuditOptions
    unet: UNet
    devices: int
    num_train: int
    num_classes: int = CLASSES

    @property
    def shape(self) -> Shape:
        """(H, W, C) of an image."""
        dataset = self.options.dataset
        return (dataset.image_size, dataset.image_size, dataset.channels)

    @property
    def dimensions(self) -> int:
        """D of the descriptor of the extract stage."""
        return SSCD().dims if self.options.extract.descriptor == "sscd" else math.prod(self.shape)

    @property
    def has_heldout(self) -> bool:
        """Are there held-out images to match against? At most as many as training images."""
        return bool(self.options.dataset.heldout_fraction or self.options.dataset.heldout_path)

    def methods(self) -> dict[str, AuditOptions]:
        """The audits to be made, by what follows a stage's name: nothing if there is only one."""
        rows = self.options.rows()
        return {f" ({name})" if len(rows) > 1 else "": row for name, row in rows.items()}

    def per_device(self, batch: int | str) -> int:
        """Images of a batch on each device."""
        return AUTO_BATCH if isinstance(batch, str) else -(-batch // self.devices)


@dataclasses.dataclass(frozen=True)
class Job:
    """A program: for how many images it is called, and how often for each; `batch` is the config's.

    Without `limits`, the stage chooses a batch that is small beside its others. A `measurement` looks at what was made.
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


def set_images(setting: Setting, row: AuditOptions) -> int:
    """Labelled images that a guide is made of; as many held-out photos as training photos are assumed."""
    photos = row.labels.source in ("dataset", "heldout")
    return setting.num_train if photos else row.synthesize.num_images


def soft(row: AuditOptions) -> bool:
    """Are the labels probabilities?"""
    return row.labels.source in ("classifier", "clusters") and row.labels.targets == "soft"


def _num_classes(row: AuditOptions, num_classes: int) -> int:
    own = {"clusters": row.labels.num_clusters, "random": row.synthesize.num_images}
    own["repeats"] = row.labels.num_clusters  # how many there are is not known; no count depends on it
    return own.get(row.labels.source, num_classes)


def teacher_net(row: AuditOptions, num_classes: int = CLASSES) -> ResNet:
    """The classifier of the training images, which have `num_classes`."""
    arch, pretrained = ARCHITECTURES[row.classifier.arch], bool(row.classifier.pretrained)
    return ResNet(arch, num_classes, imagenet_input=pretrained)


def guide_net(row: AuditOptions, num_classes: int = CLASSES) -> ResNet:
    """The classifier that guides; `num_classes` of the training images, whose labels it may have."""
    arch, pretrained = ARCHITECTURES[row.classifier.arch], bool(row.classifier.pretrained)
    return ResNet(arch, _num_classes(row, num_classes), row.classifier.guide == "time_dependent", pretrained)


def guide_of(setting: Setting, row: AuditOptions) -> Guide:
    """The guide, without numbers."""
    if row.classifier.guide != "exact":
        return programs.network_guide(guide_net(row, setting.num_classes), setting.shape)
    return _exact_guide(setting, row)


def _exact_guide(setting: Setting, row: AuditOptions) -> ExactGuide:
    """That of the labelled images, which a student can at best become."""
    size, classes = set_images(setting, row), _num_classes(row, setting.num_classes)
    return programs.exact_guide(size, classes, soft(row), row.classifier.block, setting.shape)


def _images(shape: Shape, batch: int) -> jax.ShapeDtypeStruct:
    return abstract((batch, *shape), jnp.uint8)


def shared_jobs(setting: Setting) -> Iterator[Job]:
    """What all methods have in common: the target and its synthetic images."""
    options, unet, shape = setting.options, setting.unet, setting.shape
    if options.target.source == "train":
        train, schedule = options.target.train, options.target.make_schedule()
        yield Job(
            "target",
            f"train, {train.num_steps:,} steps",
            train.num_steps * train.batch_size,
            "target training",
            lambda size: programs.training_step(
                programs.unet_variables(unet, shape),
                target_loss(unet, schedule, train.flip),
                train,
                {"image": _images(shape, size)},
            ),
            train.batch_size,
        )
    rows = options.rows().values()
    if any(row.classifier.guide != "none" and row.labels.source not in ("dataset", "heldout") for row in rows):
        synthesize = options.synthesize
        yield _sampling("synthesize", setting, synthesize.num_images, synthesize.num_steps, synthesize.batch_size)


def _sampling(
    stage: str, setting: Setting, num_images: int, num_steps: int, batch: int | str, row: AuditOptions | None = None
) -> Job:
    """Unguided, or with the guide of a method."""
    guide = guide_of(setting, row) if row else None
    what = f"{'guided' if row else 'unguided'}, {num_steps} steps"
    lower = lambda size: programs.sampling_step(setting.unet, setting.shape, size, guide)  # noqa: E731
    precision = _inference(setting.options, "default")
    return Job(stage, what, num_images, f"step of {programs.name_of(guide)}", lower, batch, num_steps, precision)


def _inference(options: AuditOptions, otherwise: str) -> str:
    """The precision of networks that only infer, on a GPU or TPU; `otherwise` where that is float32."""
    return otherwise if options.precision == "float32" else "bfloat16"


def method_jobs(setting: Setting, row: AuditOptions, method: str) -> Iterator[Job]:
    """Labels, guide and sweep of one method."""
    if row.classifier.guide != "none":
        yield from _label_jobs(setting, row, "label" + method)
        yield from _distill_jobs(setting, row, "distill" + method)
    extract, stage = row.extract, "extract" + method
    unguided = sum(scale == 0 for scale in extract.scales) * extract.num_images
    guided = len(extract.scales) * extract.num_images - unguided
    if unguided:
        yield _sampling(stage, setting, unguided, extract.num_steps, extract.batch_size)
    if guided:
        yield _sampling(stage, setting, guided, extract.num_steps, extract.batch_size, row)
    name, preprocessing = extract.descriptor, extract.preprocessing
    what = f"{name} descriptor"
    lower = lambda size: programs.descriptor(name, preprocessing, setting.shape, size)  # noqa: E731
    precision = _inference(row, "float32") if name == "sscd" else "float32"
    yield Job(stage, what, unguided + guided, "descriptor", lower, extract.batch_size, precision=precision)


def detect_jobs(setting: Setting) -> Iterator[Job]:
    """Forward passes of generated images, of which those not kept are sampled again, and of photos."""
    main, detect = next(iter(setting.options.rows().values())), setting.options.detect
    extract, looks = main.extract, len(detect.timesteps) * detect.num_noises
    count = min(detect.num_images, extract.num_images)
    if not count:
        return
    batch, numbers = extract.batch_size, {"unguided": 0, "guided": 0}
    if extract.save_images != "all":  # at most, where those with a match are kept
        for scale in extract.scales:
            numbers["guided" if scale else "unguided"] += count
    for what, images in numbers.items():
        if images:
            guided = main if what == "guided" else None
            yield _sampling("detect", setting, images, extract.num_steps, batch, guided)
    one = _sampling("detect", setting, len(extract.scales) * count, looks, batch)
    yield dataclasses.replace(one, what=f"generated images, {looks} forward passes")
    if setting.has_heldout:
        attacks = [
            (Attack(name, Schedule().num_train_timesteps), t)
            for name in detect.attacks
            for t in detect.attack_timesteps
        ]
        looks += sum(attack.calls(t) * (detect.num_noises if attack.draws_noise else 1) for attack, t in attacks)
        photos = _sampling("detect", setting, 2 * setting.num_train, looks, batch)
        yield dataclasses.replace(photos, what=f"photos, {looks} forward passes")


def steer_jobs(setting: Setting) -> Iterator[Job]:
    """Unguided images at every weight, and the forward passes of the two sets that the direction comes from.

    At most: both sets may be smaller. Images that were not kept are sampled again.
    """
    main, steer = next(iter(setting.options.rows().values())), setting.options.steer
    extract, count = main.extract, min(steer.num_images, main.extract.num_images // 2)
    if not steer.weights:
        return
    samples = len(steer.weights) * count + (0 if extract.save_images == "all" else 3 * count)
    yield _sampling("steer", setting, samples, extract.num_steps, extract.batch_size)
    looks = len(steered_steps(steer.window, extract.num_steps))
    passes = _sampling("steer", setting, 2 * count, looks, extract.batch_size)
    yield dataclasses.replace(passes, what=f"direction, {looks} forward passes")


def _label_jobs(setting: Setting, row: AuditOptions, stage: str) -> Iterator[Job]:
    net, train, shape = teacher_net(row, setting.num_classes), row.labels.train, setting.shape
    if row.has_teacher:
        yield Job(
            stage,
            f"train teacher, {train.num_steps:,} steps",
            train.num_steps * train.batch_size,
            "teacher training",
            lambda size: programs.training_step(
                programs.resnet_variables(net, shape),
                teacher_loss(net, train.flip),
                train,
                {"image": _images(shape, size), "label": abstract((size,), jnp.int32)},
            ),
            train.batch_size,
        )
    count = row.synthesize.num_images
    if row.labels.source == "classifier":
        lower = lambda size: programs.classification(net, shape, size)  # noqa: E731
        yield Job(stage, "label", count, "labelling", lower, _LABEL_BATCH, limits=False)
    elif row.labels.source in ("clusters", "repeats"):
        name, _, preprocessing = ("teacher", "", "") if row.has_teacher else row.cluster_descriptor()
        teacher = net if row.has_teacher else None
        lower = lambda size: programs.descriptor(name, preprocessing, shape, size, teacher)  # noqa: E731
        yield Job(stage, f"{name} descriptor", count, name, lower, _LABEL_BATCH, 1, "float32", limits=False)


def _distill_jobs(setting: Setting, row: AuditOptions, stage: str) -> Iterator[Job]:
    """The guide, the exact guide beside it, and the agreement of both."""
    exact, options = _exact_guide(setting, row), row.classifier
    # Of the exact guide, a measurement too unless the student's timesteps are drawn by it.
    ceiling = _agreement_job(setting, row, stage, exact)
    yield dataclasses.replace(ceiling, limits=True, measurement=options.timesteps == "uniform")
    if options.guide == "exact":
        return
    if not (row.labels.source == "classifier" and options.guide == "time_independent"):
        yield _distill_job(setting, row, stage, Known(exact) if options.learn == "posterior" else None)
    yield _agreement_job(setting, row, stage, guide_of(setting, row))


def _distill_job(setting: Setting, row: AuditOptions, stage: str, known: Known | None) -> Job:
    net, train, shape = guide_net(row, setting.num_classes), row.classifier.train, setting.shape
    probabilities, process = soft(row), Schedule().process()  # no count depends on its values

    def lower(size: int) -> Lowered:
        target = abstract((size, net.num_classes)) if probabilities else abstract((size,), jnp.int32)
        return programs.training_step(
            programs.resnet_variables(net, shape),
            distill_loss(net, process, train.flip),
            train,
            {"image": _images(shape, size), "target": target},
            known,
        )

    images, key = train.num_steps * train.batch_size, f"student {net} {probabilities}"
    key += programs.name_of(known.posterior) if known else ""
    return Job(stage, f"train, {train.num_steps:,} steps", images, key, lower, train.batch_size)


def _agreement_job(setting: Setting, row: AuditOptions, stage: str, guide: Guide) -> Job:
    """Forward passes of a guide on one in `AGREEMENT_SHARE` of the labelled images."""
    measured = -(-set_images(setting, row) // AGREEMENT_SHARE)
    of = "of the exact guide " if isinstance(guide, ExactGuide) else ""
    what, key = f"agreement {of}at {AGREEMENT_LEVELS} noise levels", f"agreement {programs.name_of(guide)}"
    lower = lambda size: programs.log_prob(guide, setting.shape, size)  # noqa: E731
    return Job(stage, what, measured, key, lower, AGREEMENT_BATCH, AGREEMENT_LEVELS, limits=False, measurement=True)
