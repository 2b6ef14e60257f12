"""The eight stages in order: what each depends on, and whether it runs, resumes, is skipped or is refused.

Before a stage computes anything it writes `spec.json`, what its result depends on; when it is complete it writes
`manifest.json`. So an interrupted stage resumes, a complete one is skipped, and one made with other options is refused
before any compute, with the field that differs. What it depends on includes the source files that decide it.
"""

import dataclasses
import datetime
import itertools
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from etils import epath

from side_jax import artifacts, preemption
from side_jax.batch_size import AUTO, device_memory
from side_jax.code_hash import code_hashes
from side_jax.distributed import agree, barrier, is_primary, leave, once
from side_jax.images import ImageSet, load_images
from side_jax.lock import workdir_lock
from side_jax.options import AuditOptions
from side_jax.provenance import provenance, resolved
from side_jax.splitting import Split, near_duplicate_groups, split_images
from side_jax.stage_options import DatasetOptions
from side_jax.stages.audit import Audit, check
from side_jax.stages.detect import detect, detect_request, detect_spec
from side_jax.stages.distill import distill, distill_spec
from side_jax.stages.extract import extract, extract_request, extract_spec
from side_jax.stages.report import report, report_request
from side_jax.stages.steer import steer, steer_request, steer_spec
from side_jax.stages.surrogate import label, label_spec, synthesize, synthesize_spec
from side_jax.stages.target import target, target_request, target_spec

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Stage:
    """One step of the flow.

    Attributes:
      name: as in `--stages`.
      folder: its place in the workdir.
      needs: stages whose artifacts it reads.
      run: does the work; returns facts for the manifest.
      spec: what its result depends on, besides the stages it needs. A change is refused. None: cheap, just made again.
      request: how much of it is wanted. A change makes the stage run on.
      needed: whether this audit has any use for it.
      per_method: one for each method that the audit compares, or one for all.
      alone: the primary process does it, and the others wait; else all do it together.
    """

    name: str
    folder: str
    needs: tuple[str, ...]
    run: Callable[[Audit], dict[str, Any]]
    spec: Callable[[Audit], dict[str, Any]] | None
    request: Callable[[Audit], dict[str, Any]] = lambda _: {}
    needed: Callable[[Audit], bool] = lambda _: True
    per_method: bool = False
    alone: bool = False


STAGES = (
    Stage("target", "target", (), target, target_spec, target_request),
    Stage("synthesize", "synthetic", ("target",), synthesize, synthesize_spec, needed=lambda audit: audit.synthetic),
    Stage("label", "labels", ("synthesize",), label, label_spec, needed=lambda audit: audit.guided, per_method=True),
    Stage(
        "distill",
        "classifier",
        ("target", "synthesize", "label"),
        distill,
        distill_spec,
        needed=lambda audit: audit.guided,
        per_method=True,
    ),
    Stage("extract", "extract", ("target", "distill"), extract, extract_spec, extract_request, per_method=True),
    Stage(
        "detect",
        "detect",
        ("target", "extract"),
        detect,
        detect_spec,
        detect_request,
        needed=lambda audit: audit.options.detect.num_images > 0,
        alone=True,
    ),
    Stage(
        "steer",
        "steer",
        ("target", "extract"),
        steer,
        steer_spec,
        steer_request,
        needed=lambda audit: bool(audit.options.steer.weights),
        alone=True,
    ),
    Stage("report", "report", ("target", "distill", "extract"), report, None, report_request, alone=True),
)
NAMES = tuple(stage.name for stage in STAGES)


def load_split(dataset: DatasetOptions) -> Split:
    """The images a config names, split into train and held-out."""

    def load(path: str) -> ImageSet:
        return load_images(dataset.name, path, dataset.image_size, dataset.channels, dataset.data_dir)

    images = load(dataset.path)
    split = split_images(images, dataset.heldout_fraction, dataset.near_duplicate, dataset.split_seed)
    if dataset.heldout_path:
        unseen = _unseen(images, load(dataset.heldout_path), dataset)
        split = Split(images, unseen, images.skipped + unseen.skipped)
    return split


