"""Stage 4, label: labels every image that the guide learns from."""

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax.typing import VariableDict

from side_jax.audit.cost import programs
from side_jax.audit.cost.jobs import Job, Setting, abstract_images, teacher_net
from side_jax.audit.cost.programs import Shape, abstract
from side_jax.audit.stage import Audit, Stage, control_positions, data_print, descriptor_spec
from side_jax.data.images import ImageSet
from side_jax.matching.descriptor import Descriptor, DescriptorFacts
from side_jax.matching.descriptors import DESCRIPTORS, abstract_descriptor, load_descriptor
from side_jax.matching.descriptors.teacher import feature_apply, feature_descriptor
from side_jax.matching.search import repeats_above
from side_jax.runtime.arrays import load_array
from side_jax.runtime.declare import CONTENT, Check, above, at_least, decided, named_in, one_of, option
from side_jax.runtime.distributed import once
from side_jax.runtime.files import Json, file_hash, fingerprint
from side_jax.runtime.sharding import stage_key
from side_jax.runtime.training import (
    Loss,
    TrainOptions,
    epoch_batches,
    fit,
    init_state,
    init_variables,
    steps_done,
    trained_variables,
)
from side_jax.surrogate.classifier import Classifier, save_variables
from side_jax.surrogate.labels import (
    Labels,
    classifier_labels,
    cluster_labels,
    repeat_labels,
    teacher_loss,
    unique_labels,
)
from side_jax.surrogate.resnet import ARCHITECTURES, ResNet
from side_jax.surrogate.stored import SYNTHETIC, read_labels, write_labels
from side_jax.surrogate.torchvision import load_resnet, start_from_pretrained

if TYPE_CHECKING:
    from side_jax.audit.options import AuditOptions

COSINE = Check(lambda value: -1 <= value <= 1, "a cosine in [-1, 1]")
_BATCH = 256  # images that the teacher labels at once


def _clusters(options: "LabelOptions") -> bool:
    return options.source == "clusters"


@dataclasses.dataclass(frozen=True)
class LabelOptions:
    """The labels that the guide learns."""

    source: str = option(
        "classifier",
        "classifier: a teacher, trained on the labelled training images, labels the synthetic ones | clusters: k-means"
        " of the synthetic images, no training data | repeats: each picture that the target makes again and again a"
        " class, no training data; for an exact guide | dataset: the training images themselves with their labels, no"
        " synthetic ones | heldout: as many held-out ones, the control of an exact guide over the training images |"
        " random: each synthetic image its own class",
        one_of("classifier", "clusters", "repeats", "dataset", "heldout", "random"),
    )
    targets: str = option(
        "soft",
        "classifier, clusters: soft (KL, Eq. 11) | hard (cross-entropy, the later version)",
        one_of("soft", "hard"),
        used=lambda options: options.source in ("classifier", "clusters"),
    )
    num_clusters: int = option(100, "clusters: K", at_least(2), used=_clusters)
    cohesion: float = option(
        0.5, "clusters: those with a lower mean cosine to their centre are dropped", COSINE, used=_clusters
    )
    repeat: float = option(
        0.75,
        "repeats: cosine from which two synthetic images are repeats (SSCD's, 90 % precision)",
        Check(lambda value: -1 <= value < 1, "a cosine in [-1, 1)"),
        used=lambda options: options.source == "repeats",
    )
    temperature: float = option(
        0.1, "clusters: soft targets are softmax(cosine to the centres / temperature)", above(0), used=_clusters
    )
    draw: str = option(
        "uniform",
        "of the class that each image is guided to: uniform, each independently, as in the paper | balanced: every"
        " class once in each round of K images",
        one_of("uniform", "balanced"),
    )
    descriptor: str = option(
        "",
        f"clusters, repeats: {' | '.join(DESCRIPTORS)} | teacher (its features); empty: that of extract",
        named_in(DESCRIPTORS, "", "teacher"),
        decides=CONTENT,
    )
    train: TrainOptions = option(
        TrainOptions(num_steps=10_000, learning_rate=1e-3, warmup_steps=500, flip=True),
        "of the teacher",
        used=lambda options: options.has_teacher,
    )

    @property
    def has_teacher(self) -> bool:
        """True if a classifier of the training photos is needed, for labels or as a descriptor."""
        clustered = self.source in ("clusters", "repeats")
        return self.source == "classifier" or (clustered and self.descriptor == "teacher")


