import dataclasses
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etils import epath

from side_jax.runtime import preemption, training
from side_jax.runtime.declare import build
from side_jax.runtime.training import Loss, TrainingDiverged, TrainOptions, epoch_batches, fit, init_state, random_flip
from tests.golden.ours import GOLDEN, difference, train

pytestmark = pytest.mark.optax

OPTIONS = TrainOptions(
    num_steps=12, batch_size=4, learning_rate=0.1, warmup_steps=2, ema_power=0.75, checkpoint_every=4, log_every=2
)
DATA = {"x": np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)}


def noisy_regression(params, model_state, key, batch, frozen):
    """Noise from the step's key, state that counts steps, and a frozen array: all that a resume must restore."""
    prediction = batch["x"] @ params["w"] + 0.1 * jax.random.normal(key, batch["x"].shape[:1])
    loss = jnp.square(prediction - batch["x"] @ frozen).mean()
    return loss, ({"batch_stats": {"count": model_state["batch_stats"]["count"] + 1}}, {"error": loss})


def start():
    return init_state({"params": {"w": jnp.zeros(3)}, "batch_stats": {"count": jnp.zeros(())}}, OPTIONS)


def run(folder, loss_fn=noisy_regression, options=OPTIONS):
    batches = epoch_batches(DATA, options.batch_size, seed=0)
    loss = Loss(loss_fn, jax.random.key(0), jnp.array([1.0, 2.0, 3.0]))
    return fit(start(), loss, batches, options, epath.Path(folder), "test")[0]


class Killed(BaseException):
    """A kill that no handler in the library may swallow."""


@pytest.mark.parametrize("killed_at", [3, 4, 5, 11])
def test_resumed_training_equals_uninterrupted(tmp_path, monkeypatch, killed_at):
    """Bit for bit: parameters, optimizer, EMA, statistics, step, mean loss."""
    expected = run(tmp_path / "whole")
    real, count = training._train_step, 0

    def dying(*args, **kwargs):
        nonlocal count
        count += 1
        if count > killed_at:
            raise Killed
        return real(*args, **kwargs)

    monkeypatch.setattr(training, "_train_step", dying)
    with pytest.raises(Killed):
        run(tmp_path / "killed")
    monkeypatch.setattr(training, "_train_step", real)
    resumed = run(tmp_path / "killed")
    for ours, theirs in zip(jax.tree.leaves(resumed), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_finished_training_is_not_run_again(tmp_path, monkeypatch):
    expected = run(tmp_path)
    monkeypatch.setattr(training, "_train_step", None)
    np.testing.assert_array_equal(run(tmp_path).params["w"], expected.params["w"])


def test_non_finite_loss_stops_and_keeps_the_last_good_checkpoint(tmp_path):
    def explodes(params, model_state, key, batch, frozen):
        loss, aux = noisy_regression(params, model_state, key, batch, frozen)
        return loss + jnp.where(model_state["batch_stats"]["count"] >= 6, jnp.inf, 0), aux

    with pytest.raises(TrainingDiverged, match=r"loss is inf at step 7; the checkpoint of step 4 is kept.*than 0.1"):
        run(tmp_path, explodes)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["4"]


def test_non_finite_gradient_is_noticed_before_its_weights_are_saved(tmp_path):
    """The square root's derivative is infinite where its value, the loss, is still 0."""

    def steep(params, model_state, key, batch, frozen):
        loss, aux = noisy_regression(params, model_state, key, batch, frozen)
        one = jnp.where(model_state["batch_stats"]["count"] == 3, 0.0, 1.0)
        return loss + jnp.sqrt(0.0 * params["w"].sum() + one) - one, aux

    with pytest.raises(TrainingDiverged, match="grad_norm is nan at step 4; there is no checkpoint yet"):
        run(tmp_path, steep)


def test_learning_rate_is_diffusers_cosine_with_warmup():
    """get_cosine_schedule_with_warmup: s/warmup, then ½(1 + cos π·progress)."""
    options = TrainOptions(num_steps=10, batch_size=1, learning_rate=1.0, warmup_steps=4, weight_decay=0, clip_norm=1e9)
    optimizer = options.optimizer()
    params = jnp.zeros(())
    state, rates = optimizer.init(params), []
    for _ in range(10):
        # A constant gradient makes Adam's step the learning rate itself.
        update, state = optimizer.update(jnp.ones(()), state, params)
        rates.append(-float(update))
    expected = [s / 4 for s in range(4)] + [0.5 * (1 + np.cos(np.pi * s / 6)) for s in range(6)]
    np.testing.assert_allclose(rates, expected, atol=1e-4)


def test_ema_follows_the_parameters(tmp_path):
    """Recomputed from every step's parameters."""
    seen = []

    def recording(*args, **kwargs):
        stepped = real(*args, **kwargs)
        seen.append(np.asarray(stepped[0].params["w"]))
        return stepped

    real = training._train_step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_train_step", recording)
        state = run(tmp_path)
    average = np.zeros(3)
    for step, w in enumerate(seen):
        decay = min(0.9999, 1 - (1 + step) ** -0.75)
        average = decay * average + (1 - decay) * w
    np.testing.assert_allclose(state.ema["w"], average, rtol=1e-5)


def test_every_epoch_holds_every_image_once():
    batch = epoch_batches({"x": np.arange(10)}, 4, seed=0)
    order = np.concatenate([batch(step)["x"] for step in range(5)])
    for epoch in (order[:10], order[10:]):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(10))
    assert (order[:10] != order[10:]).any()
    np.testing.assert_array_equal(batch(3)["x"], epoch_batches({"x": np.arange(10)}, 4, seed=0)(3)["x"])


