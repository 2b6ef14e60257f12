"""Golden values of guided DDIM trajectories. Run in the root: .venv-torch/bin/python -m tests.golden.make_guided.

Writes tests/golden/guided.npz: the inputs of `guided.inputs`, and of each guide and order the states after `KEPT` steps
of each λ, float32 [λ, kept, N, H, W, C]. Prints how far each trajectory is from the unguided one of the same order, and
how far float32 rounding alone takes it from the same computation in float64: that must be far below the tests' 1e-3.
"""

from pathlib import Path

import numpy as np
import torch

from tests.golden import guided

SEED = 4


def main() -> None:
    """Writes the file and prints the table."""
    torch.set_num_threads(1)  # small tensors, and the order of every sum is fixed
    single, double = guided.Sampler(), guided.Sampler(torch.float64)
    given, kept = guided.inputs(SEED), np.array(guided.KEPT) - 1
    arrays: dict[str, np.ndarray] = {}
    print(f"{'guide':<8} {'order':<12} {'λ':>4}  moved x_t, x_0  float32 rounding")
    for name in guided.GUIDES:
        for order in guided.ORDERS:
            unguided = guided.trajectory(single, name, given, order, 0.0)
            states = []
            for lam in guided.LAMBDAS:
                ours = guided.trajectory(single, name, given, order, lam)
                rounding = np.abs(ours - guided.trajectory(double, name, given, order, lam)).max()
                moved = np.abs(ours - unguided)
                row = f"{name:<8} {order:<12} {lam:4.1f}  {moved.max():9.2f} {moved[-1].max():4.2f}  {rounding:16.1e}"
                print(row, flush=True)
                states.append(ours[kept])
            arrays[f"{name}_{order}"] = np.stack(states)
    settings = {"lambdas": guided.LAMBDAS, "kept": guided.KEPT}
    np.savez_compressed(Path(__file__).parent / "guided.npz", **settings, **given, **arrays)


if __name__ == "__main__":
    main()
