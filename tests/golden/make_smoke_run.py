"""Writes tests/golden/smoke_run.json: python -m tests.golden.make_smoke_run, after a stage's version was raised."""

import json
import tempfile
from pathlib import Path

from configs import smoke
from side_jax.audit import pipeline
from tests.golden.smoke_run import FILE, record, steered_config


def main():
    """Runs both audits anew."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        runs = (
            pipeline.run(config, root / name)
            for name, config in (("smoke", smoke.get_config()), ("steered", steered_config(root)))
        )
        FILE.write_text(json.dumps(record(*runs), indent=1) + "\n")


if __name__ == "__main__":
    main()
