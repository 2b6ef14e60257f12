"""The one training loop. Target, teacher and student bring a loss and an initial state; the loop does the rest.

A run is a function of (seed, config): batch s and its noise derive from s alone, and a checkpoint holds parameters,
optimizer, EMA and step. So a resumed run equals an uninterrupted one. Several processes train one state: each makes the
same batches, and computes the shards of its own devices.
"""

import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Mapping

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epath
from jaxtyping import PyTree

from side_jax.runtime import preemption
from side_jax.runtime.batching import ROWS
from side_jax.runtime.declare import above, at_least, option
from side_jax.runtime.distributed import is_primary
from side_jax.runtime.files import AuditError, absolute, names, read_json, write_json
from side_jax.runtime.progress import Progress, ScalarLog
from side_jax.runtime.sharding import data_mesh, place, replicate, shard_batch

Batch = dict[str, np.ndarray]
# (params, model_state, key, batch, frozen) -> loss, (new model_state, metrics)
LossFn = Callable[[PyTree, PyTree, jax.Array, PyTree, PyTree], tuple[jax.Array, tuple[PyTree, dict[str, jax.Array]]]]


class TrainingDiverged(AuditError):
    """The loss became NaN or infinite. The last checkpoint before it is kept."""


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """AdamW with linear warm-up and cosine decay to 0, gradient clipping and EMA, as in the diffusers example."""

    num_steps: int = option(1_000, "of training", at_least(1))
    batch_size: int = option(64, "images of a step, over all devices", at_least(1))
    learning_rate: float = option(1e-4, "after the warm-up; it decays to 0 as a cosine", above(0))
    warmup_steps: int = option(0, "in which the learning rate rises from 0")
    b1: float = option(0.9, "AdamW's β₁")
    b2: float = option(0.999, "AdamW's β₂")
    weight_decay: float = option(1e-2, "AdamW's")
    clip_norm: float = option(1.0, "gradients are clipped to this global norm")
    ema_max: float = option(0.9999, "EMA decay is min(ema_max, 1 − (1 + step)^−ema_power)")
    ema_power: float = option(0.0, "0: no average, the last weights are used")
    flip: bool = option(False, "mirror images at random")
    checkpoint_every: int = option(1_000, "steps", at_least(1), decides=False)
    log_every: int = option(50, "steps", at_least(1), decides=False)

    def check(self, path: str) -> None:
        """The warm-up ends before the training."""
        if not 0 <= self.warmup_steps < self.num_steps:
            raise ValueError(
                f"{path}.warmup_steps must be 0 or more and below num_steps ({self.num_steps}), got {self.warmup_steps}"
            )

    def schedule(self) -> optax.Schedule:
        """Step s -> learning rate: lr·s/warmup up to the warm-up's end, then lr·½(1 + cos π·progress)."""
        return optax.warmup_cosine_decay_schedule(
            0.0 if self.warmup_steps else self.learning_rate, self.learning_rate, self.warmup_steps, self.num_steps
        )

    def optimizer(self) -> optax.GradientTransformation:
        """AdamW by `schedule`, on gradients clipped by their global norm."""
        adamw = optax.adamw(self.schedule(), self.b1, self.b2, weight_decay=self.weight_decay)
        return optax.chain(optax.clip_by_global_norm(self.clip_norm), adamw)


class Loss(flax.struct.PyTreeNode):
    """The function that a training minimises, with its noise and its constants.

    Attributes:
      function: pure.
      key: the noise of step s comes from fold_in(key, s).
      frozen: arrays that the function reads and nothing changes (a teacher), its last argument.
    """

    function: LossFn = flax.struct.field(pytree_node=False)
    key: jax.Array
    frozen: PyTree = None


class TrainState(flax.struct.PyTreeNode):
    """Everything a checkpoint holds."""

    step: jax.Array
    params: PyTree
    model_state: PyTree  # non-parameter variables, {"batch_stats": …} or {}
    opt_state: PyTree
    ema: PyTree
    loss: jax.Array  # running mean, over about the last 100 steps


