import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

import side_jax
from side_jax.diffusion.guide import autodiff_gradient
from side_jax.diffusion.schedule import Schedule
from side_jax.surrogate.exact import check_labels, exact_guide, make_exact_guide
from side_jax.targets.target import Target
from side_jax.targets.unet import UNet

PROCESS = Schedule().process()
COUNT, CLASSES, SHAPE = 23, 5, (4, 4, 1)


def made(labels="soft", count=COUNT, seed=0):
    """Images and labels."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, *SHAPE), np.uint8)
    if labels == "hard":
        return images, (np.arange(count) % CLASSES).astype(np.int32)
    return images, rng.dirichlet(np.full(CLASSES, 0.2), count).astype(np.float32)


def brute_force(images, labels, x_t, t, classes):
    """log p^t(y | x_t) and its gradient for one class each, in float64 from the definition."""
    alpha_bar = Schedule().alpha_bar().astype(np.float64)[np.asarray(t)]
    x = images.reshape(len(images), -1) / 127.5 - 1
    probs = np.eye(CLASSES)[labels] if labels.ndim == 1 else labels.astype(np.float64)
    log_probs, gradients = [], []
    for row, a, c in zip(np.asarray(x_t, np.float64).reshape(len(x_t), -1), alpha_bar, classes, strict=True):
        distance = -np.square(row - np.sqrt(a) * x).sum(1) / (2 * (1 - a))
        log_w = distance - np.logaddexp.reduce(distance)
        with np.errstate(divide="ignore"):
            joint = log_w[:, None] + np.log(probs)
        log_probs.append(np.logaddexp.reduce(joint, axis=0))
        means = [np.exp(one - np.logaddexp.reduce(one)) @ x for one in (joint[:, c], log_w)]
        gradients.append(np.sqrt(a) / (1 - a) * (means[0] - means[1]))
    return np.array(log_probs), np.array(gradients).reshape(x_t.shape)


def noisy(images, t, seed=1):
    """x_t near some of the images."""
    rng = np.random.default_rng(seed)
    x0 = images[rng.integers(0, len(images), len(t))] / np.float32(127.5) - 1
    return PROCESS.add_noise(jnp.asarray(x0, jnp.float32), jnp.asarray(rng.standard_normal(x0.shape), jnp.float32), t)


T = jnp.array([0, 50, 200, 400, 600, 999])
ASKED = jnp.array([0, 1, 2, 3, 4, 0])


@pytest.mark.parametrize("labels", ["soft", "hard"])
@pytest.mark.parametrize("block", [1, 7, 23, 8192])
def test_log_prob_and_gradient_equal_the_definition_in_float64_whatever_the_block(labels, block):
    images, targets = made(labels)
    guide = make_exact_guide(images, targets, PROCESS, block)
    x_t = noisy(images, T)
    log_prob, gradient = brute_force(images, targets, x_t, T, ASKED)
    np.testing.assert_allclose(jax.jit(guide.log_prob)(x_t, T), log_prob, rtol=2e-4, atol=2e-3)
    found = jax.jit(guide.gradient)(x_t, T, ASKED)
    np.testing.assert_allclose(
        found, gradient, rtol=1e-3, atol=1e-3 * np.abs(gradient).max((1, 2, 3), keepdims=True).min()
    )


@pytest.mark.parametrize("labels", ["soft", "hard"])
def test_gradient_equals_autodiff_of_log_prob(labels):
    images, targets = made(labels)
    guide, t = make_exact_guide(images, targets, PROCESS, 7), jnp.array([200, 400, 600, 800, 999, 300])
    x_t = noisy(images, t)
    expected = autodiff_gradient(guide.log_prob, x_t, t, ASKED)
    np.testing.assert_allclose(guide.gradient(x_t, t, ASKED), expected, rtol=2e-3, atol=1e-4)
    assert np.abs(expected).max() > 1e-2


def test_class_that_is_far_away_still_has_a_gradient():
    """Its weights underflow beside those of the nearest image; its own posterior mean does not: by hand."""
    images = np.stack([np.zeros(SHAPE, np.uint8), np.full(SHAPE, 255, np.uint8)])
    guide = make_exact_guide(images, np.array([0, 1], np.int32), PROCESS)
    x_t = jnp.full((1, *SHAPE), -1.0)
    a = Schedule().alpha_bar()[0]
    expected = np.sqrt(a) / (1 - a) * 2.0  # towards image 1, away from image 0
    np.testing.assert_allclose(guide.gradient(x_t, jnp.array([0]), jnp.array([1])), expected, rtol=1e-4)


def test_image_of_no_class_only_competes():
    """p(c | x_t) = Σ_{i of c} w_i / Σ_i w_i: three images as near, one of them of no class."""
    images = np.zeros((3, *SHAPE), np.uint8)
    guide = make_exact_guide(images, np.array([0, -1, 1], np.int32), PROCESS, block=2)
    found = guide.log_prob(jnp.full((1, *SHAPE), -1.0), jnp.array([500]))
    np.testing.assert_allclose(np.exp(found), [[1 / 3, 1 / 3]], rtol=1e-5)


def test_no_gradient_where_x_t_is_noise_alone():
    schedule = Schedule(rescale_betas_zero_snr=True, prediction_type="v_prediction")
    images, targets = made()
    guide = make_exact_guide(images, targets, schedule.process())
    g = guide.gradient(jnp.ones((1, *SHAPE)), jnp.array([999]), jnp.array([2]))
    np.testing.assert_array_equal(g, 0)


@pytest.mark.parametrize("labels", ["soft", "hard"])
def test_sharded_set_gives_the_same_gradient(labels):
    images, targets = made(labels)
    mesh = Mesh(np.array(jax.devices()), ("data",))
    size = 2 * mesh.size
    t, asked = jnp.resize(T, size), jnp.resize(ASKED, size)
    x_t = noisy(images, t)
    whole = make_exact_guide(images, targets, PROCESS, 4)
    shared = make_exact_guide(images, targets, PROCESS, 4, mesh, sharded=True)
    rows = PartitionSpec("data")
    gradient = jax.shard_map(
        lambda guide, *rest: guide.gradient(*rest),
        mesh=mesh,
        in_specs=(shared.layout(), rows, rows, rows),
        out_specs=rows,
        check_vma=False,
    )
    expected = whole.gradient(x_t, t, asked)
    np.testing.assert_allclose(jax.jit(gradient)(shared, x_t, t, asked), expected, rtol=1e-3, atol=1e-4)


def target():
    unet = UNet(4, 1, 1, (8, 8), ("DownBlock2D",) * 2, ("UpBlock2D",) * 2, layers_per_block=1, norm_num_groups=4)
    return Target(unet, None, Schedule())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x.astype(np.float32), y), "images must be uint8"),
        (lambda x, y: (x[:, :2], y), r"got uint8 \[23, 2, 4, 1\]"),
        (lambda x, y: (x, y[:-1]), "23 images and 22 labels"),
        (lambda x, y: (x, 2 * y), "that sum to 1"),
        (lambda x, y: (x, y * np.nan), "that sum to 1"),
        (lambda x, y: (x, np.where(np.arange(COUNT) % 5 == 2, 0, np.arange(COUNT) % 5)), "class 2 of 5 has no image"),
        (lambda x, y: (x, np.arange(COUNT) - 2), "classes from 0"),
        (lambda x, y: (x, y @ np.diag([1, 1, 0, 1, 1]) / (1 - y[:, 2:3])), "class 2 of 5 has no image"),
    ],
)
def test_bad_sets_are_refused_in_one_line(change, message):
    with pytest.raises(ValueError, match=message) as error:
        exact_guide(target(), *change(*made()))
    assert "\n" not in str(error.value)


def test_block_below_one_is_refused():
    with pytest.raises(ValueError, match="block must be at least 1, got 0"):
        exact_guide(target(), *made(), block=0)


def test_labels_are_kept_as_int32_or_float32():
    images, soft = made()
    assert check_labels(images, soft.astype(np.float64), "x").dtype == np.float32
    assert check_labels(images, (np.arange(COUNT) % 5).astype(np.int64), "x").dtype == np.int32


def test_exact_guide_is_public():
    assert side_jax.exact_guide is exact_guide


def test_last_class_without_an_image_is_refused_too():
    """Hard labels 0 … 4 of 6 classes: without their number the sixth would be forgotten without a word."""
    images, labels = made("hard")
    with pytest.raises(ValueError, match="class 5 of 6 has no image"):
        check_labels(images, labels, "x", 6)
