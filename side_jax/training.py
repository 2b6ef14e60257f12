"""The one training loop. Target, teacher and student bring a loss and an initial state; the loop does the rest.

A run is a function of (seed, config): batch s and its noise derive from s alone, and a checkpoint holds parameters,
optimizer, EMA and step. So a resumed run equals an uninterrupted one. Several processes train one state: each makes the
same batches, and computes the shards of its own devices.
"""

import contextlib
import dataclasses
import functools
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epath
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

from side_jax import preemption
from side_jax.artifacts import AuditError, absolute, read_json, write_json
from side_jax.diffusion.objective import ema_decay
from side_jax.distributed import is_primary
from side_jax.scalars import ScalarLog
from side_jax.sharding import data_mesh, replicate, shard_batch

Batch = dict[str, np.ndarray]
# (params, model_state, key, batch, frozen) -> loss, (new model_state, metrics)
LossFn = Callable[[Any, Any, jax.Array, Any, Any], tuple[jax.Array, tuple[Any, dict[str, jax.Array]]]]


class TrainingDiverged(AuditError):
    """The loss became NaN or infinite. The last checkpoint before it is kept."""


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """AdamW with linear warm-up and cosine decay to 0, gradient clipping and EMA, as in the diffusers example.

    `ema_power` 0 turns the average off (the last weights are used). `flip` mirrors images at random.
    """

    num_steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int = 0
    b1: float = 0.9
    b2: float = 0.999
    weight_decay: float = 1e-2
    clip_norm: float = 1.0
    ema_max: float = 0.9999
    ema_power: float = 0.0
    flip: bool = False
    checkpoint_every: int = 500
    log_every: int = 50

    def __post_init__(self) -> None:
        for name in ("num_steps", "batch_size", "checkpoint_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"train.{name} must be at least 1, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"train.learning_rate must be above 0, got {self.learning_rate}")
        if not 0 <= self.warmup_steps < self.num_steps:
            raise ValueError(
                f"train.warmup_steps must be 0 or more and below num_steps ({self.num_steps}), got {self.warmup_steps}"
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


class TrainState(flax.struct.PyTreeNode):
    """Everything a checkpoint holds."""

    step: jax.Array
    params: Any
    model_state: Any  # non-parameter variables, {"batch_stats": …} or {}
    opt_state: Any
    ema: Any
    loss: jax.Array  # running mean, over about the last 100 steps


def init_state(variables: Mapping[str, Any], options: TrainOptions) -> TrainState:
    """The state at step 0, from a module's variables."""
    params = variables["params"]
    model_state = {name: value for name, value in variables.items() if name != "params"}
    # The EMA starts as a copy: an alias could not be donated to the step beside its original.
    ema = jax.tree.map(jnp.copy, params)
    return TrainState(
        jnp.zeros((), jnp.int32), params, model_state, options.optimizer().init(params), ema, jnp.zeros(())
    )


def epoch_batches(arrays: Batch, batch_size: int, seed: int) -> Callable[[int], Batch]:
    """step -> batch, from an endless sequence of shuffled epochs. A batch may span two epochs."""
    count = len(next(iter(arrays.values())))

    @functools.lru_cache(maxsize=2)
    def order(epoch: int) -> np.ndarray:
        return np.random.default_rng((seed, epoch)).permutation(count)

    def batch(step: int) -> Batch:
        epochs, places = np.divmod(np.arange(step * batch_size, (step + 1) * batch_size), count)
        chosen = np.concatenate([order(int(e))[places[epochs == e]] for e in np.unique(epochs)])
        return {name: array[chosen] for name, array in arrays.items()}

    return batch


def random_flip(key: jax.Array, images: jax.Array) -> jax.Array:
    """Mirrors each image of [N, H, W, C] left to right with probability ½."""
    flip = jax.random.bernoulli(key, shape=(images.shape[0], 1, 1, 1))
    return jnp.where(flip, images[:, :, ::-1], images)


@functools.partial(jax.jit, static_argnames=("loss_fn", "options"), donate_argnames=("state",))
def _train_step(
    state: TrainState,
    key: jax.Array,
    batch: Any,
    frozen: Any,
    asked: jax.Array,
    *,
    loss_fn: LossFn,
    options: TrainOptions,
) -> tuple[TrainState, dict[str, jax.Array], jax.Array]:
    """The next state, metrics, and whether any process was `asked` to stop: int32 [devices] -> []."""
    step_key = jax.random.fold_in(key, state.step)
    value_and_grad = jax.value_and_grad(loss_fn, has_aux=True)
    (loss, (model_state, metrics)), grads = value_and_grad(state.params, state.model_state, step_key, batch, frozen)
    updates, opt_state = options.optimizer().update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    decay = ema_decay(state.step, options.ema_power, options.ema_max)
    ema = jax.tree.map(lambda average, new: decay * average + (1 - decay) * new, state.ema, params)
    metrics = {"loss": loss, "grad_norm": optax.tree.norm(grads), **metrics}
    share = 1 / jnp.minimum(state.step.astype(jnp.float32) + 1, 100)
    mean_loss = (1 - share) * state.loss + share * loss
    return TrainState(state.step + 1, params, model_state, opt_state, ema, mean_loss), metrics, asked.max()


def _asked_to_stop(mesh: Mesh) -> jax.Array:
    """Whether this process has been asked to stop, on its devices; the others say it on theirs. int32 [devices]."""
    asked = np.full(1, preemption.requested(), np.int32)
    return jax.make_array_from_callback((mesh.size,), NamedSharding(mesh, PartitionSpec("data")), lambda _: asked)


def fit(
    state: TrainState,
    loss_fn: LossFn,
    batches: Callable[[int], Batch],
    options: TrainOptions,
    key: jax.Array,
    directory: epath.Path,
    name: str,
    frozen: Any = None,
) -> tuple[TrainState, float]:
    """Trains to `options.num_steps`, from the newest checkpoint in `directory` if there is one.

    Args:
      state: the state at step 0 (`init_state`).
      loss_fn: pure; `frozen` reaches it as its last argument.
      batches: step -> host arrays with a common leading axis.
      options: optimizer, length, EMA.
      key: noise of step s comes from fold_in(key, s).
      directory: gets `checkpoints/` (Orbax), `logs/` (TensorBoard) and `time.json`.
      name: shown in the progress line.
      frozen: arrays that the loss reads and nothing changes (a teacher).

    Returns:
      The final state, and the seconds that its training took, earlier runs included up to their last checkpoints.

    Raises:
      TrainingDiverged: if a loss is not finite; checkpoints hold only finite ones.
      Preempted: on all processes, if one has been asked to stop; there is a checkpoint of the last step.
    """
    import orbax.checkpoint as ocp

    mesh = data_mesh()
    saving = ocp.CheckpointManagerOptions(max_to_keep=2, cleanup_tmp_directories=True)
    with (
        ocp.CheckpointManager(absolute(directory / "checkpoints"), options=saving) as checkpoints,
        contextlib.closing(ScalarLog(directory / "logs")) as writer,
    ):
        clock = directory / "time.json"
        state, frozen, seconds = replicate(state, mesh), replicate(frozen, mesh), 0.0
        if (latest := checkpoints.latest_step()) is not None:
            state = checkpoints.restore(latest, args=ocp.args.StandardRestore(state))
            seconds = read_json(clock)["seconds"] if clock.exists() else 0.0
        started = time.perf_counter() - seconds
        pending: list[dict[str, jax.Array]] = []
        asked: Any = 0  # read one step late: so the device runs ahead by one step, and every process stops at the same
        with _progress(options, int(state.step), name) as progress:
            for step in range(int(state.step), options.num_steps):
                batch, flags = shard_batch(batches(step), mesh), _asked_to_stop(mesh)
                state, metrics, stop = _train_step(state, key, batch, frozen, flags, loss_fn=loss_fn, options=options)
                pending.append(metrics)
                asked, stopping = stop, bool(asked)
                done = step + 1
                save = stopping or done % options.checkpoint_every == 0 or done == options.num_steps
                if not (save or done % options.log_every == 0):
                    continue
                summary = _checked_mean(jax.device_get(pending), done, name, checkpoints.latest_step() or 0, options)
                pending.clear()
                writer.write_scalars(done, summary)
                progress(done, summary["loss"])
                if save:
                    checkpoints.save(done, args=ocp.args.StandardSave(state))
                    writer.flush()
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
    for i, step_metrics in enumerate(metrics):
        for what in ("loss", "grad_norm"):  # a bad gradient spoils the weights one step before the loss shows it
            if not math.isfinite(step_metrics[what]):
                kept = f"the checkpoint of step {saved} is kept" if saved else "there is no checkpoint yet"
                raise TrainingDiverged(
                    f"{name}: {what} is {step_metrics[what]} at step {done - len(metrics) + i + 1}; {kept}. Train again"
                    f" in another workdir with a lower train.learning_rate than {options.learning_rate}"
                )
    return {key: float(np.mean([m[key] for m in metrics])) for key in metrics[0]}


@contextlib.contextmanager
def _progress(options: TrainOptions, first: int, name: str) -> Iterator[Callable[[int, float], None]]:
    """A progress line: steps, loss, images/s, time left."""
    started = time.perf_counter()
    interval = 0.5 if sys.stderr.isatty() else 30
    with tqdm(
        total=options.num_steps, initial=first, desc=name, unit="step", mininterval=interval, disable=not is_primary()
    ) as bar:

        def update(done: int, loss: float) -> None:
            rate = (done - first) * options.batch_size / (time.perf_counter() - started)
            bar.set_postfix_str(f"loss {loss:.4f}, {rate:.0f} images/s", refresh=False)
            bar.update(done - bar.n)

        yield update
