"""Runs the stages in order, and decides for each whether it runs, resumes, is skipped or is refused.

Before a stage computes anything it writes `spec.json`: everything its result depends on, the stage's version and the
minor versions of jax and flax included. When it is complete it writes `manifest.json`. So an interrupted stage
resumes and a complete one is skipped. A stage that was made with other options is refused before any compute, and the
message names the field that differs.
"""

import dataclasses
import datetime
import logging
import time

from etils import epath

from side_jax.audit.dataset import keep, load_split
from side_jax.audit.lock import workdir_lock
from side_jax.audit.options import AuditOptions, Config
from side_jax.audit.provenance import left_out, provenance, software
from side_jax.audit.samples import counted, load_samples
from side_jax.audit.stage import Audit, Stage
from side_jax.audit.stages import STAGES
from side_jax.runtime import files, preemption
from side_jax.runtime.batch_size import AUTO, device_memory
from side_jax.runtime.distributed import agree, barrier, is_primary, leave, once
from side_jax.runtime.files import Json
from side_jax.targets.target import Target

_log = logging.getLogger(__name__)


def stage_names() -> tuple[str, ...]:
    """Names of all stages, in order."""
    return tuple(stage.name for stage in STAGES)


def prepare(config: Config, workdir: epath.PathLike) -> Audit:
    """Checks a config against the data and, if it is loaded, the target. Writes nothing into the workdir.

    Raises:
      ValueError: naming what does not fit, and what to do.
    """
    options = AuditOptions.from_config(config)
    root = epath.Path(workdir)
    files.check_workdir(root)
    _check_apart(options, root)
    split = load_split(options.dataset, root)
    samples = load_samples(options, split)
    audit = Audit(counted(options, samples), root, split, samples=samples)
    check(audit)
    return audit


def _check_apart(options: AuditOptions, root: epath.Path) -> None:
    """Refuses a workdir that is the model's folder, or lies among the photos: its pictures would be read as photos."""
    target, dataset = options.target, options.dataset
    paths = {"dataset.path": dataset.path, "dataset.heldout_path": dataset.heldout_path}
    paths = paths if dataset.name == "image_folder" else {}
    if target.source == "load":
        paths["target.path"] = target.path
    paths |= {f"samples.paths {name!r}": path for name, path in options.samples.paths}
    workdir = root.absolute().resolve() if files.is_local(root) else root
    for field, path in paths.items():
        folder = epath.Path(path).resolve() if path and files.is_local(path) else None
        if folder == workdir or (folder in workdir.parents and field != "target.path"):
            raise ValueError(f"workdir {str(root)!r} is or lies in {field} {path!r}; choose a folder outside")


def check(audit: Audit) -> None:
    """Raises `ValueError` for options that do not fit the target, the images or a file that they name."""
    if not audit.options.modelless:
        check_model(audit.options, audit.model())
    for stage in STAGES:
        if stage.taken(audit.options):
            stage.check(audit)


def check_model(options: AuditOptions, target: Target) -> None:
    """Raises `ValueError`, naming the field, for what does not fit the target's architecture."""
    for stage in STAGES:
        if stage.taken(options):
            stage.check_model(options, target)


class Refused(ValueError):
    """The workdir cannot run: an unknown stage, a missing input, another config, or processes that differ."""


@dataclasses.dataclass(frozen=True)
class Step:
    """A stage of one method, and its state before anything runs."""

    stage: Stage
    audit: Audit
    inputs: "dict[str, Step]"
    spec: Json
    complete: bool

    @property
    def idle(self) -> bool:
        """True if nothing that is asked for uses its result: `Stage.idle`."""
        return self.stage.idle(self.audit.options)

    @property
    def folder(self) -> epath.Path:
        """The stage's folder in the workdir."""
        return self.audit.folder(self.stage.folder)

    @property
    def name(self) -> str:
        """The stage's name in the log, with the method if that is not the main one."""
        return f"{self.stage.name} ({self.audit.branch})" if self.audit.branch else self.stage.name


