"""One step of everything, for every config; configs/smoke.py is tests/test_pipeline.py's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default, orl
from side_jax import pipeline
from side_jax.options import AuditOptions
from side_jax.target import target_loss
from side_jax.training import _train_step, init_state

pytestmark = pytest.mark.optax


def test_one_step_of_the_orl_config(tmp_path):
    config = orl.get_config()
    config.synthesize.update({"num_images": 4, "num_steps": 1, "batch_size": 4})
    for train in (config.labels.train, config.classifier.train):
        train.update({"num_steps": 1, "batch_size": 4, "warmup_steps": 0})
    config.extract.update({"scales": (0.0, 5.0), "num_images": 4, "num_steps": 1, "batch_size": 4})
    workdir = pipeline.run(config, tmp_path / "run")
    assert (workdir / "report.html").stat().length > 10_000


@pytest.mark.slow
def test_one_training_step_of_the_default_config():
    options = AuditOptions.from_config(default.get_config()).target
    unet, schedule = options.make_unet(128, 3), options.make_schedule()
    shapes = jax.ShapeDtypeStruct((1, 128, 128, 3), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32)
    state = init_state(unet.lazy_init(jax.random.key(0), *shapes), options.train)
    batch = {"image": np.zeros((1, 128, 128, 3), np.uint8)}
    loss_fn = target_loss(unet, schedule, options.train.flip)
    state, metrics = _train_step(state, jax.random.key(0), batch, None, loss_fn=loss_fn, options=options.train)
    assert int(state.step) == 1
    assert 0.5 < float(metrics["loss"]) < 3
