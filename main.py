"""Command line of an audit: python main.py --config=configs/orl.py --workdir=runs/orl. Again to resume."""

import logging
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow only writes TensorBoard logs here

from absl import flags
from ml_collections import config_flags

from side_jax import pipeline
from side_jax.artifacts import AuditError
from side_jax.cost.dry_run import UTILISATION, dry_run

_CONFIG = config_flags.DEFINE_config_file("config", None, "A file in configs/; --config.FIELD=VALUE overrides a field.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where artifacts go, e.g. runs/orl. Its parent must exist.")
_STAGES = flags.DEFINE_list("stages", list(pipeline.NAMES), "Which stages to run.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print what the whole audit would cost; run nothing, write nothing.")
_UTILISATION = flags.DEFINE_float("utilisation", UTILISATION, "Of --dry_run: share of an accelerator's peak speed.")


def main(arguments: list[str]) -> int:
    """0 done; 1 a stage could not go on; 2 bad input; 130 interrupted."""
    try:
        for path in (a.partition("=")[2] for a in arguments if a.startswith("--config=")):
            if not os.path.exists(path):  # ml_collections would say that something failed to load, not what
                raise ValueError(f"--config {path!r} does not exist")
        flags.FLAGS(arguments)
        if _CONFIG.value is None or _WORKDIR.value is None:
            raise ValueError("--config and --workdir are needed, e.g. --config=configs/orl.py --workdir=runs/orl")
        if _DRY_RUN.value:
            print(dry_run(_CONFIG.value, _UTILISATION.value))
            return 0
        audit = pipeline.prepare(_CONFIG.value, _WORKDIR.value)
        pipeline.plan(audit, tuple(_STAGES.value))
    except (flags.Error, ValueError, TypeError, AttributeError, KeyError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    logging.getLogger("side_jax").setLevel(logging.INFO)
    logging.basicConfig(format="%(message)s")  # absl's own, and orbax's, stay at warnings
    try:
        workdir = pipeline.execute(audit, tuple(_STAGES.value), _CONFIG.value)
    except (AuditError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command resumes", file=sys.stderr)
        return 130
    if "report" in _STAGES.value:
        print(f"report: {workdir / 'report.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
