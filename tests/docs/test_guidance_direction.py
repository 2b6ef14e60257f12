import jax.numpy as jnp
import numpy as np
import pytest

import side_jax
from docs.guidance.direction import Turned
from side_jax.diffusion.guide import Guide


@pytest.fixture(scope="module")
def guide():
    target = side_jax.load_target("assets/orl_target")
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 1), np.uint8)
    return side_jax.exact_guide(target, images, np.arange(6) % 3)


@pytest.mark.parametrize("direction", ["upside_down", "random"])
def test_turned_gradient_is_as_long_in_every_image_and_leads_elsewhere(guide, direction):
    turned = Turned(guide, direction)
    assert isinstance(turned, Guide)
    x_t = jnp.asarray(np.random.default_rng(1).normal(size=(3, 32, 32, 1)), jnp.float32)
    t, labels = jnp.array([300, 500, 700]), jnp.array([0, 1, 2])
    own, other = (np.asarray(one.gradient(x_t, t, labels)).reshape(3, -1) for one in (guide, turned))
    lengths = np.linalg.norm(own, axis=1)
    assert lengths.min() > 0
    np.testing.assert_allclose(np.linalg.norm(other, axis=1), lengths, rtol=1e-4)
    assert np.abs((own * other).sum(1) / lengths**2).max() < 0.2
    np.testing.assert_array_equal(turned.log_prob(x_t, t), guide.log_prob(x_t, t))