def plan(audit: Audit, wanted: tuple[str, ...] | None = None) -> list[Step]:
    """The wanted steps in order, complete ones included. Writes nothing.

    Raises:
      Refused: for an unknown stage, a missing input, or artifacts made with another config.
    """
    names = stage_names()
    wanted = names if wanted is None else wanted
    unknown = [name for name in wanted if name not in names]
    if unknown or not wanted:
        raise Refused(f"stages must be among {', '.join(names)}, got {', '.join(unknown) or 'none'}")
    steps = _steps(audit)
    for step in steps:
        _check_spec(step, audit.workdir, steps)
        inputs = [(name, other) for name, other in step.inputs.items() if not other.complete and not other.idle]
        missing = [name for name, _ in inputs if name not in wanted]
        if step.stage.name in wanted and missing:
            raise Refused(
                f"stage {step.name} needs {', '.join(missing)}, not complete in {audit.workdir}; run that first"
                " (without --stages all run, in order)"
            )
    return [step for step in steps if step.stage.name in wanted and not step.idle]


def beside(audit: Audit) -> Audit:
    """The audit, moved to the folder WORKDIR-HASH if its workdir belongs to another audit. Writes nothing.

    The hash covers everything that results depend on, weights and versions included. So the same audit returns to the
    same folder, and more λ or more images extend its sweep there.
    """
    steps = _steps(audit)
    if not any(_refused(step) for step in steps):
        return audit
    return dataclasses.replace(audit, workdir=_sibling(audit.workdir, steps))


def _sibling(workdir: epath.Path, steps: list[Step]) -> epath.Path:
    specs = [(step.name, {} if step.stage.remade else step.spec, step.stage.lacks(step.audit)) for step in steps]
    return workdir.parent / f"{workdir.name}-{files.fingerprint(specs)}"


def _steps(audit: Audit) -> list[Step]:
    """Every needed stage of every method, in order."""
    done: dict[tuple[str, str], Step] = {}  # by stage and branch
    for stage in STAGES:
        for part in audit.methods().values() if stage.per_method else [audit]:
            if stage.taken(part.options):
                # A method reads its own artifacts if it has them, else the shared ones.
                found = {name: done.get((name, part.branch), done.get((name, ""))) for name in stage.needs}
                inputs = {name: step for name, step in found.items() if step is not None}
                step = _step(stage, part, inputs)
                if stage.remade:
                    current = not _changed(step) and all(earlier.complete or earlier.idle for earlier in done.values())
                    step = dataclasses.replace(step, complete=step.complete and current)
                done[stage.name, part.branch] = step
    return list(done.values())


def _step(stage: Stage, audit: Audit, inputs: dict[str, Step]) -> Step:
    prints = {name: files.fingerprint(step.spec) for name, step in inputs.items()}
    versions = {"version": stage.version, "software": software()}
    spec = files.plain({**stage.spec(audit), "inputs": prints, **versions})
    return Step(stage, audit, inputs, spec, stage.complete(audit) is not None)


def _changed(step: Step) -> list[str]:
    """Fields in which the stored spec differs from the wanted one: config and weights first."""
    stored = step.folder / files.SPEC
    found = files.differences(files.read_json(stored), step.spec) if stored.exists() else []
    return sorted(found, key=lambda field: field.startswith(("version", "software", "inputs")))


def changed_fields(audit: Audit, branch: str, stage: str) -> list[str]:
    """Fields in which a stage of one branch, or one that it is made from, was made otherwise than it would be now."""

    def flow(step: Step) -> list[Step]:
        return [one for other in step.inputs.values() for one in flow(other)] + [step]

    last = next(step for step in _steps(audit) if step.stage.name == stage and step.audit.branch == branch)
    return list(dict.fromkeys(field for step in flow(last) for field in _changed(step)))


def _refused(step: Step) -> list[str]:
    """Fields for which the stage is refused: a stage that is `remade` never is."""
    return [] if step.stage.remade else _changed(step) + step.stage.lacks(step.audit)


def _check_spec(step: Step, workdir: epath.Path, steps: list[Step]) -> None:
    differing = _refused(step)
    if differing:
        more = f"; and {len(differing) - 3} more" if len(differing) > 3 else ""
        stored, wanted = (files.fingerprint(spec) for spec in (files.read_json(step.folder / files.SPEC), step.spec))
        specs = f"; spec {stored} -> {wanted}" if stored != wanted else ""
        raise Refused(
            f"{step.folder} was made with another config, weights or version ({'; '.join(differing[:3])}{more}{specs});"
            f" add --force_new to work in"
            f" {_sibling(workdir, steps)}, or remove {step.folder} and the folders of the later stages to make stage"
            f" {step.name} again"
        )


