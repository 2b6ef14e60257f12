"""The gate on the demo's target, and on what a wrong file makes of it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from configs import orl
from side_jax.audit.dataset import load_split
from side_jax.audit.options import AuditOptions
from side_jax.audit.stage import Audit
from side_jax.audit.stages.sanity import SanityStage


@pytest.fixture(scope="module")
def audit(tmp_path_factory):
    config = orl.get_config()
    config.synthesize.update({"num_steps": 10, "batch_size": 16})
    config.sanity.num_images = 16
    options = AuditOptions.from_config(config)
    return Audit(options, tmp_path_factory.mktemp("run"), load_split(options.dataset))


def facts(audit, workdir, change):
    target = audit.target()
    broken = dataclasses.replace(target, params=change(target.params))
    return SanityStage().run(dataclasses.replace(audit, workdir=epath.Path(workdir), _read={"target": broken}))


def one_nan(params):
    leaves, tree = jax.tree.flatten(jax.tree.map(jnp.asarray, params))
    return jax.tree.unflatten(tree, [leaves[0].at[(0,) * leaves[0].ndim].set(jnp.nan), *leaves[1:]])


def random_weights(params):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 0.1, leaf.shape), leaf.dtype), params)


def test_demo_target_passes(audit, tmp_path):
    found = facts(audit, tmp_path, lambda params: params)
    assert found["failed"] == []
    assert found["loss"]["high"] < 0.5
    assert found["photos"] == "held-out"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(
            one_nan,
            "is not finite",
            marks=pytest.mark.given(
                kind=3,
                input="one NaN in a weight",
                before='black or noise pictures, "no sign of copying"',
                now='the sanity check fails: "… is not finite"',
            ),
        ),
        pytest.param(
            lambda params: jax.tree.map(jnp.zeros_like, params),
            "predicting no noise at all has 1",
            marks=pytest.mark.given(
                kind=3,
                input="weights of 0, whose output is constant",
                before='black or noise pictures, "no sign of copying"',
                now='the sanity check fails: "… predicting no noise at all has 1"',
            ),
        ),
        pytest.param(
            random_weights,
            "predicting no noise at all has 1",
            marks=pytest.mark.given(
                kind=3,
                input="random weights",
                before='black or noise pictures, "no sign of copying"',
                now='the sanity check fails: "… predicting no noise at all has 1"',
            ),
        ),
    ],
)
def test_broken_weights_withhold_the_verdict(audit, tmp_path, change, reason):
    assert any(reason in sentence for sentence in facts(audit, tmp_path, change)["failed"])
