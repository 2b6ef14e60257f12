"""Golden values of ADM's UNet. Run in the torch environment: python -m tests.golden.make_adm.

Writes tests/golden/adm/NAME.npz: an input, its timesteps, the network's output (NHWC) and its state dict's keys and
shapes. The weights are not kept: `make_weights` makes them again.
"""

import json
from pathlib import Path

import numpy as np

from tests.golden.adm import MODELS, build, evaluate


def main() -> None:
    """Writes every model's file."""
    folder = Path(__file__).parent / "adm"
    folder.mkdir(exist_ok=True)
    for name, flags in MODELS.items():
        shapes = {key: list(value.shape) for key, value in build(name, seed=0).state_dict().items()}
        np.savez_compressed(
            folder / f"{name}.npz", flags=json.dumps(flags), shapes=json.dumps(shapes), **evaluate(name, seed=0)
        )


if __name__ == "__main__":
    main()
