"""Stage 5, distill: makes a guide from the labels, by training or in closed form."""

import contextlib
import dataclasses
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import PyTree

from side_jax.audit.cost import programs
from side_jax.audit.cost.jobs import (
    Job,
    Setting,
    abstract_images,
    exact_guide_of,
    guide_net,
    guide_of,
    set_images,
    soft,
)
from side_jax.audit.cost.programs import Lowered, abstract
from side_jax.audit.stage import Audit, Stage
from side_jax.audit.stages.label import labelled_photos, start_spec, surrogate_images
from side_jax.diffusion.guide import Guide
from side_jax.diffusion.process import Process
from side_jax.evidence.weak_guide import thin_classes, weaknesses
from side_jax.runtime.declare import CONTENT, at_least, decided, one_of, option
from side_jax.runtime.distributed import is_primary, once
from side_jax.runtime.files import AuditError, Json
from side_jax.runtime.progress import ScalarLog
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
from side_jax.surrogate.classifier import Classifier, load_variables, save_variables
from side_jax.surrogate.distill import (
    AGREEMENT_BATCH,
    AGREEMENT_LEVELS,
    AGREEMENT_SHARE,
    Known,
    agreement_by_noise,
    distill_loss,
    undecided_density,
)
from side_jax.surrogate.exact import ExactGuide, check_labels, make_exact_guide
from side_jax.surrogate.labels import Labels
from side_jax.surrogate.resnet import ARCHITECTURES, ResNet, start_at_teacher
from side_jax.surrogate.stored import read_labels, write_exact
from side_jax.surrogate.torchvision import load_resnet, start_from_pretrained

if TYPE_CHECKING:
    from side_jax.audit.options import AuditOptions

_log = logging.getLogger(__name__)


def _networks(options: "ClassifierOptions") -> bool:
    return options.guide != "exact"


def _student(options: "ClassifierOptions") -> bool:
    return options.guide == "time_dependent"


@dataclasses.dataclass(frozen=True)
class ClassifierOptions:
    """The guide."""

    arch: str = option(
        "resnet34",
        "of teacher and student; resnet18, resnet18_small, resnet10_small, resnet10_tiny",
        one_of(*ARCHITECTURES),
        used=_networks,
    )
    guide: str = option(
        "time_dependent",
        "time_dependent: TDKD, Eq. (11) | exact: the minimiser of Eq. (11) in closed form, without training |"
        ' time_independent: no noise, "TI" | none: λ = 0 only',
        one_of("exact", "time_dependent", "time_independent", "none"),
    )
    learn: str = option(
        "labels",
        "time_dependent, what it learns at x_t: labels | posterior, the exact guide's p^t(y|x_t): the same optimum",
        one_of("labels", "posterior"),
        used=_student,
    )
    timesteps: str = option(
        "uniform",
        "time_dependent, at which t: uniform | undecided: half of them where the exact guide is",
        one_of("uniform", "undecided"),
        used=_student,
    )
    block: int = option(8_192, "exact: images of its set at once; less takes less memory", at_least(1), decides=False)
    pretrained: str = option(
        "",
        "start of the teacher, or of a guide without one: torchvision's ImageNet weights, .pth or .safetensors",
        decides=CONTENT,
    )
    train: TrainOptions = option(
        TrainOptions(num_steps=50_000, learning_rate=1e-4, warmup_steps=500, flip=True),
        "of the student",
        used=_networks,
    )

    def check(self, path: str) -> None:
        """Refuses mirrored images with the exact posterior, which does not know them."""
        if self.train.flip and self.guide == "time_dependent" and self.learn == "posterior":
            raise ValueError(f"{path}.learn='posterior' does not know mirrored images; set classifier.train.flip=False")


