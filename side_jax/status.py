"""Where an audit stands, read from the names of the files in its workdir. Starts nothing, and writes nothing."""

import os
import re
from collections.abc import Iterator

import numpy as np
from etils import epath

from side_jax import artifacts
from side_jax.extraction.parts import scale_folder
from side_jax.images import ImageSet
from side_jax.lock import LOCK, Owner
from side_jax.options import AuditOptions
from side_jax.pipeline import STAGES, Stage
from side_jax.splitting import Split
from side_jax.stages.audit import Audit
from side_jax.stages.extract import num_images
from side_jax.training import TrainOptions

_CHUNK = re.compile(r"(\d+)(\.0)+")  # of zarr: chunks are split along the first axis alone
_PART = re.compile(r"part-(\d+)-(\d+)-[0-9a-f]+\.parquet")


def describe(workdir: epath.PathLike) -> str:
    """A line for every stage of every method, and for every λ of a sweep that is not complete.

    The config is that of the last run, as the workdir has it. Whether code, weights and images are still the same is
    not checked: that takes reading them, and the next run does it.

    Raises:
      ValueError: if there is no workdir.
    """
    root = epath.Path(workdir)
    if not root.exists():
        raise ValueError(f"workdir {str(root)!r} does not exist")
    if not (root / "config.json").exists():
        raise ValueError(f"{str(root)!r} is no workdir of an audit: it has no config.json")
    known = artifacts.read_json(root / "config.json")
    nothing = ImageSet(np.zeros((0, 1, 1, 1), np.uint8), np.zeros(0, np.int32), (), ())
    audit = Audit(AuditOptions.from_config(known["config"]), root, Split(nothing, nothing))
    lines = [f"{root}: config {known['config_hash']}, side_jax {known['versions']['side_jax']}", at_work(root)]
    for stage in STAGES:
        for part in audit.methods().values() if stage.per_method else [audit]:
            if stage.needed(part):
                name = f"{stage.name} ({part.branch})" if part.branch else stage.name
                state, *details = _stage(stage, part)
                lines += [f"{name:<24} {state}", *(f"  {detail}" for detail in details)]
    return "\n".join(lines)


def at_work(root: epath.Path) -> str:
    """Whether a run holds the workdir, as far as its lock and this machine can tell."""
    if not (root / LOCK).exists():
        return "no run is at work"
    owner = Owner.read((root / LOCK).read_bytes())
    if owner is None:
        return f"{LOCK} is damaged; the next run replaces it"
    return f"{_ALIVE[owner.alive()]}: {owner}"


_ALIVE = {True: "a run is at work", False: "the last run was killed", None: "a run is at work, or its machine gone"}


def _stage(stage: Stage, audit: Audit) -> Iterator[str]:
    """The state of one stage of one method, and details below it."""
    folder = audit.folder(stage.folder)
    manifest = artifacts.read_json(folder / artifacts.MANIFEST) if (folder / artifacts.MANIFEST).exists() else None
    if manifest and manifest["request"] == artifacts.plain(stage.request(audit)):
        yield f"complete, {manifest['finished']}, in {manifest['seconds']:.0f} s"
        return
    if not (folder / artifacts.SPEC).exists():
        yield "not begun"
        return
    yield "complete for an earlier request" if manifest else "begun, not complete"
    yield from _PROGRESS.get(stage.name, lambda _: [])(audit)


def _target(audit: Audit) -> Iterator[str]:
    if audit.options.target.source == "train":
        yield _trained(audit.folder("target"), audit.options.target.train)


def _synthesize(audit: Audit) -> Iterator[str]:
    folder, total = audit.folder("synthetic") / "images.zarr", audit.options.synthesize.num_images
    rows = artifacts.read_json(folder / ".zarray")["chunks"][0] if (folder / ".zarray").exists() else 0
    chunks = [int(match[1]) for match in map(_CHUNK.fullmatch, _names(folder)) if match]
    yield f"{sum(min(rows, total - chunk * rows) for chunk in chunks):,} of {total:,} images"


def _label(audit: Audit) -> Iterator[str]:
    if audit.options.has_teacher:
        yield f"teacher: {_trained(audit.folder('labels') / 'teacher', audit.options.labels.train)}"


def _distill(audit: Audit) -> Iterator[str]:
    guide, source = audit.options.classifier.guide, audit.options.labels.source
    if guide != "exact" and (source, guide) != ("classifier", "time_independent"):  # which is the teacher itself
        yield _trained(audit.folder("classifier"), audit.options.classifier.train)


def _extract(audit: Audit) -> Iterator[str]:
    for scale in audit.options.extract.scales:
        wanted = num_images(audit, scale)
        done = images_done(_names(scale_folder(audit.folder("extract"), scale)), wanted)
        yield f"λ={scale:<6g} {done:,} of {wanted:,} images"


_PROGRESS = {"target": _target, "synthesize": _synthesize, "label": _label, "distill": _distill, "extract": _extract}


def _trained(folder: epath.Path, train: TrainOptions) -> str:
    """Steps up to the newest checkpoint; folders of unfinished ones have other names than their step."""
    done = max((int(name) for name in _names(folder / "checkpoints") if name.isdecimal()), default=0)
    return f"{done:,} of {train.num_steps:,} steps"


def images_done(names: list[str], num_images: int) -> int:
    """How many of images 0 … num_images − 1 the parts of these names hold: part-FIRST-LAST-CHECKSUM.parquet."""
    ranges = np.array([match.groups() for match in map(_PART.fullmatch, names) if match], np.int64).reshape(-1, 2)
    first, last = ranges[np.argsort(ranges[:, 0])].T
    # Parts may overlap. Each counts from where those before it end.
    end = np.minimum(last + 1, num_images)
    before = np.concatenate([[0], np.maximum.accumulate(end)[:-1]]) if len(end) else end
    return int(np.maximum(end - np.maximum(first, before), 0).sum())


def _names(folder: epath.Path) -> list[str]:
    """What is in a folder. A path object for each of 400,000 files would take ten times as long."""
    if not folder.exists():
        return []
    return [path.name for path in folder.iterdir()] if "://" in str(folder) else os.listdir(folder)
