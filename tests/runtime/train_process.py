"""One process of a training for tests/test_processes.py: prints batches, losses and where it stopped, as JSON."""

import json
import os
import sys

import jax
import numpy as np
from etils import epath

from side_jax.runtime import distributed, preemption, training
from side_jax.runtime.training import Loss, epoch_batches, fit
from tests.runtime.test_training import DATA, OPTIONS, noisy_regression, start


def main(folder: str, stop_process: int, stop_step: int) -> None:
    """Trains in `folder`; process `stop_process` is asked to stop when it comes to step `stop_step`."""
    distributed.initialize(distributed.cluster_from_environment(os.environ))
    seen, losses, real = [], [], training._train_step

    def recording(state, loss, batch, *args):
        shards = sorted(batch["x"].addressable_shards, key=lambda shard: shard.index[0].start or 0)
        seen.append([np.asarray(shard.data).tolist() for shard in shards])
        state, metrics, stop = real(state, loss, batch, *args)
        losses.append(metrics["loss"])
        return state, metrics, stop

    training._train_step = recording
    preemption.requested = lambda: jax.process_index() == stop_process and len(seen) >= stop_step
    frozen = np.array([1.0, 2.0, 3.0], np.float32)
    batches = epoch_batches(DATA, 8, seed=0)
    stopped, weights = False, []
    try:
        loss = Loss(noisy_regression, jax.random.key(0), frozen)
        state, _ = fit(start(), loss, batches, OPTIONS, epath.Path(folder), "test")
        weights = np.asarray(state.ema["w"]).tolist()
    except preemption.Preempted:
        stopped = True
    print(json.dumps({"batches": seen, "losses": [float(x) for x in losses], "ema": weights, "stopped": stopped}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
