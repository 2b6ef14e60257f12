"""Stages 2 to 4: synthesize images, label them, distil the labels into a time-conditioned classifier."""

import dataclasses
import io
import zipfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from side_jax.arrays import ImageStore, fill, load_array
from side_jax.artifacts import AuditError, file_hash, fingerprint, write_bytes
from side_jax.extraction.descriptors import load_descriptor
from side_jax.interop.torchvision import load_resnet, start_from_pretrained
from side_jax.models.resnet import ARCHITECTURES, ResNet, start_at_teacher
from side_jax.sampling import Sampler
from side_jax.sharding import stage_key
from side_jax.stages.audit import Audit, data_print, descriptor_spec, load_target, train_spec
from side_jax.surrogate.classifier import Classifier, load_variables, save_variables
from side_jax.surrogate.distill import agreement_by_noise, tdkd_loss
from side_jax.surrogate.labels import Labels, classifier_labels, cluster_labels, teacher_loss
from side_jax.training import TrainOptions, TrainState, epoch_batches, fit, init_state

_AGREEMENT_SHARE = 10  # one synthetic image in so many measures agreement and is not trained on
_AGREEMENT_LEVELS = 10  # noise levels at which it is measured


def synthesize_spec(audit: Audit) -> dict[str, Any]:
    """Batch size changes no image."""
    options = audit.options.synthesize
    return {"num_images": options.num_images, "num_steps": options.num_steps, "seed": audit.options.seed}


def synthesize(audit: Audit) -> dict[str, Any]:
    """Unguided images of the target: the surrogate's training set."""
    options = audit.options.synthesize
    target = load_target(audit.workdir)
    key = stage_key(audit.options.seed, "synthesize")
    sampler = Sampler(target, key, options.num_steps, 0.0, options.batch_size)
    folder = audit.workdir / "synthetic"
    rows = min(options.batch_size, options.num_images)
    store = ImageStore(folder / "images.zarr", options.num_images, target.image_shape, rows)
    fill(store, folder / "progress.json", options.num_images, lambda indices: sampler(indices, 0.0))
    return {"num_images": options.num_images}


def label_spec(audit: Audit) -> dict[str, Any]:
    """A classifier depends on the training images, clusters on the synthetic ones alone."""
    options = audit.options.labels
    if options.source == "clusters":
        names = ("source", "num_clusters", "cohesion")
        chosen = {name: getattr(options, name) for name in names} | descriptor_spec(audit.options.extract)
        return chosen | {"seed": audit.options.seed}
    pretrained = audit.options.classifier.pretrained
    start = {"pretrained": file_hash(epath.Path(pretrained))} if pretrained else {}
    return start | {
        "source": options.source,
        "train": train_spec(options.train),
        "arch": audit.options.classifier.arch,
        "images": data_print(audit.split.train),
        "labels": fingerprint(audit.split.train.labels),
        "seed": audit.options.seed,
    }


def label(audit: Audit) -> dict[str, Any]:
    """Soft labels for the synthetic images, from a teacher or from clusters."""
    options = audit.options.labels
    folder = audit.workdir / "labels"
    images = load_array(audit.workdir / "synthetic" / "images.zarr")
    facts: dict[str, Any] = {"source": options.source}
    if options.source == "classifier":
        net, variables, loss = _train_teacher(audit, folder / "teacher")
        labels = classifier_labels(net, variables, images)
        facts["teacher_loss"] = loss
    else:
        embed = load_descriptor(
            audit.options.extract.descriptor, audit.options.extract.weights, audit.options.extract.preprocessing
        )
        labels = cluster_labels(embed(images), options.num_clusters, options.cohesion, audit.options.seed)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **dataclasses.asdict(labels))
    write_bytes(folder / "labels.npz", buffer.getvalue())
    used = np.bincount(labels.probs.argmax(1), minlength=labels.probs.shape[1])
    return facts | {"num_classes": labels.probs.shape[1], "images_per_class": used.tolist()}


def _train_teacher(audit: Audit, folder: epath.Path) -> tuple[ResNet, Any, float]:
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
    return net, variables, float(state.loss)


def _variables(state: TrainState, train: TrainOptions) -> Any:
    """The trained network: the averaged weights if there is an average, and the batch statistics."""
    return {"params": state.ema if train.ema_power > 0 else state.params, **state.model_state}


def load_labels(workdir: epath.Path) -> Labels:
    """What the label stage wrote."""
    path = workdir / "labels" / "labels.npz"
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            return Labels(**{name: arrays[name] for name in arrays.files})
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise AuditError(f"{path} cannot be read ({error}); remove its folder to make that stage again") from error


def distill_spec(audit: Audit) -> dict[str, Any]:
    """Architecture, guide and training."""
    options = audit.options.classifier
    spec = {"arch": options.arch, "guide": options.guide, "train": train_spec(options.train)}
    return spec | {"seed": audit.options.seed}


def distill(audit: Audit) -> dict[str, Any]:
    """Trains the student on the labelled synthetic images, noised to random t, from the teacher if there is one."""
    options = audit.options.classifier
    folder, train = audit.workdir / "classifier", options.train
    images = load_array(audit.workdir / "synthetic" / "images.zarr")
    labels = load_labels(audit.workdir)
    alpha_bar = load_target(audit.workdir).schedule.alpha_bar()
    imagenet_input = bool(options.pretrained)
    net = ResNet(ARCHITECTURES[options.arch], labels.probs.shape[1], True, imagenet_input)
    key = stage_key(audit.options.seed, "distill")
    x = jax.ShapeDtypeStruct((1, *images.shape[1:]), jnp.float32)
    variables: Any = net.lazy_init(key, x, jax.ShapeDtypeStruct((1,), jnp.int32))
    if audit.options.labels.source == "classifier":
        variables = start_at_teacher(variables, load_variables(audit.workdir / "labels" / "teacher"))
    measured = np.arange(len(images)) % _AGREEMENT_SHARE == 0
    # With very few images (a smoke run) all of them train.
    trained = ~measured if measured.sum() < len(images) else measured
    batches = epoch_batches(
        {"image": images[trained], "probs": labels.probs[trained]}, train.batch_size, audit.options.seed
    )
    loss_fn = tdkd_loss(net, alpha_bar, train.flip)
    state, _ = fit(init_state(variables, train), loss_fn, batches, train, key, folder, "student")
    variables = _variables(state, train)
    save_variables(folder, variables)
    levels = tuple(int(t) for t in np.arange(_AGREEMENT_LEVELS) * len(alpha_bar) // _AGREEMENT_LEVELS)
    agreement = agreement_by_noise(
        Classifier(net, variables), images[measured], labels.probs[measured], alpha_bar, levels, key
    )
    _log_agreement(folder, agreement)
    facts = {"arch": options.arch, "num_classes": net.num_classes, "imagenet_input": imagenet_input}
    facts |= {"loss": float(state.loss)}
    return facts | {"agreement": agreement, "agreement_images": int(measured.sum())}


def _log_agreement(folder: epath.Path, agreement: dict[int, float]) -> None:
    """One TensorBoard curve: agreement with the teacher (vertical) by timestep t (in place of the step)."""
    from clu import metric_writers

    writer = metric_writers.SummaryWriter(str(folder / "logs" / "agreement"))
    for t, share in agreement.items():
        writer.write_scalars(t, {"teacher_agreement_by_timestep": share})
    writer.close()
