"""Stage 4, distill: the labels made into a guide, by training or in closed form."""

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from side_jax.artifacts import AuditError
from side_jax.diffusion.process import Process
from side_jax.distributed import is_primary, once
from side_jax.interop.torchvision import load_resnet, start_from_pretrained
from side_jax.models.resnet import ARCHITECTURES, ResNet, start_at_teacher
from side_jax.scalars import ScalarLog
from side_jax.sharding import stage_key
from side_jax.stage_options import ClassifierOptions
from side_jax.stages.audit import Audit, load_target, train_spec
from side_jax.stages.surrogate import start_spec, surrogate_images, trained_variables
from side_jax.surrogate.classifier import Classifier, load_variables, save_variables
from side_jax.surrogate.distill import (
    AGREEMENT_LEVELS,
    AGREEMENT_SHARE,
    Known,
    agreement_by_noise,
    distill_loss,
    undecided_density,
)
from side_jax.surrogate.exact import ExactGuide, check_labels, make_exact_guide
from side_jax.surrogate.guide import Guide
from side_jax.surrogate.labels import Labels
from side_jax.surrogate.stored import read_labels, write_exact
from side_jax.training import epoch_batches, fit, init_state


def distill_spec(audit: Audit) -> dict[str, Any]:
    """Architecture, guide and training; an exact guide follows from its labels."""
    options = audit.options.classifier
    if options.guide == "exact":
        return {"guide": "exact"}
    spec = {"arch": options.arch, "guide": options.guide, "train": train_spec(options.train)}
    spec |= {"learn": options.learn, "timesteps": options.timesteps}
    return spec | start_spec(audit) | {"seed": audit.options.seed}


def distill(audit: Audit) -> dict[str, Any]:
    """Makes the guide: a student of the labelled images, noised to random t; the teacher; or the exact guide."""
    images, labels = surrogate_images(audit), read_labels(audit.folder("labels"))
    process = load_target(audit.workdir).schedule.process()
    measured, trained = _agreement_images(audit, len(images))
    measured = measured[labels.labels[measured] >= 0]
    levels = (np.arange(AGREEMENT_LEVELS) * len(process.alpha_bar) // AGREEMENT_LEVELS).tolist()
    key = stage_key(audit.options.seed, "agreement")

    def agreement(guide: Guide) -> dict[int, float]:
        log_prob = jax.tree_util.Partial(_log_prob, guide)  # the guide's arrays are arguments of the program
        return agreement_by_noise(log_prob, images[measured], labels.labels[measured], process, levels, key)

    ceiling = make_exact_guide(images[trained], labels.targets[trained], process, audit.options.classifier.block)
    facts: dict[str, Any] = {"guide": audit.options.classifier.guide, "num_classes": labels.num_classes}
    facts["ceiling"] = agreement(ceiling)
    if audit.options.classifier.guide == "exact":
        facts |= _keep_exact(audit, images, labels, process) | {"agreement": facts["ceiling"]}
    else:
        known = _known(audit.options.classifier, ceiling, facts["ceiling"], len(process.alpha_bar))
        guide, found = _network(audit, images[trained], labels, labels.targets[trained], process, known)
        facts |= found | {"agreement": agreement(guide)}
    if is_primary():
        _log_agreement(audit.folder("classifier"), facts["agreement"])
    trained_on = bool(np.isin(measured, trained).any())
    return facts | {"agreement_images": len(measured), "agreement_trained_on": trained_on}


def _known(options: ClassifierOptions, exact: ExactGuide, agreement: dict[int, float], num_timesteps: int) -> Known:
    """What the student is told beforehand."""
    density = undecided_density(agreement, num_timesteps) if options.timesteps == "undecided" else None
    return Known(exact if options.learn == "posterior" else None, None if density is None else jnp.asarray(density))


def _log_prob(guide: Guide, x_t: jax.Array, t: jax.Array) -> jax.Array:
    return guide.log_prob(x_t, t)


def _keep_exact(audit: Audit, images: np.ndarray, labels: Labels, process: Process) -> dict[str, Any]:
    """Writes the labelled set; facts of it."""
    folder, source = audit.folder("classifier"), audit.options.labels.source
    try:
        targets = check_labels(images, labels.targets, "classifier.guide='exact'", labels.num_classes)
    except ValueError as error:
        raise AuditError(f"{error}, or make more synthesize.num_images, or use labels.targets='soft'") from error
    synthetic = source not in ("dataset", "heldout")
    once("exact guide", lambda: write_exact(folder, targets, process, None if synthetic else images))
    return {"synthetic": synthetic, "block": audit.options.classifier.block, "set_images": len(images)}


def _network(
    audit: Audit, images: np.ndarray, labels: Labels, targets: np.ndarray, process: Process, known: Known
) -> tuple[Classifier, dict[str, Any]]:
    """The student, or the teacher in its place; and facts of it."""
    options, folder = audit.options.classifier, audit.folder("classifier")
    time_dependent, imagenet_input = options.guide == "time_dependent", bool(options.pretrained)
    net = ResNet(ARCHITECTURES[options.arch], labels.num_classes, time_dependent, imagenet_input)
    facts: dict[str, Any] = {"arch": options.arch, "imagenet_input": imagenet_input}
    if audit.options.labels.source == "classifier" and not time_dependent:
        guide = Classifier(net, load_variables(audit.folder("labels") / "teacher"))
    else:
        guide, facts["loss"] = _train_guide(audit, net, images, targets, process, known)
    save_variables(folder, guide.variables)
    return guide, facts


def _agreement_images(audit: Audit, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions that measure agreement, and those that train: apart where labels are many to a class."""
    indices = np.arange(count)
    measured = indices[::AGREEMENT_SHARE]
    apart = audit.options.labels.source in ("classifier", "clusters") and len(measured) < count
    return measured, np.setdiff1d(indices, measured) if apart else indices


def _train_guide(
    audit: Audit, net: ResNet, images: np.ndarray, targets: np.ndarray, process: Process, known: Known
) -> tuple[Classifier, float]:
    """The student, from the teacher's weights if there is a teacher of the same classes."""
    train, folder = audit.options.classifier.train, audit.folder("classifier")
    key = stage_key(audit.options.seed, "distill")
    x = jax.ShapeDtypeStruct((1, *images.shape[1:]), jnp.float32)
    variables: Any = net.lazy_init(key, x, jax.ShapeDtypeStruct((1,), jnp.int32))
    pretrained = audit.options.classifier.pretrained
    if audit.options.labels.source == "classifier":
        variables = start_at_teacher(variables, load_variables(audit.folder("labels") / "teacher"))
    elif pretrained:
        start = load_resnet(audit.options.classifier.arch, pretrained)
        variables = start_at_teacher(variables, start_from_pretrained(variables, start))
    batches = epoch_batches({"image": images, "target": targets}, train.batch_size, audit.options.seed)
    loss_fn = distill_loss(net, process, train.flip)
    state, _ = fit(init_state(variables, train), loss_fn, batches, train, key, folder, "student", known)
    return Classifier(net, trained_variables(state, train)), float(state.loss)


def _log_agreement(folder: epath.Path, agreement: dict[int, float]) -> None:
    """One TensorBoard curve: agreement with the teacher (vertical) by timestep t (in place of the step)."""
    with contextlib.closing(ScalarLog(folder / "logs" / "agreement")) as writer:
        for t, share in agreement.items():
            writer.write_scalars(t, {"teacher_agreement_by_timestep": share})
