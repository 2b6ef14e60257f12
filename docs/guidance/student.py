"""Part: what limits a student. One change at a time, against the exact guide of the same labelled images."""

import dataclasses
import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from docs.guidance import setting
from docs.guidance.regimes import config_of
from docs.guidance.setting import Setting
from docs.theory.plotting import BLUE, GRAY, GREEN, ORANGE, RED, panels, save
from side_jax.audit.options import AuditOptions
from side_jax.diffusion.guide import Guide
from side_jax.diffusion.sample import to_float
from side_jax.runtime.sharding import index_keys, stage_key
from side_jax.runtime.training import Loss, epoch_batches, fit, init_state, trained_variables
from side_jax.surrogate.classifier import Classifier
from side_jax.surrogate.distill import AGREEMENT_SHARE, Known, agreement_by_noise, distill_loss, undecided_density
from side_jax.surrogate.exact import ExactGuide, make_exact_guide
from side_jax.surrogate.labels import classifier_labels
from side_jax.surrogate.resnet import ARCHITECTURES, ResNet, ResNetArch, start_at_teacher

_FEW, _MANY, _MEASURED = 1_024, 2_560, 512  # synthetic images; those measured on come after the many
_LEVELS = tuple(range(0, 1000, 100))
_GRADIENT_LEVELS = (100, 200, 300, 400, 500, 600)
_HALF = dataclasses.replace(ARCHITECTURES["resnet10_small"], width=16)
_COLORS = (GRAY, BLUE, GREEN, ORANGE, RED, "#762a83", "#9970ab", "#543005")


@dataclasses.dataclass(frozen=True)
class Student:
    """What differs from the paper's student with the demo's 500 steps.

    Attributes:
      name: in the table.
      learn, timesteps: as `classifier.learn`, `classifier.timesteps`.
      num_steps: of training.
      images: synthetic ones; a tenth of the few is left out, as in an audit.
      arch: of the network.
      from_teacher: its first weights are the teacher's.
    """

    name: str
    learn: str = "labels"
    timesteps: str = "uniform"
    num_steps: int = 500
    images: int = _FEW
    arch: ResNetArch = ARCHITECTURES["resnet10_small"]
    from_teacher: bool = True


STUDENTS = (
    Student("the paper's: p(y|x), t uniform, 500 steps, 921 images"),
    Student("1,500 steps", num_steps=1_500),
    Student("posterior", learn="posterior"),
    Student("undecided t", timesteps="undecided"),
    Student("2,560 images", images=_MANY),
    Student("not from the teacher's weights", from_teacher=False),
    Student("that, of half the width", from_teacher=False, arch=_HALF),
    Student("posterior, 1,500 steps", learn="posterior", num_steps=1_500),
)


def make(figures: Path) -> dict[str, Any]:
    """Trains every student, measures it on images that none has seen, draws, and returns the numbers."""
    known = setting.read(config_of("few", 960), _MANY + _MEASURED)
    fresh = known.synthetic[_MANY:]
    labels = classifier_labels(known.teacher.net, known.teacher.variables, fresh).labels
    measure = functools.partial(_measure, known, fresh, labels)
    exact = {images: _exact(known, images) for images in (_FEW, _MANY)}
    rows = [{"name": f"exact guide, {len(_rows(n)):,} images"} | measure(one, exact[_FEW]) for n, one in exact.items()]
    for student in STUDENTS:
        guide, seconds = _train(known, student, exact[student.images])
        rows.append({"name": student.name, "seconds": seconds} | measure(guide, exact[_FEW]))
        print(rows[-1], flush=True)
    _draw(figures / "guidance_student.svg", rows)
    return {"measured_images": _MEASURED, "rows": rows}


def _rows(images: int) -> np.ndarray:
    """Of so many synthetic images those that train: as in an audit, all but a tenth of the few."""
    few = np.setdiff1d(np.arange(_FEW), np.arange(0, _FEW, AGREEMENT_SHARE))
    return few if images == _FEW else np.arange(images)


def _targets(known: Setting, images: int) -> tuple[np.ndarray, np.ndarray]:
    chosen = known.synthetic[_rows(images)]
    return chosen, classifier_labels(known.teacher.net, known.teacher.variables, chosen).targets


def _exact(known: Setting, images: int) -> ExactGuide:
    return make_exact_guide(*_targets(known, images), known.target.schedule.process())