def _unseen(images: ImageSet, unseen: ImageSet, dataset: DatasetOptions) -> ImageSet:
    """Held-out images that are near-duplicates of training images would calibrate nothing.

    They are refused, except in TensorFlow Datasets, where nobody can remove them (CIFAR-10's test split has hundreds of
    near-duplicates of training images, Barz and Denzler 2020): there they are skipped, and listed.
    """
    groups = near_duplicate_groups(itertools.chain(images.images, unseen.images), dataset.near_duplicate)
    known = np.isin(groups[len(images) :], groups[: len(images)])
    overlap = not set(images.ids).isdisjoint(unseen.ids)
    if known.any() and (dataset.name != "tfds" or overlap or known.all()):
        raise ValueError(
            f"dataset.heldout_path {dataset.heldout_path!r}: {int(known.sum())} of its {len(unseen)} images are"
            f" training images too, or nearly (pixel cosine {dataset.near_duplicate} or more), such as"
            f" {unseen.ids[int(known.argmax())]}; remove them from one of the two"
        )
    dropped = tuple((unseen.ids[i], "held out, but nearly a training image") for i in np.flatnonzero(known))
    return dataclasses.replace(unseen[np.flatnonzero(~known)], skipped=unseen.skipped + dropped)


def prepare(config: Mapping[str, Any], workdir: epath.PathLike) -> Audit:
    """Checks a config against the data and, if it is loaded, the target. Writes nothing.

    Raises:
      ValueError: naming what does not fit, and what to do.
    """
    options = AuditOptions.from_config(config)
    root = epath.Path(workdir)
    artifacts.check_workdir(root)
    audit = Audit(options, root, load_split(options.dataset))
    check(audit)
    return audit


@dataclasses.dataclass(frozen=True)
class Step:
    """A stage of one method, with what is known of it before anything runs."""

    stage: Stage
    audit: Audit
    inputs: "dict[str, Step]"
    spec: dict[str, Any]
    complete: bool

    @property
    def folder(self) -> epath.Path:
        """Its place in the workdir."""
        return self.audit.folder(self.stage.folder)

    @property
    def name(self) -> str:
        """As in the log: the stage, and the method if that is not the main one."""
        return f"{self.stage.name} ({self.audit.branch})" if self.audit.branch else self.stage.name


def plan(audit: Audit, wanted: tuple[str, ...] = NAMES) -> list[Step]:
    """What is to be done, in order, complete steps included. Writes nothing.

    Raises:
      ValueError: for an unknown stage, a missing input, or artifacts made with another config.
    """
    unknown = [name for name in wanted if name not in NAMES]
    if unknown or not wanted:
        raise ValueError(f"stages must be among {', '.join(NAMES)}, got {', '.join(unknown) or 'none'}")
    steps = _steps(audit)
    for step in steps:
        _check_spec(step, audit.workdir, steps)
        missing = [name for name, input_ in step.inputs.items() if not input_.complete and name not in wanted]
        if step.stage.name in wanted and missing:
            raise ValueError(
                f"stage {step.name} needs {', '.join(missing)}, not complete in {audit.workdir}; run that first"
                " (without --stages all run, in order)"
            )
    return [step for step in steps if step.stage.name in wanted]


def beside(audit: Audit) -> Audit:
    """The audit as it is if its workdir is its own, or new; else in WORKDIR-HASH beside it. Writes nothing.

    The hash is of all that results depend on, code and weights included: the same audit comes back to the same folder,
    and more λ or more images extend a sweep there as anywhere.
    """
    steps = _steps(audit)
    if not any(_differences(step) for step in steps):
        return audit
    return dataclasses.replace(audit, workdir=_sibling(audit.workdir, steps))


def _sibling(workdir: epath.Path, steps: list[Step]) -> epath.Path:
    return workdir.parent / f"{workdir.name}-{artifacts.fingerprint([(step.name, step.spec) for step in steps])}"


def _steps(audit: Audit) -> list[Step]:
    """Every stage of every method that this audit has use for, in order."""
    done: dict[tuple[str, str], Step] = {}  # by stage and branch
    for stage in STAGES:
        for part in audit.methods().values() if stage.per_method else [audit]:
            if stage.needed(part):
                # A branch reads its own artifacts where it has them, and else those that all share.
                found = {name: done.get((name, part.branch), done.get((name, ""))) for name in stage.needs}
                inputs = {name: step for name, step in found.items() if step is not None}
                done[stage.name, part.branch] = _step(stage, part, inputs)
    return list(done.values())


def _step(stage: Stage, audit: Audit, inputs: dict[str, Step]) -> Step:
    spec = {}
    if stage.spec:
        prints = {name: artifacts.fingerprint(step.spec) for name, step in inputs.items()}
        spec = artifacts.plain({**stage.spec(audit), "inputs": prints, "code": code_hashes(stage.name)})
    return Step(stage, audit, inputs, spec, _complete(audit.folder(stage.folder), audit, stage))


