import jax
import jax.numpy as jnp
import numpy as np
import pytest

from side_jax.diffusion.schedule import Schedule
from side_jax.models.resnet import ARCHITECTURES, ResNet
from side_jax.surrogate.classifier import Classifier
from side_jax.surrogate.distill import agreement_by_noise, distill_loss, kl_divergence


def test_kl_by_hand():
    """KL((½, ½) ‖ (¼, ¾)) = ½ ln 2 + ½ ln ⅔; KL((1, 0) ‖ (¼, ¾)) = ln 4; equal distributions: 0."""
    p = jnp.array([[0.5, 0.5], [1.0, 0.0], [0.25, 0.75]])
    log_q = jnp.log(jnp.array([[0.25, 0.75]] * 3))
    expected = [0.5 * np.log(2) + 0.5 * np.log(2 / 3), np.log(4), 0]
    np.testing.assert_allclose(kl_divergence(p, log_q), expected, atol=1e-6)


def test_gradient_through_certain_labels_is_finite():
    p = jnp.array([[1.0, 0.0]])
    gradient = jax.grad(lambda logits: kl_divergence(p, jax.nn.log_softmax(logits)).sum())(jnp.zeros((1, 2)))
    np.testing.assert_allclose(gradient, [[-0.5, 0.5]], atol=1e-6)


@pytest.fixture
def student():
    net = ResNet(ARCHITECTURES["resnet10_tiny"], 2, time_conditioned=True)
    shapes = jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32)
    return Classifier(net, net.lazy_init(jax.random.key(0), *shapes))


def test_loss_is_the_kl_at_random_t_and_updates_the_statistics(student):
    batch = {"image": jnp.full((16, 8, 8, 1), 200, jnp.uint8), "target": jnp.full((16, 2), 0.5)}
    params, state = student.variables["params"], {"batch_stats": student.variables["batch_stats"]}
    loss_fn = distill_loss(student.net, Schedule().alpha_bar(), flip=False)
    loss, (updated, metrics) = loss_fn(params, state, jax.random.key(1), batch, None)
    assert float(loss) >= 0
    assert 0 <= float(metrics["agreement"]) <= 1
    statistics = [jax.tree.leaves(tree) for tree in (updated["batch_stats"], state["batch_stats"])]
    assert any((a != b).any() for a, b in zip(*statistics, strict=True))
    other, _ = loss_fn(params, state, jax.random.key(2), batch, None)
    assert float(other) != float(loss)


@pytest.mark.parametrize("time_conditioned", [True, False])
def test_hard_targets_are_the_kl_of_certain_ones(student, time_conditioned):
    net = ResNet(student.net.arch, 2, time_conditioned)
    shapes = jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32)
    variables = net.lazy_init(jax.random.key(3), *shapes)
    images = jax.random.randint(jax.random.key(0), (16, 8, 8, 1), 0, 256).astype(jnp.uint8)
    classes = jnp.arange(16, dtype=jnp.int32) % 2
    loss_fn = distill_loss(net, Schedule().alpha_bar(), flip=False)
    state = {"batch_stats": variables["batch_stats"]}
    losses = [
        loss_fn(variables["params"], state, jax.random.key(1), {"image": images, "target": target}, None)
        for target in (classes, jax.nn.one_hot(classes, 2))
    ]
    assert float(losses[0][0]) == pytest.approx(float(losses[1][0]), rel=1e-5)
    assert float(losses[0][1][1]["agreement"]) == float(losses[1][1][1]["agreement"])


def test_time_independent_net_is_trained_on_clean_images(student):
    """Its loss does not depend on the key, from which t and the noise would come."""
    net = ResNet(student.net.arch, 2)
    variables = net.lazy_init(jax.random.key(3), jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32))
    batch = {"image": jnp.full((4, 8, 8, 1), 90, jnp.uint8), "target": jnp.zeros(4, jnp.int32)}
    loss_fn = distill_loss(net, Schedule().alpha_bar(), flip=False)
    state = {"batch_stats": variables["batch_stats"]}
    first, second = (loss_fn(variables["params"], state, jax.random.key(k), batch, None)[0] for k in (1, 2))
    assert float(first) == float(second)


def test_agreement_is_the_share_of_equal_top_classes(student):
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), np.uint8)
    x = jnp.asarray(images.astype(np.float32) / 127.5 - 1)
    clean = np.exp(np.asarray(student.log_prob(x, jnp.zeros(20, jnp.int32))))
    almost_clean = np.full(1000, 1.0, np.float32)  # ᾱ = 1: no noise at any t
    agree = agreement_by_noise(student, images, clean.argmax(1), almost_clean, (0,), jax.random.key(0))
    assert agree == {0: 1.0}
    opposite = agreement_by_noise(student, images, clean.argmin(1), almost_clean, (0,), jax.random.key(0))
    assert opposite == {0: 0.0}
