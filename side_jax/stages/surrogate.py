"""Stages 2 to 4: synthesize images, label them, distil the labels into a guide."""

import contextlib
import io
import zipfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from side_jax.arrays import ImageStore, fill, load_array
from side_jax.artifacts import AuditError, file_hash, fingerprint, write_bytes
from side_jax.batch_size import resolve
from side_jax.distributed import is_primary, once
from side_jax.extraction.descriptors import Descriptor, feature_descriptor, load_descriptor
from side_jax.interop.torchvision import load_resnet, start_from_pretrained
from side_jax.models.resnet import ARCHITECTURES, ResNet, start_at_teacher
from side_jax.options import AuditOptions
from side_jax.sampling import Sampler
from side_jax.scalars import ScalarLog
from side_jax.sharding import stage_key
from side_jax.stages.audit import Audit, data_print, descriptor_spec, load_target, precision_spec, train_spec
from side_jax.surrogate.classifier import Classifier, load_variables, save_variables
from side_jax.surrogate.distill import AGREEMENT_LEVELS, AGREEMENT_SHARE, agreement_by_noise, distill_loss
from side_jax.surrogate.labels import Labels, classifier_labels, cluster_labels, teacher_loss, unique_labels
from side_jax.training import TrainOptions, TrainState, epoch_batches, fit, init_state


def synthesize_spec(audit: Audit) -> dict[str, Any]:
    """Batch size changes no image."""
    options = audit.options.synthesize
    spec = {"num_images": options.num_images, "num_steps": options.num_steps, "seed": audit.options.seed}
    return spec | precision_spec(audit)


def synthesize(audit: Audit) -> dict[str, Any]:
    """Unguided images of the target: the surrogate's training set."""
    options = audit.options.synthesize
    target = load_target(audit.workdir)
    key = stage_key(audit.options.seed, "synthesize")
    sampler = Sampler(target, key, options.num_steps, precision=audit.options.precision)
    rows = resolve(
        options.batch_size,
        lambda size: sampler.lower(size, 0.0),
        sampler.program(0.0)[0],
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
    if source == "clusters":
        names = ("num_clusters", "cohesion", "temperature")
        spec |= {name: getattr(options, name) for name in names}
        spec |= descriptor_spec(*audit.options.cluster_descriptor()) if not audit.options.has_teacher else {}
    if source == "dataset" or audit.options.has_teacher:
        spec |= {"images": data_print(audit.split.train), "labels": fingerprint(audit.split.train.labels)}
    if audit.options.has_teacher:
        spec |= {"train": train_spec(options.train), "arch": audit.options.classifier.arch} | _start_spec(audit)
    return spec


def _start_spec(audit: Audit) -> dict[str, str]:
    pretrained = audit.options.classifier.pretrained
    return {"pretrained": file_hash(epath.Path(pretrained))} if pretrained else {}


def label(audit: Audit) -> dict[str, Any]:
    """A label for every image that the guide will learn from."""
    options, folder = audit.options.labels, audit.folder("labels")
    facts: dict[str, Any] = {"source": options.source}
    teacher = None
    if audit.options.has_teacher:
        teacher, facts["teacher_loss"] = _train_teacher(audit, folder / "teacher")
    path = folder / "labels.npz"
    once("labels", lambda: _write_labels(path, _make_labels(audit, teacher)))  # k-means need not repeat bit for bit
    labels = load_labels(folder)
    targets = "hard" if labels.probs is None else "soft"
    return facts | {"targets": targets, "num_classes": labels.num_classes, "num_images": len(labels.labels)}


def _make_labels(audit: Audit, teacher: Classifier | None) -> Labels:
    options = audit.options.labels
    images = surrogate_images(audit)
    if options.source == "dataset":
        known = audit.split.train.labels
        labels = Labels(known[known >= 0], int(known.max()) + 1)
    elif options.source == "random":
        labels = unique_labels(len(images))
    elif options.source == "clusters":
        embed = _cluster_embedding(audit.options, teacher)
        labels = cluster_labels(
            embed(images), options.num_clusters, options.cohesion, audit.options.seed, options.temperature
        )
    else:
        assert teacher is not None
        labels = classifier_labels(teacher.net, teacher.variables, images)
    return labels.hardened() if options.targets == "hard" else labels


def _write_labels(path: epath.Path, labels: Labels) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{name: value for name, value in vars(labels).items() if value is not None})
    write_bytes(path, buffer.getvalue())


def _cluster_embedding(options: AuditOptions, teacher: Classifier | None) -> Descriptor:
    if teacher is not None:
        return feature_descriptor(teacher.net, teacher.variables)
    return load_descriptor(*options.cluster_descriptor(), "float32")


def surrogate_images(audit: Audit) -> np.ndarray:
    """What the guide learns from, uint8 [N, H, W, C]: labelled training images, or synthetic ones."""
    if audit.options.labels.source == "dataset":
        return audit.split.train.images[audit.split.train.labels >= 0]
    return load_array(audit.folder("synthetic") / "images.zarr")


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
    variables = _variables(state, train)
    save_variables(folder, variables)
    return Classifier(net, variables), float(state.loss)