class LabelStage(Stage):
    """Labels the images, with or without a classifier of the training photos."""

    name = "label"
    folder = "labels"
    needs = ("synthesize",)
    for_guide = True
    per_method = True

    def needed(self, options: "AuditOptions") -> bool:
        """True if any method has a guide."""
        return options.guided

    def spec(self, audit: Audit) -> Json:
        """The photos matter for a teacher and for their own labels; other labels depend on synthetic images alone."""
        options, labels = audit.options, audit.options.labels
        spec: Json = {"labels": decided(labels, without=("draw",)), "seed": options.seed}
        if labels.source in ("clusters", "repeats") and not labels.has_teacher:
            spec |= descriptor_spec(*options.cluster_descriptor())
        photos = audit.split.train if labels.has_teacher else labelled_photos(options, audit)
        if photos is not None:
            spec |= {"images": data_print(photos), "classes": fingerprint(photos.labels)}
        if labels.has_teacher:
            spec |= {"classifier": {"arch": options.classifier.arch}} | start_spec(audit)
        return spec

    def check(self, audit: Audit) -> None:
        """A teacher, or a guide of the photos' labels, needs at least two classes."""
        labels = audit.split.train.labels
        check_num_classes(audit.options, len(np.unique(labels[labels >= 0])))

    def run(self, audit: Audit) -> Json:
        """Writes labels.npz and, if one is needed, the teacher."""
        options, folder = audit.options.labels, audit.folder("labels")
        facts: Json = {"source": options.source}
        teacher = None
        if audit.options.labels.has_teacher:
            teacher, facts["teacher_loss"] = _train_teacher(audit, folder / "teacher")
        once(
            "labels", lambda: write_labels(folder, _make_labels(audit, teacher))
        )  # once: k-means need not repeat bit for bit
        labels = read_labels(folder)
        targets = "hard" if labels.probs is None else "soft"
        return facts | {"targets": targets, "num_classes": labels.num_classes, "num_images": len(labels.labels)}

    def progress(self, audit: Audit) -> Iterator[str]:
        """Training steps of the teacher."""
        if audit.options.labels.has_teacher:
            yield f"teacher: {steps_done(audit.folder(self.folder) / 'teacher', audit.options.labels.train)}"

    def jobs(self, setting: Setting, row: "AuditOptions", method: str) -> Iterator[Job]:
        """Training of the teacher, and the network that looks at each synthetic image."""
        stage = self.name + method
        net, train, shape = teacher_net(row, setting.num_classes), row.labels.train, setting.shape
        if row.labels.has_teacher:
            yield Job(
                stage,
                f"train teacher, {train.num_steps:,} steps",
                train.num_steps * train.batch_size,
                "teacher training",
                lambda size: programs.training_step(
                    programs.resnet_variables(net, shape),
                    teacher_loss(net, train.flip),
                    train,
                    {"image": abstract_images(shape, size), "label": abstract((size,), jnp.int32)},
                ),
                train.batch_size,
            )
        count = row.synthesize.num_images
        if row.labels.source == "classifier":
            lower = lambda size: programs.classification(net, shape, size)  # noqa: E731
            yield Job(stage, "label", count, "labelling", lower, _BATCH, limits=False)
        elif row.labels.source in ("clusters", "repeats"):
            embed = _abstract_embedding(row, net if row.labels.has_teacher else None, shape)
            name = embed.facts.name
            lower = lambda size: programs.descriptor(embed, shape, size)  # noqa: E731
            yield Job(stage, f"{name} descriptor", count, name, lower, _BATCH, 1, "float32", limits=False)


def of_classes(row: "AuditOptions") -> bool:
    """True if a method needs the classes of the training photos: for a teacher, or as the labels of its guide."""
    return row.classifier.guide != "none" and (row.labels.has_teacher or row.labels.source == "dataset")


