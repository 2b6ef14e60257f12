"""Command line of an audit: `python main.py`, `python -m side_jax` and `side_jax` are the same.

side_jax --config=configs/orl.py --workdir=runs/orl    # a config of the package, or a file of one's own
side_jax --workdir=runs/orl                            # resume: the config is that of the workdir
"""

import importlib
import importlib.util
import logging
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow only writes TensorBoard logs here
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # of which it would say that they are on

from absl import app, flags
from etils import epath
from ml_collections import config_flags

import side_jax
from side_jax.audit import pipeline, status
from side_jax.audit.cost.dry_run import UTILISATION, dry_run
from side_jax.audit.options import Config
from side_jax.audit.replay import replay
from side_jax.audit.stage import Audit
from side_jax.audit.stages.detect import DetectStage
from side_jax.audit.stages.recall import RecallStage
from side_jax.report import gate
from side_jax.report.audit_json import Unreadable, read_audit
from side_jax.report.closing import closing
from side_jax.runtime import distributed, preemption
from side_jax.runtime.files import AuditError, write_bytes

_CONFIG = config_flags.DEFINE_config_file("config", None, "A file in configs/; --config.FIELD=VALUE overrides a field.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where artifacts go: runs/orl, gs://bucket/orl. Alone: resume it.")
_STAGES = flags.DEFINE_list("stages", list(pipeline.stage_names()), "Which stages to run.")
_STATUS = flags.DEFINE_bool("status", False, "Print how far every stage of --workdir is, and start nothing.")
_FORCE_NEW = flags.DEFINE_bool("force_new", False, "If --workdir was made otherwise, work in a new folder beside it.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print what the whole audit would cost; run nothing, write nothing.")
_UTILISATION = flags.DEFINE_float("utilisation", UTILISATION, "Of --dry_run: share of an accelerator's peak speed.")
_REPLAY = flags.DEFINE_string(
    "replay", None, "A match to make again, with its path: its number on the page (row of matches.parquet), or λ:index."
)
_FAIL_IF = flags.DEFINE_string(
    "fail_if", None, f"Release gate: exit status 3 if it holds, e.g. '{gate.EXAMPLE}'. help: its metrics."
)
app.define_help_flags()
for _flag in (_CONFIG, _WORKDIR, _STAGES, _STATUS, _FORCE_NEW, _DRY_RUN, _UTILISATION, _REPLAY, _FAIL_IF):
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[_flag.name])  # so that --help lists it


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 done; 1 a stage could not go on; 2 bad input; 3 the gate's condition holds; 75 stopped by SIGTERM;
    130 interrupted.
    """
    failed = 2  # the exit status of an error: 1 once the audit runs
    with preemption.watch():
        try:
            _parse(sys.argv if arguments is None else arguments)
            if _FAIL_IF.value == gate.HELP:
                print(gate.help_text())
                return 0
            release = _gate()
            if _STATUS.value and _WORKDIR.value is not None:
                print(status.describe(_WORKDIR.value))
            elif _DRY_RUN.value:
                print(dry_run(_config(), _UTILISATION.value))
            elif _REPLAY.value is not None:
                print(replay(_config(), _WORKDIR.value, _REPLAY.value))
            else:
                config = _config()
                distributed.initialize(distributed.cluster_from_environment(os.environ))
                audit = pipeline.prepare(config, _WORKDIR.value)
                audit = pipeline.beside(audit) if _FORCE_NEW.value else audit
                _check_gate(release, audit)
                failed = 1
                return _run(audit, release)
        except (flags.Error, AuditError, ValueError, OSError) as error:
            full = "No space left on device" in str(error)
            print(f"error: {error}{'; make space, and the same command resumes' if full else ''}", file=sys.stderr)
            return 2 if isinstance(error, (pipeline.Refused, gate.Undecided, Unreadable)) else failed
        except KeyboardInterrupt:
            print("interrupted; the same command resumes", file=sys.stderr)
            return 130
    return 0


def _config() -> Config:
    """The config of the command line, or else that of the workdir. Raises `ValueError` if there is neither."""
    if _WORKDIR.value is not None and _CONFIG.value is not None:
        config: Config = _CONFIG.value
        return config
    if _WORKDIR.value is None or not (epath.Path(_WORKDIR.value) / "config.json").exists():
        raise ValueError("--config and --workdir are needed, e.g. --config=configs/orl.py --workdir=runs/orl")
    stored, differing = status.stored_config(epath.Path(_WORKDIR.value))
    if differing:
        print(
            f"config.json is of a version with other fields ({', '.join(differing)}); they are left out",
            file=sys.stderr,
        )
    return stored


def _parse(arguments: list[str]) -> None:
    """Sets the flags. Raises `ValueError` or `flags.Error`."""
    arguments = [_with_path(argument) for argument in arguments]
    try:
        flags.FLAGS(arguments)
    except (AttributeError, KeyError) as error:
        name = str(error).strip("\"'")
        raise ValueError(f"--config has no field {name!r}; configs/default.py has every field") from error


def _with_path(argument: str) -> str:
    """--config with the path of its file: as given, or that of the package's config of this name."""
    flag, given, path = argument.partition("=")
    if flag != "--config" or not given or os.path.exists(path):
        return argument
    # Beside the package in a checkout, inside it when installed.
    for home in (Path(side_jax.__file__).parents[1], Path(side_jax.__file__).parent):
        known = home / "configs" / f"{Path(path).stem}.py"
        if known.exists() and path in (f"configs/{known.name}", known.name, known.stem):
            if importlib.util.find_spec("configs") is None:  # an installed config imports others from there
                sys.modules["configs"] = importlib.import_module("side_jax.configs")
            return f"--config={known}"
    raise ValueError(f"--config {path!r} does not exist")


