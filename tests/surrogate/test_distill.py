from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from side_jax.diffusion.process import Process
from side_jax.diffusion.schedule import Schedule
from side_jax.runtime.training import init_variables
from side_jax.surrogate import distill
from side_jax.surrogate.classifier import Classifier
from side_jax.surrogate.distill import Known, agreement_by_noise, distill_loss, kl_divergence, undecided_density
from side_jax.surrogate.exact import make_exact_guide
from side_jax.surrogate.resnet import ARCHITECTURES, ResNet

KNOWN = Known(Schedule().process())


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
    return Classifier(net, init_variables(net, jax.random.key(0), shapes))


def test_loss_is_the_kl_at_random_t_and_updates_the_statistics(student):
    batch = {"image": jnp.full((16, 8, 8, 1), 200, jnp.uint8), "target": jnp.full((16, 2), 0.5)}
    params, state = student.variables["params"], {"batch_stats": student.variables["batch_stats"]}
    loss_fn = jax.jit(distill_loss(student.net, flip=False))
    loss, (updated, metrics) = loss_fn(params, state, jax.random.key(1), batch, KNOWN)
    assert float(loss) >= 0
    assert 0 <= float(metrics["agreement"]) <= 1
    statistics = [jax.tree.leaves(tree) for tree in (updated["batch_stats"], state["batch_stats"])]
    assert any((a != b).any() for a, b in zip(*statistics, strict=True))
    other, _ = loss_fn(params, state, jax.random.key(2), batch, KNOWN)
    assert float(other) != float(loss)


@pytest.mark.parametrize("time_conditioned", [True, False])
def test_hard_targets_are_the_kl_of_certain_ones(student, time_conditioned):
    net = ResNet(student.net.arch, 2, time_conditioned)
    shapes = jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32)
    variables = init_variables(net, jax.random.key(3), shapes)
    images = jax.random.randint(jax.random.key(0), (16, 8, 8, 1), 0, 256).astype(jnp.uint8)
    classes = jnp.arange(16, dtype=jnp.int32) % 2
    loss_fn = jax.jit(distill_loss(net, flip=False))
    state = {"batch_stats": variables["batch_stats"]}
    losses = [
        loss_fn(variables["params"], state, jax.random.key(1), {"image": images, "target": target}, KNOWN)
        for target in (classes, jax.nn.one_hot(classes, 2))
    ]
    assert float(losses[0][0]) == pytest.approx(float(losses[1][0]), rel=1e-5)
    assert float(losses[0][1][1]["agreement"]) == float(losses[1][1][1]["agreement"])


def test_time_independent_net_is_trained_on_clean_images(student):
    """Its loss does not depend on the key, from which t and the noise would come."""
    net = ResNet(student.net.arch, 2)
    variables = init_variables(net, jax.random.key(3), (jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32),))
    batch = {"image": jnp.full((4, 8, 8, 1), 90, jnp.uint8), "target": jnp.zeros(4, jnp.int32)}
    loss_fn = distill_loss(net, flip=False)
    state = {"batch_stats": variables["batch_stats"]}
    first, second = (loss_fn(variables["params"], state, jax.random.key(k), batch, KNOWN)[0] for k in (1, 2))
    assert float(first) == float(second)


@flax.struct.dataclass
class Watched(Classifier):
    """A classifier whose log-probabilities are those of a function of its variables, x_t and t."""

    function: Callable = flax.struct.field(pytree_node=False, default=None)

    def log_prob(self, x_t, t):
        return self.function(self.variables, x_t, t)


def test_agreement_is_the_share_of_equal_top_classes(student):
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), np.uint8)
    x = jnp.asarray(images.astype(np.float32) / 127.5 - 1)
    clean = np.exp(np.asarray(student.log_prob(x, jnp.zeros(20, jnp.int32))))
    clean_process = Process(np.full(1000, 1.0, np.float32))  # ᾱ = 1: no noise at any t
    agree = agreement_by_noise(student, images, clean.argmax(1), clean_process, (0,), jax.random.key(0))
    assert agree == {0: 1.0}
    opposite = agreement_by_noise(student, images, clean.argmin(1), clean_process, (0,), jax.random.key(0))
    assert opposite == {0: 0.0}


@pytest.mark.parametrize("size", [1, 8, 23, 256])
def test_agreement_does_not_depend_on_the_batch_and_never_has_more_on_the_device(student, size, monkeypatch):
    """23 images, half of them with their own top class: the last batch is filled up, and the filling not counted."""
    images = np.random.default_rng(0).integers(0, 256, (23, 8, 8, 1), np.uint8)
    labels, given = np.arange(23, dtype=np.int32) % 2, []

    def log_prob(variables, x_t, t):
        given.extend([x_t.shape, t.shape])
        return Classifier(student.net, variables).log_prob(x_t, t)

    arguments = images, labels, Schedule().process(), (0, 400, 999), jax.random.key(3)
    monkeypatch.setattr(distill, "AGREEMENT_BATCH", 5)
    expected = agreement_by_noise(student, *arguments)
    monkeypatch.setattr(distill, "AGREEMENT_BATCH", size)
    assert agreement_by_noise(Watched(student.net, student.variables, function=log_prob), *arguments) == expected
    assert {shape[0] for shape in given} == {min(size, 23)}
    assert len(given) == 2  # one program for all batches and levels


