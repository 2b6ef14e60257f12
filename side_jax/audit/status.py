"""Where an audit stands, read from the names of the files in its workdir. Starts nothing, and writes nothing."""

from collections.abc import Iterator

import numpy as np
from etils import epath

from side_jax.audit.lock import LOCK, Owner
from side_jax.audit.options import AuditOptions
from side_jax.audit.stage import Audit, Stage
from side_jax.audit.stages import STAGES
from side_jax.data.images import ImageSet
from side_jax.data.splitting import Split
from side_jax.runtime import files
from side_jax.runtime.declare import adapted


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
    known = files.read_json(root / "config.json")
    nothing = ImageSet(np.zeros((0, 1, 1, 1), np.uint8), np.zeros(0, np.int32), ())
    config, differing = stored_config(root)
    audit = Audit(AuditOptions.from_config(config), root, Split(nothing, nothing))
    lines = [f"{root}: config {known['config_hash']}, side_jax {known['versions']['side_jax']}", at_work(root)]
    if differing:
        lines.append(f"config.json is of a version with other fields ({', '.join(differing)}); read as far as known")
    for stage in STAGES:
        for part in audit.methods().values() if stage.per_method else [audit]:
            if stage.taken(part.options):
                name = f"{stage.name} ({part.branch})" if part.branch else stage.name
                state, *details = _stage(stage, part)
                lines += [f"{name:<24} {state}", *(f"  {detail}" for detail in details)]
    return "\n".join(lines)


def stored_config(root: epath.Path) -> tuple[dict[str, object], list[str]]:
    """The config of a workdir's last run, as far as this version knows its fields; and the fields that differ."""
    return adapted(AuditOptions, files.read_json(root / "config.json")["config"])


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
    if manifest := stage.complete(audit):
        yield f"complete, {manifest['finished']}, in {manifest['seconds']:.0f} s"
        return
    if stage.idle(audit.options):
        yield "not run: no λ above 0 is asked for"
        return
    folder = audit.folder(stage.folder)
    if not (folder / files.SPEC).exists():
        yield "not begun"
        return
    yield "complete for an earlier request" if (folder / files.MANIFEST).exists() else "begun, not complete"
    yield from stage.progress(audit)