def _gate() -> gate.Gate | None:
    """The release gate, read before anything runs. Raises `ValueError`."""
    if _FAIL_IF.value is None:
        return None
    if "report" not in _STAGES.value:
        raise ValueError(f"--fail_if needs the stage report, and --stages has {', '.join(_STAGES.value)}")
    return gate.Gate.of(_FAIL_IF.value)


def _check_gate(release: gate.Gate | None, audit: Audit) -> None:
    """Raises `ValueError` for a gate that the audit could never decide, and warns of a part that it could not."""
    options = audit.options
    scales = options.samples.named or options.extract.scales
    has = {
        "heldout": len(audit.split.heldout) > 0,
        "unguided": bool(options.samples.named) or 0.0 in scales,
        "guided": not options.samples.named and max(scales) > 0,
        "recall": RecallStage().taken(options),
        "detect": DetectStage().taken(options),
    }
    warning = None if release is None else gate.check(release, has)
    if warning and distributed.is_primary():
        print(f"warning: {warning}", file=sys.stderr)


def _run(audit: Audit, release: gate.Gate | None) -> int:
    """Runs the audit, and decides the gate: its exit status."""
    logging.getLogger("side_jax").setLevel(logging.INFO if distributed.is_primary() else logging.WARNING)
    logging.basicConfig(format="%(message)s")  # absl's own, and orbax's, stay at warnings
    if _FORCE_NEW.value and distributed.is_primary():
        print(f"workdir: {audit.workdir}", flush=True)
    if release is not None and distributed.is_primary():
        (audit.workdir / gate.JUNIT).unlink(missing_ok=True)  # of an earlier run: this one may not come to the gate
    workdir = pipeline.execute(audit, tuple(_STAGES.value))
    if "report" in _STAGES.value and distributed.is_primary():
        print(*closing(read_audit(workdir), str(workdir)), f"report: {workdir / 'report.html'}", sep="\n")
    return 0 if release is None else _decide(release, workdir)


def _decide(release: gate.Gate, workdir: epath.Path) -> int:
    """Prints what the gate says, and writes it for a CI system. Raises `gate.Undecided`."""
    audit = read_audit(workdir)
    decided = gate.outcome(release, audit)
    if distributed.is_primary():
        write_bytes(workdir / gate.JUNIT, gate.junit(decided, audit))
        if decided.state != gate.UNDECIDED:
            print(decided.line)
    if decided.state == gate.UNDECIDED:
        raise gate.Undecided(decided.line)
    return 3 if decided.state == gate.FAILED else 0
