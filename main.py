"""Command line of an audit: python main.py --config=configs/orl.py --workdir=runs/orl. Again to resume."""

import logging
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow only writes TensorBoard logs here

from absl import flags
from ml_collections import config_flags

from side_jax import distributed, pipeline, preemption, status
from side_jax.artifacts import AuditError
from side_jax.cost.dry_run import UTILISATION, dry_run

_CONFIG = config_flags.DEFINE_config_file("config", None, "A file in configs/; --config.FIELD=VALUE overrides a field.")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Where artifacts go: runs/orl, gs://bucket/orl. Parent or bucket must exist."
)
_STAGES = flags.DEFINE_list("stages", list(pipeline.NAMES), "Which stages to run.")
_STATUS = flags.DEFINE_bool("status", False, "Print where every stage of --workdir stands, and start nothing.")
_FORCE_NEW = flags.DEFINE_bool("force_new", False, "If --workdir was made otherwise, work in a new folder beside it.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print what the whole audit would cost; run nothing, write nothing.")
_UTILISATION = flags.DEFINE_float("utilisation", UTILISATION, "Of --dry_run: share of an accelerator's peak speed.")


def main(arguments: list[str]) -> int:
    """0 done, or stopped by SIGTERM; 1 a stage could not go on; 2 bad input; 130 interrupted."""
    with preemption.watch():
        return _main(arguments)


def _main(arguments: list[str]) -> int:
    try:
        for path in (a.partition("=")[2] for a in arguments if a.startswith("--config=")):
            if not os.path.exists(path):  # ml_collections would say that something failed to load, not what
                raise ValueError(f"--config {path!r} does not exist")
        try:
            flags.FLAGS(arguments)
        except (AttributeError, KeyError) as error:
            name = str(error).strip("\"'")
            raise ValueError(f"--config has no field {name!r}; configs/default.py has every field") from error
        if _STATUS.value and _WORKDIR.value is not None:
            print(status.describe(_WORKDIR.value))
            return 0
        if _CONFIG.value is None or _WORKDIR.value is None:
            raise ValueError("--config and --workdir are needed, e.g. --config=configs/orl.py --workdir=runs/orl")
        if _DRY_RUN.value:
            print(dry_run(_CONFIG.value, _UTILISATION.value))
            return 0
        distributed.initialize(distributed.cluster_from_environment(os.environ))
        audit = pipeline.prepare(_CONFIG.value, _WORKDIR.value)
        if _FORCE_NEW.value:
            audit = pipeline.beside(audit)
            if distributed.is_primary():
                print(f"workdir: {audit.workdir}", flush=True)
        pipeline.plan(audit, tuple(_STAGES.value))
    except (flags.Error, ValueError, TypeError, AttributeError, KeyError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    logging.getLogger("side_jax").setLevel(logging.INFO if distributed.is_primary() else logging.WARNING)
    logging.basicConfig(format="%(message)s")  # absl's own, and orbax's, stay at warnings
    try:
        workdir = pipeline.execute(audit, tuple(_STAGES.value), _CONFIG.value)
    except (AuditError, ValueError, OSError) as error:
        full = "No space left on device" in str(error)
        print(f"error: {error}{'; make space, and the same command resumes' if full else ''}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command resumes", file=sys.stderr)
        return 130
    if "report" in _STAGES.value and distributed.is_primary():
        print(f"report: {workdir / 'report.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