def check_num_classes(options: "AuditOptions", num_classes: int) -> None:
    """Raises `ValueError` if the training photos have fewer than two classes where a method needs them."""
    for row in options.rows().values():
        if of_classes(row) and num_classes < 2:
            raise ValueError(
                f"labels.source={row.labels.source!r} needs training images of at least 2 classes, in class folders;"
                " use labels.source='clusters' (with another labels.descriptor than teacher) for images without labels"
            )


def start_spec(audit: Audit) -> dict[str, str]:
    """Spec of the start of training: the hash of the pretrained weights, if any are given."""
    pretrained = audit.options.classifier.pretrained
    return {"pretrained": file_hash(epath.Path(pretrained))} if pretrained else {}


def _make_labels(audit: Audit, teacher: Classifier | None) -> Labels:
    options = audit.options.labels
    images = surrogate_images(audit)
    photos = labelled_photos(audit.options, audit)
    if photos is not None:
        labels = Labels(photos.labels.astype(np.int32), int(photos.labels.max()) + 1)
    elif options.source == "random":
        labels = unique_labels(len(images))
    elif options.source == "repeats":
        descriptors = _cluster_embedding(audit.options, teacher)(images)
        labels = repeat_labels(repeats_above(descriptors, options.repeat), options.repeat)
    elif options.source == "clusters":
        embed = _cluster_embedding(audit.options, teacher)
        labels = cluster_labels(
            embed(images), options.num_clusters, options.cohesion, audit.options.seed, options.temperature
        )
    else:
        assert teacher is not None
        labels = classifier_labels(teacher.net, teacher.variables, images)
    return dataclasses.replace(labels, probs=None) if options.targets == "hard" else labels


def _cluster_embedding(options: "AuditOptions", teacher: Classifier | None) -> Descriptor:
    if teacher is not None:
        return feature_descriptor(teacher.net, teacher.variables)
    return load_descriptor(*options.cluster_descriptor(), "float32")


def _abstract_embedding(options: "AuditOptions", teacher: ResNet | None, shape: Shape) -> Descriptor:
    """That descriptor with abstract parameters."""
    if teacher is None:
        name, _, preprocessing = options.cluster_descriptor()
        return abstract_descriptor(name, preprocessing)
    variables = programs.resnet_variables(teacher, shape)
    return Descriptor(variables, feature_apply(teacher), DescriptorFacts("teacher"))


def surrogate_images(audit: Audit) -> np.ndarray:
    """The images that the guide learns from, uint8 [N, H, W, C]: labelled photos or synthetic images."""
    photos = labelled_photos(audit.options, audit)
    return load_array(audit.workdir / SYNTHETIC) if photos is None else photos.images


def _train_teacher(audit: Audit, folder: epath.Path) -> tuple[Classifier, float]:
    options, images = audit.options, audit.split.train
    arch, pretrained = options.classifier.arch, options.classifier.pretrained
    net = ResNet(ARCHITECTURES[arch], int(images.labels.max()) + 1, imagenet_input=bool(pretrained))
    key, train = stage_key(options.seed, "label"), options.labels.train
    x = jax.ShapeDtypeStruct((1, *images.images.shape[1:]), jnp.float32)
    variables: VariableDict = init_variables(net, key, (x,))
    if pretrained:
        variables = start_from_pretrained(variables, load_resnet(arch, pretrained))
    labelled = images[np.flatnonzero(images.labels >= 0)]
    batches = epoch_batches({"image": labelled.images, "label": labelled.labels}, train.batch_size, options.seed)
    loss = Loss(teacher_loss(net, train.flip), key)
    state, _ = fit(init_state(variables, train), loss, batches, train, folder, "teacher")
    variables = trained_variables(state, train)
    save_variables(folder, variables)
    return Classifier(net, variables), float(state.loss)


def labelled_photos(options: "AuditOptions", audit: Audit) -> ImageSet | None:
    """The photos that a guide learns from: training photos or, for the control, as many held-out ones; else None."""
    source, split = options.labels.source, audit.split
    if source not in ("dataset", "heldout"):
        return None
    photos = split.train if source == "dataset" else split.heldout[control_positions(audit)]
    return photos[np.flatnonzero(photos.labels >= 0)]
