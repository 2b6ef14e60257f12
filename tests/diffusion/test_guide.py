import jax
import jax.numpy as jnp
import numpy as np
import pytest

from side_jax.diffusion.guide import Guide, autodiff_gradient
from side_jax.diffusion.schedule import Schedule
from side_jax.runtime.training import init_variables
from side_jax.surrogate.classifier import Classifier
from side_jax.surrogate.exact import make_exact_guide
from side_jax.surrogate.resnet import ARCHITECTURES, ResNet


def linear_log_prob(x, t):
    """Two classes, logits ± the sum of the pixels."""
    total = x.sum((1, 2, 3))
    return jax.nn.log_softmax(jnp.stack([total, -total], axis=1), axis=-1)


def test_autodiff_gradient_is_that_of_log_probability_by_hand():
    """d/dx log σ(2 Σx) = 2 (1 − σ(2 Σx)) for class 0, −2 σ for class 1; at Σx = 0: +1 and −1."""
    x = jnp.zeros((2, 1, 2, 1))
    g = autodiff_gradient(linear_log_prob, x, jnp.zeros(2, jnp.int32), jnp.array([0, 1]))
    np.testing.assert_allclose(g[:, 0, :, 0], [[1, 1], [-1, -1]], rtol=1e-6)


def test_gradient_of_an_image_does_not_depend_on_the_others():
    x, t = jax.random.normal(jax.random.key(0), (3, 2, 2, 1)), jnp.zeros(3, jnp.int32)
    together = autodiff_gradient(linear_log_prob, x, t, jnp.array([0, 1, 0]))
    alone = autodiff_gradient(linear_log_prob, x[1:2], t[:1], jnp.array([1]))
    np.testing.assert_allclose(together[1:2], alone, rtol=1e-6)


def network():
    net = ResNet(ARCHITECTURES["resnet10_tiny"], 3, time_conditioned=True)
    shapes = jax.ShapeDtypeStruct((1, 8, 8, 1), np.float32), jax.ShapeDtypeStruct((1,), np.int32)
    return Classifier(net, init_variables(net, jax.random.key(0), shapes))


def exact():
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1), np.uint8)
    return make_exact_guide(images, np.arange(6, dtype=np.int32) % 3, Schedule().process(), 4)


@pytest.mark.parametrize("make", [network, exact])
def test_every_guide_keeps_the_interface(make):
    """A pytree of three classes whose gradient is that of its log_prob, and whose layout has its structure."""
    guide = make()
    assert isinstance(guide, Guide)
    assert guide.num_classes == 3
    x_t, t, labels = jax.random.normal(jax.random.key(1), (2, 8, 8, 1)), jnp.array([300, 700]), jnp.array([2, 0])
    log_prob, g = jax.jit(lambda guide: (guide.log_prob(x_t, t), guide.gradient(x_t, t, labels)))(guide)
    np.testing.assert_allclose(jnp.exp(log_prob).sum(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(g, autodiff_gradient(guide.log_prob, x_t, t, labels), rtol=2e-3, atol=1e-5)
    assert jax.tree.structure(guide.layout()) == jax.tree.structure(guide)


def test_network_runs_in_the_dtype_asked_for_and_answers_in_float32():
    x_t, t, labels = jax.random.normal(jax.random.key(1), (2, 8, 8, 1)), jnp.array([300, 700]), jnp.array([2, 0])
    coarse = network().in_dtype(jnp.bfloat16)
    assert coarse.log_prob(x_t, t).dtype == coarse.gradient(x_t, t, labels).dtype == jnp.float32
    assert (coarse.log_prob(x_t, t) != network().log_prob(x_t, t)).any()


def test_exact_guide_stays_float32():
    guide = exact()
    assert guide.in_dtype(jnp.bfloat16) is guide