@functools.partial(jax.jit, static_argnames=("net", "inputs"))
def init_variables(net: nn.Module, key: jax.Array, inputs: tuple[jax.ShapeDtypeStruct, ...]) -> PyTree:
    """The variables of a module for inputs of these shapes. No forward pass is run, or compiled, to find them.

    One program draws them all: without it each is a program of its own, and these take longer to compile.
    """
    return net.lazy_init(key, *inputs)


def init_state(variables: Mapping[str, PyTree], options: TrainOptions) -> TrainState:
    """The state at step 0, from a module's variables."""
    params = variables["params"]
    model_state = {name: value for name, value in variables.items() if name != "params"}
    # The EMA starts as a copy: an alias could not be donated to the step beside its original.
    ema = jax.tree.map(jnp.copy, params)
    return TrainState(
        jnp.zeros((), jnp.int32), params, model_state, options.optimizer().init(params), ema, jnp.zeros(())
    )


def steps_done(folder: epath.Path, options: TrainOptions) -> str:
    """Steps of `fit` in this folder, up to the newest checkpoint; folders of unfinished ones have no step's name."""
    done = max((int(name) for name in names(folder / "checkpoints") if name.isdecimal()), default=0)
    return f"{done:,} of {options.num_steps:,} steps"


def ema_decay(step: jax.Array, power: float, maximum: float) -> jax.Array:
    """Decay of the weight average after `step` updates, min(maximum, 1 − (1 + step)^−power) (diffusers' EMAModel)."""
    return jnp.minimum(maximum, 1 - (1 + step.astype(jnp.float32)) ** -power)


def epoch_batches(arrays: Batch, batch_size: int, seed: int) -> Callable[[int], Batch]:
    """step -> batch, from an endless sequence of shuffled epochs. A batch may span two epochs."""
    count = len(next(iter(arrays.values())))

    @functools.lru_cache(maxsize=2)
    def order(epoch: int) -> np.ndarray:
        return np.random.default_rng((seed, epoch)).permutation(count)

    def batch(step: int) -> Batch:
        epochs, positions = np.divmod(np.arange(step * batch_size, (step + 1) * batch_size), count)
        chosen = np.concatenate([order(int(epoch))[positions[epochs == epoch]] for epoch in np.unique(epochs)])
        return {name: array[chosen] for name, array in arrays.items()}

    return batch


def random_flip(key: jax.Array, images: jax.Array) -> jax.Array:
    """Mirrors each image of [N, H, W, C] left to right with probability ½."""
    flip = jax.random.bernoulli(key, shape=(images.shape[0], 1, 1, 1))
    return jnp.where(flip, images[:, :, ::-1], images)


@functools.partial(jax.jit, static_argnames=("options",), donate_argnames=("state",))
def _train_step(
    state: TrainState, loss: Loss, batch: PyTree, asked: jax.Array, options: TrainOptions
) -> tuple[TrainState, dict[str, jax.Array], jax.Array]:
    """The next state, metrics, and 1 if any process was `asked` to stop: int32 [devices] -> []."""
    key = jax.random.fold_in(loss.key, state.step)
    value_and_grad = jax.value_and_grad(loss.function, has_aux=True)
    (value, (model_state, metrics)), grads = value_and_grad(state.params, state.model_state, key, batch, loss.frozen)
    updates, opt_state = options.optimizer().update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    decay = ema_decay(state.step, options.ema_power, options.ema_max)
    ema = jax.tree.map(lambda average, new: decay * average + (1 - decay) * new, state.ema, params)
    metrics = {"loss": value, "grad_norm": optax.tree.norm(grads), **metrics}
    share = 1 / jnp.minimum(state.step.astype(jnp.float32) + 1, 100)
    mean_loss = (1 - share) * state.loss + share * value
    return TrainState(state.step + 1, params, model_state, opt_state, ema, mean_loss), metrics, asked.max()