def test_batch_larger_than_the_data_spans_epochs():
    x = epoch_batches({"x": np.arange(3)}, 8, seed=0)(0)["x"]
    assert sorted(x[:3].tolist()) == sorted(x[3:6].tolist()) == [0, 1, 2]


def test_flip_mirrors_half_of_the_images():
    images = jnp.arange(4.0).reshape(1, 1, 4, 1).repeat(400, axis=0)
    flipped = np.asarray(random_flip(jax.random.key(0), images))[:, 0, :, 0]
    mirrored = (flipped == [3, 2, 1, 0]).all(1)
    assert (mirrored | (flipped == [0, 1, 2, 3]).all(1)).all()
    assert 150 < mirrored.sum() < 250


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_steps": 0}, "train.num_steps must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "train.learning_rate must be above 0"),
        ({"warmup_steps": 12}, r"train.warmup_steps must be 0 or more and below num_steps \(12\), got 12"),
    ],
)
def test_bad_options_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        build(TrainOptions, dataclasses.asdict(OPTIONS) | {"num_steps": 12} | change, "train")


def test_gradient_is_clipped():
    options = functools.partial(TrainOptions, num_steps=1, batch_size=1, learning_rate=1.0, weight_decay=0)
    clip = options(clip_norm=1.0).optimizer()
    tree = {"a": jnp.array([30.0]), "b": jnp.array([40.0])}
    clipped, _ = optax.clip_by_global_norm(1.0).update(tree, optax.EmptyState())
    np.testing.assert_allclose([clipped["a"][0], clipped["b"][0]], [0.6, 0.8], rtol=1e-5)
    moments = clip.update(tree, clip.init(tree), tree)[1][1][0].mu
    np.testing.assert_allclose([moments["a"][0], moments["b"][0]], [0.06, 0.08], rtol=1e-5)


@pytest.mark.parametrize(("warmup", "steps"), [(500, 3000), (10, 60), (0, 25)])
def test_learning_rate_of_every_step_equals_diffusers_cosine_schedule(warmup, steps):
    golden = np.load(GOLDEN / "train.npz")[f"rates_{warmup}_{steps}"]
    schedule = TrainOptions(num_steps=steps, batch_size=1, learning_rate=1.0, warmup_steps=warmup).schedule()
    assert difference(schedule(jnp.arange(steps)), golden) <= 1e-6


def test_weights_and_their_average_follow_torch_and_diffusers_step_by_step():
    golden = np.load(GOLDEN / "train.npz")
    options = TrainOptions(**json.loads(str(golden["options"])))
    weights, averages = train(options, golden["x"], golden["y"], golden["start"])
    assert difference(weights, golden["weights"]) <= 1e-4
    assert difference(averages, golden["averages"]) <= 1e-4


@pytest.mark.parametrize("asked_at", [0, 3, 6, 10])
def test_training_that_was_asked_to_stop_resumes_to_the_same_bits(tmp_path, monkeypatch, asked_at):
    """At most two steps later there is a checkpoint of the step where it stopped, and nothing is done twice."""
    expected = run(tmp_path / "whole")
    real, steps = training._train_step, []

    def counting(state, *args, **kwargs):
        steps.append(int(state.step))
        return real(state, *args, **kwargs)

    monkeypatch.setattr(training, "_train_step", counting)
    monkeypatch.setattr(preemption, "requested", lambda: len(steps) >= asked_at)
    with pytest.raises(preemption.Preempted):
        run(tmp_path / "stopped")
    assert len(steps) <= asked_at + 2
    assert (tmp_path / "stopped" / "checkpoints" / str(len(steps))).exists()
    monkeypatch.setattr(preemption, "requested", lambda: False)
    resumed = run(tmp_path / "stopped")
    assert steps == list(range(12))
    for ours, theirs in zip(jax.tree.leaves(resumed), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_1_2_and_8_devices_see_the_same_batches_and_losses(tmp_path):
    """A process for each: the number of devices is fixed once JAX has started."""
    results = {}
    for devices in (1, 2, 8):
        done = subprocess.run(
            [sys.executable, "-m", "tests.runtime.train_process", str(tmp_path / str(devices)), "-1", "0"],
            env=os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "PYTHONPATH": ".", "JAX_PLATFORMS": "cpu"},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        results[devices] = json.loads(done.stdout.splitlines()[-1])
        assert all(len(shards) == devices for shards in results[devices]["batches"])
    alone = results[1]
    for several in (results[2], results[8]):
        for (whole,), shards in zip(alone["batches"], several["batches"], strict=True):
            assert [row for shard in shards for row in shard] == whole
        np.testing.assert_allclose(several["losses"], alone["losses"], rtol=1e-5)
        np.testing.assert_allclose(several["ema"], alone["ema"], rtol=1e-5)
