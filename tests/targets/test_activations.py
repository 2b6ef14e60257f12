import jax
import jax.numpy as jnp
import numpy as np
import pytest

import side_jax
from side_jax.targets.activations import check_layers, decoder_layers, intervene, layer_shapes, tap
from side_jax.targets.layers import GroupNorm

ORL = "assets/orl_target"
HIDDEN = "up_blocks.1.resnets.0.dropout"


@pytest.fixture(scope="module")
def target():
    return side_jax.load_target(ORL)


@pytest.fixture(scope="module")
def batch():
    x_t = jax.random.normal(jax.random.key(0), (2, 32, 32, 1))
    return x_t, jnp.array([10, 500], jnp.int32)


def test_layers_have_diffusers_names_in_running_order(target):
    shapes = layer_shapes(target)
    assert next(iter(shapes)) == "conv_in"
    assert list(shapes)[-1] == "conv_out"
    assert shapes[HIDDEN] == (8, 8, 64)
    assert shapes["down_blocks.3.attentions.0"] == (4, 4, 64)
    assert shapes["up_blocks.0"] == (8, 8, 64)
    assert decoder_layers(target) == tuple(f"up_blocks.{i}.resnets.{j}.dropout" for i in range(4) for j in range(2))


def test_tap_gives_the_input_of_the_second_convolution(target, batch):
    """After the second norm and SiLU: computed again from the norm's own output."""
    eps, found = jax.jit(tap(target.eps, (HIDDEN, "up_blocks.1.resnets.0.norm2")))(*batch)
    np.testing.assert_array_equal(eps, jax.jit(target.eps)(*batch))
    assert set(found) == {HIDDEN, "up_blocks.1.resnets.0.norm2"}
    np.testing.assert_allclose(found[HIDDEN], jax.nn.silu(found["up_blocks.1.resnets.0.norm2"]), rtol=1e-5, atol=1e-6)


def test_a_changed_layer_is_what_later_layers_see(target, batch):
    """Zeros before the last norm leave its bias, whatever the image."""

    def zero(h, t):
        return jnp.zeros_like(h)

    eps, plain = jax.jit(intervene(target.eps, {"up_blocks.3": zero}))(*batch), jax.jit(target.eps)(*batch)
    np.testing.assert_allclose(eps[0], eps[1], atol=1e-6)
    assert not np.allclose(eps, plain)
    same = jax.jit(intervene(target.eps, {HIDDEN: lambda h, t: h}))(*batch)
    np.testing.assert_array_equal(same, plain)


def test_a_change_sees_the_timestep(target, batch):
    def at_500(h, t):
        return jnp.where((t == 500)[:, None, None, None], 0, h)

    changed, plain = jax.jit(intervene(target.eps, {HIDDEN: at_500}))(*batch), jax.jit(target.eps)(*batch)
    np.testing.assert_allclose(changed[0], plain[0], atol=1e-5)
    assert not np.allclose(changed[1], plain[1], atol=1e-2)


def test_modules_outside_the_target_are_not_seen():
    _, found = tap(
        lambda x_t, t: GroupNorm(1, 1e-5).apply({"params": {"scale": jnp.ones(1), "bias": jnp.zeros(1)}}, x_t)
    )(jnp.ones((1, 2, 2, 1)), jnp.zeros(1, jnp.int32))
    assert found == {}


def test_unknown_layer_is_refused_with_those_that_exist(target):
    with pytest.raises(ValueError, match=r"layer 'up_blocks.9' does not exist .* conv_in, .* up_blocks.0.resnets.0"):
        check_layers(target, (HIDDEN, "up_blocks.9"))