def test_noise_of_an_image_in_agreement_is_its_own_and_the_same_at_every_level(student, monkeypatch):
    """x_t of white images, by hand: √ᾱ + √(1 − ᾱ) ε with ε from the image's own key."""
    alpha_bar, key, seen = np.array([0.25, 0.81], np.float32), jax.random.key(5), []

    def log_prob(variables, x_t, t):
        jax.debug.callback(lambda *found: seen.append(found), x_t, t, ordered=True)
        return jnp.zeros((x_t.shape[0], 2))

    images, labels = np.full((5, 4, 4, 1), 255, np.uint8), np.zeros(5, np.int32)
    monkeypatch.setattr(distill, "AGREEMENT_BATCH", 2)
    guide = Watched(student.net, {}, function=log_prob)
    assert agreement_by_noise(guide, images, labels, Process(alpha_bar), (0, 1), key) == {0: 1.0, 1: 1.0}
    jax.effects_barrier()
    eps = np.stack([jax.random.normal(jax.random.fold_in(key, i), (4, 4, 1)) for i in (0, 1, 2, 3, 4, 4)])
    for batch, (x_t, t) in enumerate(seen):
        np.testing.assert_array_equal(t, batch % 2)
        a = alpha_bar[batch % 2]
        rows = slice(2 * (batch // 2), 2 * (batch // 2) + 2)
        np.testing.assert_allclose(x_t, np.sqrt(a) + np.sqrt(1 - a) * eps[rows], atol=1e-5)
    assert len(seen) == 6


def test_arrays_of_a_guide_are_arguments_of_the_program(student):
    """And not constants in it: the guide is on the device once."""
    images, labels = np.zeros((4, 8, 8, 1), np.uint8), np.zeros(4, np.int32)
    traced = []

    def log_prob(variables, x_t, t):
        traced.extend(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(variables))
        return Classifier(student.net, variables).log_prob(x_t, t)

    guide = Watched(student.net, student.variables, function=log_prob)
    arguments = images, labels, Schedule().process(), (0, 500), jax.random.key(0)
    assert agreement_by_noise(guide, *arguments) == agreement_by_noise(student, *arguments)
    assert traced
    assert all(traced)


def test_posterior_targets_are_the_exact_guides_and_no_others():
    """With one image that has no competitor the posterior is its label at every t: both losses are the same."""
    net = ResNet(ARCHITECTURES["resnet10_tiny"], 3, time_conditioned=True)
    images = np.full((4, 8, 8, 1), 90, np.uint8)
    probs = np.tile(np.array([[0.2, 0.5, 0.3]], np.float32), (4, 1))
    process = Schedule().process()
    variables = net.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)), jnp.zeros(1, jnp.int32))
    state = {"batch_stats": variables["batch_stats"]}
    loss = distill_loss(net, flip=False)
    wrong = {"image": jnp.asarray(images), "target": jnp.asarray(probs[:, ::-1])}
    right = {"image": jnp.asarray(images), "target": jnp.asarray(probs)}
    arguments = variables["params"], state, jax.random.key(1)
    known = Known(process, make_exact_guide(images, probs, process))
    np.testing.assert_allclose(loss(*arguments, wrong, known)[0], loss(*arguments, right, KNOWN)[0], rtol=1e-4)
    assert abs(float(loss(*arguments, wrong, KNOWN)[0] - loss(*arguments, right, KNOWN)[0])) > 1e-3


def test_t_is_drawn_half_uniformly_and_half_where_the_exact_guide_is_undecided():
    density = undecided_density({0: 1.0, 500: 0.5, 999: 0.0}, 1000)
    assert density.sum() == pytest.approx(1, abs=1e-5)
    assert density[0] == pytest.approx(0.0005)
    assert density.argmax() == 500
    np.testing.assert_allclose(undecided_density({0: 1.0, 999: 1.0}, 1000), 0.001)


def test_density_decides_which_t_is_seen(monkeypatch):
    """All its mass is on one t."""
    net, seen = ResNet(ARCHITECTURES["resnet10_tiny"], 3, time_conditioned=True), []

    def spy(net, variables, x, t, train, mutable):
        seen.append(t)
        return jnp.zeros((len(x), 3)), {}

    monkeypatch.setattr(ResNet, "apply", spy)
    batch = {"image": jnp.full((64, 8, 8, 1), 90, jnp.uint8), "target": jnp.zeros(64, jnp.int32)}
    loss = distill_loss(net, flip=False)
    loss({}, {}, jax.random.key(1), batch, Known(Schedule().process(), density=jax.nn.one_hot(417, 1000)))
    np.testing.assert_array_equal(seen[0], 417)