def _differences(step: Step) -> list[str]:
    """Fields in which what is there was made otherwise, those of the config and of weights first."""
    stored = step.folder / artifacts.SPEC
    found = artifacts.differences(artifacts.read_json(stored), step.spec) if stored.exists() else []
    return sorted(found, key=lambda field: field.startswith(("code", "inputs")))


def _check_spec(step: Step, workdir: epath.Path, steps: list[Step]) -> None:
    differing = _differences(step)
    if differing:
        more = f"; and {len(differing) - 3} more" if len(differing) > 3 else ""
        stored = artifacts.fingerprint(artifacts.read_json(step.folder / artifacts.SPEC))
        raise ValueError(
            f"{step.folder} was made with other code, config or weights ({'; '.join(differing[:3])}{more}; spec"
            f" {stored} -> {artifacts.fingerprint(step.spec)}); add --force_new to work in"
            f" {_sibling(workdir, steps)}, or remove {step.folder} and the folders of the later stages to make stage"
            f" {step.name} again"
        )


def _complete(folder: epath.Path, audit: Audit, stage: Stage) -> bool:
    if not (folder / artifacts.MANIFEST).exists():
        return False
    manifest = artifacts.read_json(folder / artifacts.MANIFEST)
    return manifest["request"] == artifacts.plain(stage.request(audit))


def run(config: Mapping[str, Any], workdir: epath.PathLike, stages: tuple[str, ...] = NAMES) -> epath.Path:
    """Runs an audit, or resumes it: the same call again does what is left.

    Args:
      config: a ConfigDict or mapping with the fields of configs/default.py.
      workdir: where artifacts go; its parent must exist.
      stages: names of the stages to run, in any order; they run in the flow's order.

    Returns:
      The workdir; with the report stage, it holds report.html.

    Raises:
      ValueError: for bad input, before any compute and before anything is written.
    """
    return execute(prepare(config, workdir), tuple(stages), config)


def execute(audit: Audit, wanted: tuple[str, ...], config: Mapping[str, Any]) -> epath.Path:
    """Runs what `plan` says, of a prepared audit. Called by every process; the primary writes what is written once.

    Raises:
      WorkdirLocked: if another run is at it.
    """
    _agreed(audit, wanted, config)  # what is refused leaves no workdir behind
    with workdir_lock(audit.workdir):
        return _execute(audit, wanted, config)


def _agreed(audit: Audit, wanted: tuple[str, ...], config: Mapping[str, Any]) -> list[Step]:
    """The plan, which comes from what is in the workdir, once all processes are known to have the same."""
    planned = plan(audit, wanted)
    found = [(step.name, step.spec, step.complete) for step in planned]
    agree("config, data or workdir", artifacts.fingerprint([resolved(config), str(audit.workdir), found]))
    return planned


def _execute(audit: Audit, wanted: tuple[str, ...], config: Mapping[str, Any]) -> epath.Path:
    planned = _agreed(audit, wanted, config)  # again: another run may have ended just before
    if AUTO in (audit.options.synthesize.batch_size, audit.options.extract.batch_size):
        device_memory()  # the least of all processes, which all have to be asked for
    once("config", lambda: artifacts.write_json(audit.workdir / "config.json", provenance(config)))
    try:
        for step in planned:
            if step.complete:
                _log.info("%s: complete, skipped", step.name)
            else:
                _run(step)
    except preemption.Preempted:
        leave()
        raise
    return audit.workdir


def _run(step: Step) -> None:
    once(f"{step.name} starts", lambda: artifacts.write_json(step.folder / artifacts.SPEC, step.spec))
    _log.info("%s: running", step.name)
    started = time.perf_counter()
    facts = step.stage.run(step.audit) if is_primary() or not step.stage.alone else {}
    barrier(f"{step.name} ends")  # complete is what all processes have done their share of
    manifest = {
        "stage": step.stage.name,
        "fingerprint": artifacts.fingerprint(step.spec),
        "request": step.stage.request(step.audit),
        "facts": facts,
        "seconds": round(time.perf_counter() - started, 1),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    once(f"{step.name} is complete", lambda: artifacts.write_json(step.folder / artifacts.MANIFEST, manifest))
    _log.info("%s: done in %.0f s", step.name, manifest["seconds"])