def _train(known: Setting, student: Student, exact: ExactGuide) -> tuple[Classifier, float]:
    """As the distill stage does it."""
    options = AuditOptions.from_config(config_of("few", 960))
    train = dataclasses.replace(options.classifier.train, num_steps=student.num_steps)
    process, key = known.target.schedule.process(), stage_key(options.seed, "distill")
    net = ResNet(student.arch, exact.num_classes, time_conditioned=True)
    images, targets = _targets(known, student.images)
    x = jax.ShapeDtypeStruct((1, *images.shape[1:]), jnp.float32)
    variables: Any = net.lazy_init(key, x, jax.ShapeDtypeStruct((1,), jnp.int32))
    if student.from_teacher:
        variables = start_at_teacher(variables, known.teacher.variables)
    density = None
    if student.timesteps == "undecided":
        density = jnp.asarray(undecided_density(_agreement(known, exact), len(process.alpha_bar)))
    frozen = Known(process, exact if student.learn == "posterior" else None, density)
    batches = epoch_batches({"image": images, "target": targets}, train.batch_size, options.seed)
    folder = epath.Path(setting.WORKDIRS / "students" / re.sub("[^a-z0-9]+", "-", student.name.lower()))
    loss = Loss(distill_loss(net, train.flip), key, frozen)
    state, seconds = fit(init_state(variables, train), loss, batches, train, folder, student.name)
    return Classifier(net, trained_variables(state, train)), seconds


def _agreement(known: Setting, exact: ExactGuide) -> dict[int, float]:
    """What an audit bases `undecided` on: images of the set's own tenth that it was not made from."""
    left = known.synthetic[:_FEW:AGREEMENT_SHARE]
    labels = classifier_labels(known.teacher.net, known.teacher.variables, left).labels
    process = known.target.schedule.process()
    return agreement_by_noise(exact, left, labels, process, _LEVELS, stage_key(0, "agreement"))


def _measure(known: Setting, images: np.ndarray, labels: np.ndarray, guide: Guide, exact: ExactGuide) -> dict[str, Any]:
    """Agreement with the teacher by t; and how much of the exact guide's gradient a guide's has, and how long it is."""
    process, key = known.target.schedule.process(), stage_key(0, "student")
    agreement = agreement_by_noise(guide, images, labels, process, _LEVELS, key)
    cosine, length = {}, {}
    noise = jax.vmap(lambda key: jax.random.normal(key, images.shape[1:]))(index_keys(key, np.arange(len(images))))
    gradients: Callable[..., jax.Array] = jax.jit(lambda one, x, t, labels: one.gradient(x, t, labels))
    for t in _GRADIENT_LEVELS:
        times = jnp.full(len(images), t)
        x_t = process.add_noise(to_float(jnp.asarray(images)), noise, times)
        ours, best = (np.asarray(gradients(one, x_t, times, labels)).reshape(len(images), -1) for one in (guide, exact))
        norms = np.linalg.norm(ours, axis=1), np.linalg.norm(best, axis=1)
        pushed = norms[1] > np.median(norms[1]) / 10  # a decided exact guide pushes nowhere, and has no direction
        dots = (ours * best).sum(1)[pushed]
        cosine[t] = float(np.mean(dots / np.maximum(norms[0] * norms[1], 1e-12)[pushed]))
        length[t] = float(np.sqrt(np.square(norms[0]).mean() / np.square(norms[1]).mean()))
    return {"agreement": agreement, "cosine": cosine, "length": length}


def _draw(path: Path, rows: list[dict[str, Any]]) -> None:
    """Agreement and cosine by t."""
    figure, (agreement, cosine) = panels(2, 2, 5.2)
    for color, row in zip(("black", "#555555", *_COLORS), rows, strict=True):
        style = {"color": color, "linestyle": "--" if row["name"].startswith("exact") else "-", "linewidth": 1.2}
        agreement.plot(_LEVELS, [100 * row["agreement"][t] for t in _LEVELS], label=row["name"], **style)
        cosine.plot(_GRADIENT_LEVELS, [row["cosine"][t] for t in _GRADIENT_LEVELS], **style)
    agreement.set(xlabel="timestep t", ylabel="agreement with the teacher, %", ylim=(0, 100))
    cosine.set(xlabel="timestep t", ylabel="cosine with the exact guide's gradient", ylim=(None, 1.02))
    agreement.legend(fontsize=6)
    save(figure, path)