class DistillStage(Stage):
    """The guide: a student of the labelled images, noised to random t; the teacher; or the exact guide."""

    name = "distill"
    folder = "classifier"
    needs = ("target", "synthesize", "label")
    for_guide = True
    per_method = True

    def needed(self, options: "AuditOptions") -> bool:
        """True if any method has a guide."""
        return options.guided

    def spec(self, audit: Audit) -> Json:
        """The classifier's options and, for a network, its start and seed. An exact guide follows from its labels."""
        options = audit.options
        spec: Json = {"classifier": decided(options.classifier)}
        return spec if options.classifier.guide == "exact" else spec | start_spec(audit) | {"seed": options.seed}

    def check(self, audit: Audit) -> None:
        """Pretrained weights must fit, and an exact guide over photos needs photos of every class."""
        options = audit.options
        if options.classifier.pretrained:
            load_resnet(options.classifier.arch, options.classifier.pretrained)
        for row in options.rows().values():
            if row.classifier.guide == "exact":
                _check_exact(row, audit)

    def run(self, audit: Audit) -> Json:
        """Writes the guide, measures its agreement with the labels by noise level, and warns if it is at chance."""
        images, labels = surrogate_images(audit), read_labels(audit.folder("labels"))
        process = audit.target().schedule.process()
        measured, trained = _agreement_images(audit, len(images))
        measured = measured[labels.labels[measured] >= 0]
        levels = (np.arange(AGREEMENT_LEVELS) * len(process.alpha_bar) // AGREEMENT_LEVELS).tolist()
        key = stage_key(audit.options.seed, "agreement")

        def agreement(guide: Guide) -> dict[int, float]:
            return agreement_by_noise(guide, images[measured], labels.labels[measured], process, levels, key)

        ceiling = make_exact_guide(images[trained], labels.targets[trained], process, audit.options.classifier.block)
        facts: Json = {"guide": audit.options.classifier.guide, "num_classes": labels.num_classes}
        facts["ceiling"] = agreement(ceiling)
        if audit.options.classifier.guide == "exact":
            facts |= _keep_exact(audit, images, labels, process) | {"agreement": facts["ceiling"]}
        else:
            known = _known(audit.options.classifier, ceiling, facts["ceiling"], process)
            guide, found = _network(audit, images[trained], labels, labels.targets[trained], known)
            facts |= found | {"agreement": agreement(guide)}
        trained_on = bool(np.isin(measured, trained).any())
        facts |= {"agreement_images": len(measured), "agreement_trained_on": trained_on}
        facts["thin_classes"] = thin_classes(labels.labels, labels.num_classes)
        if is_primary():
            _log_agreement(audit.folder("classifier"), facts["agreement"])
            for sentence in weaknesses(facts, audit.options.labels.source):
                _log.warning("distill: the guide may not guide: %s", sentence)
        return facts

    def progress(self, audit: Audit) -> Iterator[str]:
        """Training steps of the student."""
        guide, source = audit.options.classifier.guide, audit.options.labels.source
        if guide != "exact" and (source, guide) != ("classifier", "time_independent"):  # the teacher itself guides
            yield steps_done(audit.folder(self.folder), audit.options.classifier.train)

    def jobs(self, setting: Setting, row: "AuditOptions", method: str) -> Iterator[Job]:
        """Training of the guide, and the agreement of the guide and of the exact guide."""
        stage = self.name + method
        exact, options = exact_guide_of(setting, row), row.classifier
        # A measurement, unless the student's timesteps are drawn by it.
        ceiling = _agreement_job(setting, row, stage, exact)
        yield dataclasses.replace(ceiling, limits=True, measurement=options.timesteps == "uniform")
        if options.guide == "exact":
            return
        if not (row.labels.source == "classifier" and options.guide == "time_independent"):
            yield _training_job(
                setting, row, stage, Known(programs.abstract_process(), exact if options.learn == "posterior" else None)
            )
        yield _agreement_job(setting, row, stage, guide_of(setting, row))


def _known(options: ClassifierOptions, exact: ExactGuide, agreement: dict[int, float], process: Process) -> Known:
    """Process, exact posterior and timestep density for the student's loss."""
    undecided = options.timesteps == "undecided"
    density = jnp.asarray(undecided_density(agreement, len(process.alpha_bar))) if undecided else None
    return Known(process, exact if options.learn == "posterior" else None, density)


def _keep_exact(audit: Audit, images: np.ndarray, labels: Labels, process: Process) -> Json:
    """Writes the labelled set, and returns facts of it."""
    folder, source = audit.folder("classifier"), audit.options.labels.source
    try:
        targets = check_labels(images, labels.targets, "classifier.guide='exact'", labels.num_classes)
    except ValueError as error:
        raise AuditError(f"{error}, or make more synthesize.num_images, or use labels.targets='soft'") from error
    synthetic = source not in ("dataset", "heldout")
    once("exact guide", lambda: write_exact(folder, targets, process, None if synthetic else images))
    return {"synthetic": synthetic, "block": audit.options.classifier.block, "set_images": len(images)}


def _network(
    audit: Audit, images: np.ndarray, labels: Labels, targets: np.ndarray, known: Known
) -> tuple[Classifier, Json]:
    """The student, or the teacher in its place, with facts of it."""
    options, folder = audit.options.classifier, audit.folder("classifier")
    time_dependent, imagenet_input = options.guide == "time_dependent", bool(options.pretrained)
    net = ResNet(ARCHITECTURES[options.arch], labels.num_classes, time_dependent, imagenet_input)
    facts: Json = {"arch": options.arch, "imagenet_input": imagenet_input}
    if audit.options.labels.source == "classifier" and not time_dependent:
        guide = Classifier(net, load_variables(audit.folder("labels") / "teacher"))
    else:
        guide, facts["loss"] = _train_guide(audit, net, images, targets, known)
    save_variables(folder, guide.variables)
    return guide, facts


def _agreement_images(audit: Audit, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions that measure agreement, and positions that train. They are disjoint if classes have many images."""
    indices = np.arange(count)
    measured = indices[::AGREEMENT_SHARE]
    apart = audit.options.labels.source in ("classifier", "clusters") and len(measured) < count
    return measured, np.setdiff1d(indices, measured) if apart else indices


def _train_guide(
    audit: Audit, net: ResNet, images: np.ndarray, targets: np.ndarray, known: Known
) -> tuple[Classifier, float]:
    """Trains the student, from the teacher's weights if the teacher has the same classes."""
    train, folder = audit.options.classifier.train, audit.folder("classifier")
    key = stage_key(audit.options.seed, "distill")
    x = jax.ShapeDtypeStruct((1, *images.shape[1:]), jnp.float32)
    variables: PyTree = init_variables(net, key, (x, jax.ShapeDtypeStruct((1,), jnp.int32)))
    pretrained = audit.options.classifier.pretrained
    if audit.options.labels.source == "classifier":
        variables = start_at_teacher(variables, load_variables(audit.folder("labels") / "teacher"))
    elif pretrained:
        start = load_resnet(audit.options.classifier.arch, pretrained)
        variables = start_at_teacher(variables, start_from_pretrained(variables, start))
    batches = epoch_batches({"image": images, "target": targets}, train.batch_size, audit.options.seed)
    loss = Loss(distill_loss(net, train.flip), key, known)
    state, _ = fit(init_state(variables, train), loss, batches, train, folder, "student")
    return Classifier(net, trained_variables(state, train)), float(state.loss)


def _log_agreement(folder: epath.Path, agreement: dict[int, float]) -> None:
    """Writes one TensorBoard curve: agreement with the labels over the timestep t, which takes the step's axis."""
    with contextlib.closing(ScalarLog(folder / "logs" / "agreement")) as writer:
        for t, share in agreement.items():
            writer.write_scalars(t, {"teacher_agreement_by_timestep": share})


def _check_exact(row: "AuditOptions", audit: Audit) -> None:
    """An exact guide over photos needs a photo of every class, held-out ones for the control."""
    photos = labelled_photos(row, audit)
    if photos is None:
        return
    source = row.labels.source
    name = f"classifier.guide='exact' with labels.source={source!r}"
    if source == "heldout" and not len(audit.split.heldout):
        raise ValueError(
            f"{name}, the control, needs held-out images, and there are none; give dataset.heldout_path or"
            " dataset.heldout_fraction, or leave exact_heldout out of methods"
        )
    if not len(photos):
        raise ValueError(
            f"{name} needs labels of its photos, in class folders; use labels.source='clusters' without them"
        )
    count = int(audit.split.train.labels.max(initial=-1)) + 1
    present = np.bincount(photos.labels, minlength=count) > 0
    if not present.all() or len(present) > count:
        absent = int((~present).argmax()) if not present.all() else count
        where = "training photo" if present.all() or source == "dataset" else "held-out photo"
        raise ValueError(
            f"{name}: class {absent} of {len(present)} has no {where}; add one, or leave that class out of the data"
        )


def _training_job(setting: Setting, row: "AuditOptions", stage: str, known: Known) -> Job:
    net, train, shape = guide_net(row, setting.num_classes), row.classifier.train, setting.shape
    probabilities = soft(row)

    def lower(size: int) -> Lowered:
        target = abstract((size, net.num_classes)) if probabilities else abstract((size,), jnp.int32)
        return programs.training_step(
            programs.resnet_variables(net, shape),
            distill_loss(net, train.flip),
            train,
            {"image": abstract_images(shape, size), "target": target},
            known,
        )

    images, key = train.num_steps * train.batch_size, f"student {net} {probabilities}"
    key += programs.name_of(known.posterior) if known.posterior else ""
    return Job(stage, f"train, {train.num_steps:,} steps", images, key, lower, train.batch_size)


def _agreement_job(setting: Setting, row: "AuditOptions", stage: str, guide: Guide) -> Job:
    """Forward passes of a guide on one of `AGREEMENT_SHARE` labelled images."""
    measured = -(-set_images(setting, row) // AGREEMENT_SHARE)
    of = "of the exact guide " if isinstance(guide, ExactGuide) else ""
    what, key = f"agreement {of}at {AGREEMENT_LEVELS} noise levels", f"agreement {programs.name_of(guide)}"
    lower = lambda size: programs.log_prob(guide, setting.shape, size)  # noqa: E731
    return Job(stage, what, measured, key, lower, AGREEMENT_BATCH, AGREEMENT_LEVELS, limits=False, measurement=True)
