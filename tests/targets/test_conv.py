from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from side_jax.targets.conv import Conv, conv2d, he_init, torch_init

CASES = [
    (1, 1, 0),
    (1, 2, 0),
    (3, 1, 1),
    (3, 2, 1),
    (3, 2, ((0, 1), (0, 1))),
    (3, 1, ((2, 0), (0, 1))),
    (7, 2, 3),
    (4, 2, 1),
]


def stock(x, w, stride, padding):
    padding = ((padding, padding),) * 2 if isinstance(padding, int) else padding
    return jax.lax.conv_general_dilated(x, w, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


@pytest.mark.parametrize(
    ("sides", "k", "stride", "padding"),
    # A side that the stride does not divide is another program only for a stride of 2.
    [((8, 8), *case) for case in CASES] + [((9, 7), *case) for case in CASES if case[1] == 2],
)
def test_value_and_all_derivatives_equal_the_stock_convolution(sides, k, stride, padding):
    x = jax.random.normal(jax.random.key(0), (2, *sides, 3))
    w = jax.random.normal(jax.random.key(1), (k, k, 3, 5))

    @partial(jax.jit, static_argnums=0)
    def value_and_derivatives(convolution, x, w):
        y, pull = jax.vjp(convolution, x, w)
        _, along = jax.jvp(convolution, (x, w), (jnp.cos(x), jnp.sin(w)))
        return (y, *pull(jax.random.normal(jax.random.key(2), y.shape)), along)

    ours = value_and_derivatives(lambda x, w: conv2d(x, w, stride, padding), x, w)
    theirs = value_and_derivatives(lambda x, w: stock(x, w, stride, padding), x, w)
    for mine, reference, atol in zip(ours, theirs, (2e-5, 1e-4, 1e-4, 1e-4), strict=True):
        np.testing.assert_allclose(mine, reference, atol=atol)


def test_gradient_inside_scan_uses_only_canonical_convolutions():
    """What the fast CPU kernel needs: no dilation, no reversal, NHWC and HWIO, in every convolution of the program."""
    w = jnp.ones((3, 3, 4, 4))

    def descend(x):
        step = lambda x, _: (x - jax.grad(lambda x: conv2d(x, w, 2, 1).sum() + conv2d(x, w, 1, 1).sum())(x), None)
        return jax.lax.scan(step, x, None, length=2)[0]

    text = jax.jit(descend).lower(jnp.ones((1, 8, 8, 4))).as_text()
    convolutions = [line for line in text.splitlines() if "stablehlo.convolution" in line]
    assert len(convolutions) >= 2
    for line in convolutions:
        assert "[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]" in line
        assert "stride = [1, 1]" in line or "stride" not in line
        assert "dilate = [2" not in line
        assert "reverse = [true" not in line and "reverse = [1" not in line


def test_stride_3_is_refused():
    with pytest.raises(ValueError, match="stride must be 1 or 2, got 3"):
        conv2d(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1)), 3)


def test_conv_module_adds_its_bias():
    module = Conv(2)
    variables = {"params": {"kernel": jnp.zeros((3, 3, 1, 2)), "bias": jnp.array([1.0, -2.0])}}
    y = module.apply(variables, jnp.ones((1, 4, 4, 1)))
    assert y.shape == (1, 4, 4, 2)
    np.testing.assert_array_equal(y[0, 0, 0], [1, -2])


def test_initializers_have_the_stated_spread():
    uniform = np.asarray(torch_init(jax.random.key(0), (3, 3, 100, 50)))
    bound = 1 / 30
    assert abs(uniform).max() <= bound
    assert uniform.std() == pytest.approx(bound / np.sqrt(3), rel=0.02)
    normal = np.asarray(he_init(jax.random.key(0), (3, 3, 100, 50)))
    assert normal.std() == pytest.approx(np.sqrt(2 / 450), rel=0.02)