def run(config: Config, workdir: epath.PathLike, stages: tuple[str, ...] | None = None) -> epath.Path:
    """Runs an audit, or resumes it: the same call again does the rest.

    Args:
      config: a ConfigDict or mapping with any of the fields of configs/default.py. A missing field has its default.
      workdir: where artifacts go; its parent must exist, or lie below the current folder.
      stages: names of the stages to run, in any order; they run in the flow's order.

    Returns:
      The workdir; with the report stage, it holds report.html.

    Raises:
      ValueError: for bad input, before any compute and before anything is written.

    Example:
      >>> import tempfile, side_jax
      >>> from configs import orl
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     workdir = side_jax.run(orl.get_config(), folder + "/orl", stages=("target",))
      ...     sorted(path.name for path in workdir.iterdir())
      ['config.json', 'photos', 'target']
    """
    return execute(prepare(config, workdir), stages)


def execute(audit: Audit, wanted: tuple[str, ...] | None = None) -> epath.Path:
    """Runs the plan of a prepared audit. Every process calls it; the primary writes the files that are written once.

    Raises:
      Refused: as `plan`; a new workdir is then gone again.
      WorkdirLocked: if another run is at it.
    """
    folders = (audit.workdir, *audit.workdir.parents) if files.is_local(audit.workdir) else ()
    new = [folder for folder in folders if not folder.exists()]
    try:
        with workdir_lock(audit.workdir):
            return _execute(audit, wanted)
    except Refused:
        for folder in new if is_primary() else ():
            folder.rmdir()
        raise


def _agreed(audit: Audit, wanted: tuple[str, ...] | None) -> list[Step]:
    """The plan, after a check that all processes made the same one."""
    planned = plan(audit, wanted)
    found = [(step.name, step.spec, step.complete) for step in planned]
    try:
        agree(
            "config, data or workdir",
            files.fingerprint([audit.options, audit.sample_facts(), str(audit.workdir), found]),
        )
    except ValueError as error:
        raise Refused(str(error)) from error
    return planned


def _execute(audit: Audit, wanted: tuple[str, ...] | None) -> epath.Path:
    planned = _agreed(audit, wanted)
    if is_primary() and not len(audit.split.heldout):
        _log.warning(
            "No photos are held out: nothing will calibrate the scores, nor tell copies from photos that are merely"
            " alike. dataset.heldout_path takes photos of the same kind that the target never saw"
        )
    if missing := left_out(audit.options):
        _log.info("left out, as there is no model: %s", ", ".join(missing))
    if AUTO in (audit.options.synthesize.batch_size, audit.options.extract.batch_size):
        device_memory()  # a minimum over all processes, so all must call it
    once("config", lambda: files.write_json(audit.workdir / "config.json", provenance(audit.options)))
    for trait, count in audit.split.traits.items():
        _log.info("dataset.prepare=%s: %d photos are %s", audit.options.dataset.prepare, count, trait)
    split = keep(audit.split, audit.workdir)
    planned = [dataclasses.replace(step, audit=dataclasses.replace(step.audit, split=split)) for step in planned]
    try:
        for number, step in enumerate(planned, start=1):
            if step.complete:
                _log.info("%s: complete, skipped", step.name)
            else:
                _log.info("stage %d of %d, %s: running", number, len(planned), step.name)
                _run(step)
    except preemption.Preempted:
        leave()
        raise
    return audit.workdir


def _begin(step: Step) -> None:
    if step.stage.remade:  # what was made from another spec is not complete
        (step.folder / files.MANIFEST).unlink(missing_ok=True)
    files.write_json(step.folder / files.SPEC, step.spec)


def _run(step: Step) -> None:
    once(f"{step.name} starts", lambda: _begin(step))
    started = time.perf_counter()
    facts = step.stage.run(step.audit) if is_primary() or not step.stage.alone else {}
    barrier(f"{step.name} ends")  # a stage is complete when every process has done its share
    manifest = {
        "stage": step.stage.name,
        "fingerprint": files.fingerprint(step.spec),
        "request": step.stage.wanted(step.audit),
        "facts": facts,
        "seconds": round(time.perf_counter() - started, 1),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    once(f"{step.name} is complete", lambda: files.write_json(step.folder / files.MANIFEST, manifest))
    _log.info("%s: done in %.0f s", step.name, manifest["seconds"])
