"""Whole guided trajectories, at the default options and in every order, against tests/golden/guided.py in torch."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

import side_jax
from side_jax.diffusion.sample import initial_noise, to_uint8
from side_jax.runtime.sharding import index_keys, stage_key
from tests.golden.diffusers_models import NUM_STEPS, TRAINED
from tests.golden.ours import GOLDEN, difference, guided_states, make_guide

GUIDES, ORDERS, LAMBDAS = ("student", "exact"), ("before_guide", "after_guide", "consistent"), (0.5, 2.0, 9.0)


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(GOLDEN / "guided.npz"))


@pytest.fixture(scope="module")
def target():
    return side_jax.load_target(TRAINED)


def states(target, golden, name, order, lam, x_t=None):
    x_t = golden["x"] if x_t is None else x_t
    return guided_states(target, make_guide(target, name, golden), x_t, golden["labels"], order, lam, NUM_STEPS)


@pytest.mark.parametrize("lam", LAMBDAS)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", GUIDES)
def test_guided_trajectory_equals_torch(name, order, lam, target, golden):
    expected = golden[f"{name}_{order}"][golden["lambdas"].tolist().index(lam)]
    ours = states(target, golden, name, order, lam)[golden["kept"] - 1]
    assert golden["kept"][-1] == NUM_STEPS
    assert difference(ours, expected) <= 1e-3


@pytest.mark.parametrize("name", GUIDES)
def test_no_order_or_lambda_passes_for_another(name, golden):
    """Any two of the golden trajectories are ten times the bound apart."""
    trajectories = [golden[f"{name}_{order}"][i] for order in ORDERS for i in range(len(LAMBDAS))]
    for first, second in itertools.combinations(trajectories, 2):
        assert difference(first, second) > 1e-2


def test_public_sample_takes_the_trajectory_that_is_compared(target, golden):
    """`side_jax.sample` at its default options is the default order, from its own noise."""
    guide, labels = make_guide(target, "exact", golden), golden["labels"]
    images = side_jax.sample(target, len(labels), num_steps=NUM_STEPS, guide=guide, labels=labels, scale=9.0)
    x_t = initial_noise(index_keys(stage_key(0, "extract"), np.arange(len(labels))), target.image_shape)
    expected = to_uint8(jnp.asarray(states(target, golden, "exact", "before_guide", 9.0, x_t)[-1]))
    assert difference(images.astype(int), np.asarray(expected, int)) <= 1
