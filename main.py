"""Command line of an audit: python main.py --config=configs/orl.py --workdir=runs/orl. Again to resume."""

import logging
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow only writes TensorBoard logs here

from absl import app, flags
from ml_collections import config_flags

from side_jax.audit import pipeline, status
from side_jax.audit.cost.dry_run import UTILISATION, dry_run
from side_jax.audit.stage import Audit
from side_jax.runtime import distributed, preemption
from side_jax.runtime.files import AuditError

_CONFIG = config_flags.DEFINE_config_file("config", None, "A file in configs/; --config.FIELD=VALUE overrides a field.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where artifacts go: runs/orl, gs://bucket/orl.")
_STAGES = flags.DEFINE_list("stages", list(pipeline.stage_names()), "Which stages to run.")
_STATUS = flags.DEFINE_bool("status", False, "Print where every stage of --workdir stands, and start nothing.")
_FORCE_NEW = flags.DEFINE_bool("force_new", False, "If --workdir was made otherwise, work in a new folder beside it.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print what the whole audit would cost; run nothing, write nothing.")
_UTILISATION = flags.DEFINE_float("utilisation", UTILISATION, "Of --dry_run: share of an accelerator's peak speed.")
app.define_help_flags()


def main(arguments: list[str]) -> int:
    """0 done; 1 a stage could not go on; 2 bad input; 75 stopped by SIGTERM, run again; 130 interrupted."""
    failed = 2  # the exit status of an error: 1 once the audit runs
    with preemption.watch():
        try:
            _parse(arguments)
            if _STATUS.value and _WORKDIR.value is not None:
                print(status.describe(_WORKDIR.value))
            elif _CONFIG.value is None or _WORKDIR.value is None:
                raise ValueError("--config and --workdir are needed, e.g. --config=configs/orl.py --workdir=runs/orl")
            elif _DRY_RUN.value:
                print(dry_run(_CONFIG.value, _UTILISATION.value))
            else:
                distributed.initialize(distributed.cluster_from_environment(os.environ))
                audit = pipeline.prepare(_CONFIG.value, _WORKDIR.value)
                audit = pipeline.beside(audit) if _FORCE_NEW.value else audit
                failed = 1
                _run(audit)
        except (flags.Error, AuditError, ValueError, OSError) as error:
            full = "No space left on device" in str(error)
            print(f"error: {error}{'; make space, and the same command resumes' if full else ''}", file=sys.stderr)
            return 2 if isinstance(error, pipeline.Refused) else failed
        except KeyboardInterrupt:
            print("interrupted; the same command resumes", file=sys.stderr)
            return 130
    return 0


def _parse(arguments: list[str]) -> None:
    """Sets the flags. Raises `ValueError` or `flags.Error`."""
    for path in (a.partition("=")[2] for a in arguments if a.startswith("--config=")):
        if not os.path.exists(path):  # ml_collections would say that something failed to load, not what
            raise ValueError(f"--config {path!r} does not exist")
    try:
        flags.FLAGS(arguments)
    except (AttributeError, KeyError) as error:
        name = str(error).strip("\"'")
        raise ValueError(f"--config has no field {name!r}; configs/default.py has every field") from error


def _run(audit: Audit) -> None:
    logging.getLogger("side_jax").setLevel(logging.INFO if distributed.is_primary() else logging.WARNING)
    logging.basicConfig(format="%(message)s")  # absl's own, and orbax's, stay at warnings
    if _FORCE_NEW.value and distributed.is_primary():
        print(f"workdir: {audit.workdir}", flush=True)
    workdir = pipeline.execute(audit, tuple(_STAGES.value), _CONFIG.value)
    if "report" in _STAGES.value and distributed.is_primary():
        print(f"report: {workdir / 'report.html'}")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