def _variables(state: TrainState, train: TrainOptions) -> Any:
    """The trained network, on the host: the averaged weights if there is an average, and the batch statistics."""
    return jax.device_get({"params": state.ema if train.ema_power > 0 else state.params, **state.model_state})


def load_labels(folder: epath.Path) -> Labels:
    """What the label stage wrote."""
    path = folder / "labels.npz"
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            content = {name: arrays[name] for name in arrays.files}
        return Labels(**(content | {"num_classes": int(content["num_classes"])}))
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise AuditError(f"{path} cannot be read ({error}); remove its folder to make that stage again") from error


def distill_spec(audit: Audit) -> dict[str, Any]:
    """Architecture, guide and training."""
    options = audit.options.classifier
    spec = {"arch": options.arch, "guide": options.guide, "train": train_spec(options.train)}
    return spec | _start_spec(audit) | {"seed": audit.options.seed}


def distill(audit: Audit) -> dict[str, Any]:
    """Makes the guide: a student of the labelled images, noised to random t; or, time-independent, the teacher."""
    options, folder = audit.options.classifier, audit.folder("classifier")
    images, labels = surrogate_images(audit), load_labels(audit.folder("labels"))
    alpha_bar = load_target(audit.workdir).schedule.alpha_bar()
    time_dependent, imagenet_input = options.guide == "time_dependent", bool(options.pretrained)
    net = ResNet(ARCHITECTURES[options.arch], labels.num_classes, time_dependent, imagenet_input)
    key = stage_key(audit.options.seed, "distill")
    measured, trained = _agreement_images(audit, len(images))
    facts = {"arch": options.arch, "guide": options.guide, "num_classes": net.num_classes}
    facts["imagenet_input"] = imagenet_input
    if audit.options.labels.source == "classifier" and options.guide == "time_independent":
        guide = Classifier(net, load_variables(audit.folder("labels") / "teacher"))
    else:
        guide, facts["loss"] = _train_guide(audit, net, key, images[trained], labels.targets[trained], alpha_bar)
    save_variables(folder, guide.variables)
    noise_key = stage_key(audit.options.seed, "agreement")
    agreement = _agreement(guide, images[measured], labels.labels[measured], alpha_bar, noise_key)
    if is_primary():
        _log_agreement(folder, agreement)
    facts |= {"agreement": agreement, "agreement_images": len(measured)}
    return facts | {"agreement_trained_on": bool(np.isin(measured, trained).any())}


def _agreement(
    guide: Classifier, images: np.ndarray, labels: np.ndarray, alpha_bar: np.ndarray, key: jax.Array
) -> dict[int, float]:
    """`agreement_by_noise` at evenly spaced levels."""
    net, levels = guide.net, np.arange(AGREEMENT_LEVELS) * len(alpha_bar) // AGREEMENT_LEVELS

    def log_prob(variables: Any, x_t: jax.Array, t: jax.Array) -> jax.Array:
        return Classifier(net, variables).log_prob(x_t, t)

    guided = jax.tree_util.Partial(log_prob, guide.variables)
    return agreement_by_noise(guided, images, labels, alpha_bar, levels.tolist(), key)


def _agreement_images(audit: Audit, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions that measure agreement, and those that train: apart where labels are many to a class."""
    indices = np.arange(count)
    measured = indices[::AGREEMENT_SHARE]
    apart = audit.options.labels.source in ("classifier", "clusters") and len(measured) < count
    return measured, np.setdiff1d(indices, measured) if apart else indices


def _train_guide(
    audit: Audit, net: ResNet, key: jax.Array, images: np.ndarray, targets: np.ndarray, alpha_bar: np.ndarray
) -> tuple[Classifier, float]:
    """The student, from the teacher's weights if there is a teacher of the same classes."""
    train, folder = audit.options.classifier.train, audit.folder("classifier")
    x = jax.ShapeDtypeStruct((1, *images.shape[1:]), jnp.float32)
    variables: Any = net.lazy_init(key, x, jax.ShapeDtypeStruct((1,), jnp.int32))
    pretrained = audit.options.classifier.pretrained
    if audit.options.labels.source == "classifier":
        variables = start_at_teacher(variables, load_variables(audit.folder("labels") / "teacher"))
    elif pretrained:
        start = load_resnet(audit.options.classifier.arch, pretrained)
        variables = start_at_teacher(variables, start_from_pretrained(variables, start))
    batches = epoch_batches({"image": images, "target": targets}, train.batch_size, audit.options.seed)
    loss_fn = distill_loss(net, alpha_bar, train.flip)
    state, _ = fit(init_state(variables, train), loss_fn, batches, train, key, folder, "student")
    return Classifier(net, _variables(state, train)), float(state.loss)


def _log_agreement(folder: epath.Path, agreement: dict[int, float]) -> None:
    """One TensorBoard curve: agreement with the teacher (vertical) by timestep t (in place of the step)."""
    with contextlib.closing(ScalarLog(folder / "logs" / "agreement")) as writer:
        for t, share in agreement.items():
            writer.write_scalars(t, {"teacher_agreement_by_timestep": share})