def fit(
    state: TrainState,
    loss: Loss,
    batches: Callable[[int], Batch],
    options: TrainOptions,
    directory: epath.Path,
    name: str,
) -> tuple[TrainState, float]:
    """Trains to `options.num_steps`, from the newest checkpoint in `directory` if there is one.

    Args:
      state: the state at step 0 (`init_state`).
      loss: the function to minimise.
      batches: step -> host arrays with a common leading axis.
      options: optimizer, length, EMA.
      directory: gets `checkpoints/` (Orbax), `logs/` (TensorBoard) and `time.json`.
      name: shown in the progress line.

    Returns:
      The final state, and the seconds that its training took, earlier runs included up to their last checkpoints.

    Raises:
      TrainingDiverged: if a loss is not finite; checkpoints hold only finite ones.
      Preempted: on all processes, if one has been asked to stop; there is a checkpoint of the last step.
    """
    import orbax.checkpoint as ocp

    mesh = data_mesh()
    saving = ocp.CheckpointManagerOptions(max_to_keep=2, cleanup_tmp_directories=True)
    clock, seconds = directory / "time.json", 0.0
    state, loss = replicate(state, mesh), loss.replace(frozen=replicate(loss.frozen, mesh))
    with (
        ocp.CheckpointManager(absolute(directory / "checkpoints"), options=saving) as checkpoints,
        contextlib.closing(ScalarLog(directory / "logs")) as log,
    ):
        if (latest := checkpoints.latest_step()) is not None:
            state = checkpoints.restore(latest, args=ocp.args.StandardRestore(state))
            seconds = read_json(clock)["seconds"] if clock.exists() else 0.0
        started = time.perf_counter() - seconds
        pending: list[dict[str, jax.Array]] = []
        # Read one step late: so the device runs ahead by one step, and every process stops at the same step.
        asked: jax.Array | int = 0
        with Progress(name, options.num_steps, int(state.step), "step") as progress:
            for step in range(int(state.step), options.num_steps):
                # Each process fills in what its own devices get.
                flags = place(np.full(mesh.size, preemption.requested(), np.int32), ROWS, mesh)
                state, metrics, stop = _train_step(state, loss, shard_batch(batches(step), mesh), flags, options)
                pending.append(metrics)
                asked, stopping = stop, bool(asked)
                done = step + 1
                save = stopping or done % options.checkpoint_every == 0 or done == options.num_steps
                if not (save or done % options.log_every == 0):
                    continue
                summary = _checked_mean(jax.device_get(pending), done, name, checkpoints.latest_step() or 0, options)
                log.write_scalars(done, summary)
                progress.update(len(pending), f"loss {summary['loss']:.4f}")
                pending.clear()
                if save:
                    checkpoints.save(done, args=ocp.args.StandardSave(state))
                    log.flush()
                    seconds = round(time.perf_counter() - started, 1)
                    if is_primary():
                        write_json(clock, {"seconds": seconds})
                if stopping:
                    raise preemption.Preempted
    return state, seconds


def _checked_mean(
    metrics: list[dict[str, np.ndarray]], done: int, name: str, saved: int, options: TrainOptions
) -> dict[str, float]:
    """The mean of each metric over the steps since the last call; raises if a loss or gradient is not finite."""
    for step, step_metrics in enumerate(metrics, done - len(metrics) + 1):
        for what in ("loss", "grad_norm"):  # a bad gradient spoils the weights one step before the loss shows it
            if not math.isfinite(step_metrics[what]):
                kept = f"the checkpoint of step {saved} is kept" if saved else "there is no checkpoint yet"
                raise TrainingDiverged(
                    f"{name}: {what} is {step_metrics[what]} at step {step}; {kept}. Train again in another workdir"
                    f" with a lower train.learning_rate than {options.learning_rate}"
                )
    return {key: float(np.mean([m[key] for m in metrics])) for key in metrics[0]}


def trained_variables(state: TrainState, train: TrainOptions) -> PyTree:
    """The trained network, on the host: the averaged weights if there is an average, and the batch statistics."""
    return jax.device_get({"params": state.ema if train.ema_power > 0 else state.params, **state.model_state})
