"""Stages 2 and 3: synthesize images and label them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from side_jax.arrays import ImageStore, fill, load_array
from side_jax.artifacts import file_hash, fingerprint
from side_jax.batch_size import resolve
from side_jax.distributed import once
from side_jax.extraction.descriptors import Descriptor, feature_descriptor, load_descriptor
from side_jax.interop.torchvision import load_resnet, start_from_pretrained
from side_jax.models.resnet import ARCHITECTURES, ResNet
from side_jax.options import AuditOptions
from side_jax.sampling import Sampler
from side_jax.sharding import stage_key
from side_jax.stages.audit import (
    Audit,
    data_print,
    descriptor_spec,
    labelled_photos,
    load_target,
    precision_spec,
    train_spec,
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
from side_jax.surrogate.stored import SYNTHETIC, read_labels, write_labels
from side_jax.training import TrainOptions, TrainState, epoch_batches, fit, init_state


def synthesize_spec(audit: Audit) -> dict[str, Any]:
    """Batch size changes no image."""
    options = audit.options.synthesize
    spec = {"num_images": options.num_images, "num_steps": options.num_steps, "seed": audit.options.seed}
    return spec | precision_spec(audit) | {"clip": audit.options.sampler.clip}


def synthesize(audit: Audit) -> dict[str, Any]:
    """Unguided images of the target: the surrogate's training set."""
    options = audit.options.synthesize
    target = load_target(audit.workdir)
    key = stage_key(audit.options.seed, "synthesize")
    clip, precision = audit.options.sampler.clip, audit.options.precision
    sampler = Sampler(target, key, options.num_steps, precision=precision, clip=clip)
    rows = resolve(
        options.batch_size,
        lambda size: sampler.lower(size, 0.0),
        sampler.signature(0.0),
        options.num_images,
        sampler.mesh,
        "synthesize",
    )
    folder = audit.folder("synthetic")

    def store() -> ImageStore:
        return ImageStore(folder / "images.zarr", options.num_images, target.image_shape, rows)

    once("synthetic images", store)  # creates it, which the others then open
    sampler.batch_size = store().chunk_rows  # as the array was created, which another batch size may have been
    fill(store(), folder, lambda indices: sampler(indices, 0.0))
    return {"num_images": options.num_images}


def label_spec(audit: Audit) -> dict[str, Any]:
    """A classifier depends on the training images, clusters and random labels on the synthetic ones alone."""
    options, source = audit.options.labels, audit.options.labels.source
    spec: dict[str, Any] = {"source": source, "seed": audit.options.seed}
    if source in ("classifier", "clusters"):
        spec["targets"] = options.targets
    if source in ("clusters", "repeats"):
        names = ("num_clusters", "cohesion", "temperature") if source == "clusters" else ("repeat",)
        spec |= {name: getattr(options, name) for name in names}
        spec |= descriptor_spec(*audit.options.cluster_descriptor()) if not audit.options.has_teacher else {}
    photos = audit.split.train if audit.options.has_teacher else labelled_photos(audit.options, audit)
    if photos is not None:
        spec |= {"images": data_print(photos), "labels": fingerprint(photos.labels)}
    if audit.options.has_teacher:
        spec |= {"train": train_spec(options.train), "arch": audit.options.classifier.arch} | start_spec(audit)
    return spec


def start_spec(audit: Audit) -> dict[str, str]:
    """Where training starts: the hash of the pretrained weights, if there are any."""
    pretrained = audit.options.classifier.pretrained
    return {"pretrained": file_hash(epath.Path(pretrained))} if pretrained else {}


def label(audit: Audit) -> dict[str, Any]:
    """A label for every image that the guide will learn from."""
    options, folder = audit.options.labels, audit.folder("labels")
    facts: dict[str, Any] = {"source": options.source}
    teacher = None
    if audit.options.has_teacher:
        teacher, facts["teacher_loss"] = _train_teacher(audit, folder / "teacher")
    once("labels", lambda: write_labels(folder, _make_labels(audit, teacher)))  # k-means need not repeat bit for bit
    labels = read_labels(folder)
    targets = "hard" if labels.probs is None else "soft"
    return facts | {"targets": targets, "num_classes": labels.num_classes, "num_images": len(labels.labels)}


def _make_labels(audit: Audit, teacher: Classifier | None) -> Labels:
    options = audit.options.labels
    images = surrogate_images(audit)
    photos = labelled_photos(audit.options, audit)
    if photos is not None:
        labels = Labels(photos.labels.astype(np.int32), int(photos.labels.max()) + 1)
    elif options.source == "random":
        labels = unique_labels(len(images))
    elif options.source == "repeats":
        labels = repeat_labels(_cluster_embedding(audit.options, teacher)(images), options.repeat)
    elif options.source == "clusters":
        embed = _cluster_embedding(audit.options, teacher)
        labels = cluster_labels(
            embed(images), options.num_clusters, options.cohesion, audit.options.seed, options.temperature
        )
    else:
        assert teacher is not None
        labels = classifier_labels(teacher.net, teacher.variables, images)
    return labels.hardened() if options.targets == "hard" else labels


def _cluster_embedding(options: AuditOptions, teacher: Classifier | None) -> Descriptor:
    if teacher is not None:
        return feature_descriptor(teacher.net, teacher.variables)
    return load_descriptor(*options.cluster_descriptor(), "float32")


def surrogate_images(audit: Audit) -> np.ndarray:
    """What the guide learns from, uint8 [N, H, W, C]: labelled photos, or synthetic images."""
    photos = labelled_photos(audit.options, audit)
    return load_array(audit.workdir / SYNTHETIC) if photos is None else photos.images


def _train_teacher(audit: Audit, folder: epath.Path) -> tuple[Classifier, float]:
    options, images = audit.options, audit.split.train
    arch, pretrained = options.classifier.arch, options.classifier.pretrained
    net = ResNet(ARCHITECTURES[arch], int(images.labels.max()) + 1, imagenet_input=bool(pretrained))
    key, train = stage_key(options.seed, "label"), options.labels.train
    variables = net.lazy_init(key, jax.ShapeDtypeStruct((1, *images.images.shape[1:]), jnp.float32))
    if pretrained:
        variables = start_from_pretrained(variables, load_resnet(arch, pretrained))
    labelled = np.flatnonzero(images.labels >= 0)
    batches = epoch_batches(
        {"image": images.images[labelled], "label": images.labels[labelled]}, train.batch_size, options.seed
    )
    state, _ = fit(init_state(variables, train), teacher_loss(net, train.flip), batches, train, key, folder, "teacher")
    variables = trained_variables(state, train)
    save_variables(folder, variables)
    return Classifier(net, variables), float(state.loss)


def trained_variables(state: TrainState, train: TrainOptions) -> Any:
    """The trained network, on the host: the averaged weights if there is an average, and the batch statistics."""
    return jax.device_get({"params": state.ema if train.ema_power > 0 else state.params, **state.model_state})
