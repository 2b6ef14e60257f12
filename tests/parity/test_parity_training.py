import jax.numpy as jnp
import numpy as np
import pytest

from side_jax.runtime.training import TrainOptions, ema_decay
from tests.golden import train as torch_train
from tests.golden.ours import BANDS, our_scores, train
from tests.golden.scores import plain_scores, random_scores

pytestmark = pytest.mark.optax


@pytest.mark.parametrize(("warmup", "steps"), [*torch_train.SCHEDULES, (7, 311)])
def test_learning_rates_equal_diffusers(warmup, steps, compare):
    schedule = TrainOptions(num_steps=steps, batch_size=1, learning_rate=1.0, warmup_steps=warmup).schedule()
    theirs = torch_train.learning_rates(warmup, steps)
    compare("learning rate of every step, peak 1", f"{warmup}/{steps}", schedule(jnp.arange(steps)), theirs, 1e-6)


def test_ema_decay_of_every_step_equals_diffusers(compare):
    ours = ema_decay(jnp.arange(torch_train.EMA_STEPS), torch_train.EMA_POWER, torch_train.EMA_MAX)
    compare("EMA decay against EMAModel", f"{torch_train.EMA_STEPS:,} steps", ours, torch_train.ema_decays(1), 1e-6)


@pytest.mark.parametrize("seed", [1, 2])
def test_training_follows_torch_step_by_step(seed, compare):
    theirs = torch_train.trajectory(seed)
    ours = train(TrainOptions(**torch_train.OPTIONS), theirs["x"], theirs["y"], theirs["start"])
    compare("60 steps of training: weights", f"seed {seed}", ours[0], theirs["weights"], 1e-4)
    compare("60 steps of training: their average", f"seed {seed}", ours[1], theirs["averages"], 1e-4)


@pytest.mark.parametrize("seed", range(3, 8))
def test_scores_equal_a_plain_reading(seed, compare):
    scores = random_scores(seed)
    ours, theirs = (np.array([read(scores, *band) for band in BANDS]) for read in (our_scores, plain_scores))
    compare("AMS, UMS, UMS_all against NumPy, with ties", f"seed {seed}", ours, theirs, 0.0)
