"""Golden values of training and of guidance. Run in the torch environment: python -m tests.golden.make_train.

Writes tests/golden/train.npz (diffusers' learning rates, EMA decays and a whole small training) and
tests/golden/guidance.npz (the student's logits and the guided noise of ADM).
"""

import json
from pathlib import Path

import numpy as np

from tests.golden import student, train

EMA_EVERY = 500


def main() -> None:
    """Writes both files."""
    folder = Path(__file__).parent
    rates = {f"rates_{warmup}_{steps}": train.learning_rates(warmup, steps) for warmup, steps in train.SCHEDULES}
    decays = {"decays": train.ema_decays(EMA_EVERY), "every": EMA_EVERY}
    options = json.dumps(train.OPTIONS)
    np.savez_compressed(folder / "train.npz", options=options, **rates, **decays, **train.trajectory(seed=0))
    np.savez_compressed(folder / "guidance.npz", **student.evaluate(seed=0))


if __name__ == "__main__":
    main()
