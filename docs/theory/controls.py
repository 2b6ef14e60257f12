"""Two targets that differ in one thing: how many photos they learned. Trained once, kept in runs/theory."""

from pathlib import Path

import side_jax
from configs import orl

WORKDIRS = Path("runs/theory")
HELDOUT = {"small": 0.9, "large": 0.1}  # of 400 photos; 40 and 360 remain
STEPS = 2_500


def control_targets() -> dict[str, Path]:
    """Name -> workdir, trained if it is not there: 15 minutes each on 2 cores."""
    WORKDIRS.mkdir(parents=True, exist_ok=True)
    for name, fraction in HELDOUT.items():
        config = orl.get_config()
        config.dataset.heldout_fraction = fraction
        config.target.source, config.target.path = "train", ""
        config.target.train.num_steps = STEPS
        side_jax.run(config, WORKDIRS / name, ("target",))
    return {name: WORKDIRS / name for name in HELDOUT}
