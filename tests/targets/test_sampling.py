import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import side_jax
from side_jax.diffusion.schedule import Schedule
from side_jax.runtime.sharding import index_keys, stage_key
from side_jax.runtime.training import init_variables
from side_jax.surrogate.classifier import Classifier
from side_jax.surrogate.resnet import ARCHITECTURES, ResNet
from side_jax.targets import sampling
from side_jax.targets.draw import CLASS_DRAW, draw_balanced, draw_labels
from side_jax.targets.sampling import Sampler, Sampling
from side_jax.targets.target import Network, Target

GOLDEN = Path(__file__).parents[1] / "golden" / "plain"


@pytest.fixture(scope="module")
def target():
    return side_jax.load_target(GOLDEN)


@pytest.fixture(scope="module")
def student():
    net = ResNet(ARCHITECTURES["resnet10_tiny"], 7, time_conditioned=True)
    shapes = jax.ShapeDtypeStruct((1, 16, 16, 1), np.float32), jax.ShapeDtypeStruct((1,), np.int32)
    return Classifier(net, init_variables(net, jax.random.key(0), shapes))


@pytest.fixture(scope="module")
def exact(target):
    images = np.random.default_rng(0).integers(0, 256, (14, 16, 16, 1), np.uint8)
    return side_jax.exact_guide(target, images, np.arange(14) % 7, block=5)


@pytest.fixture(params=[pytest.param("student", marks=pytest.mark.slow), "exact"])
def guide(request):
    return request.getfixturevalue(request.param)


def assert_equal_but_for_rounding(first, second):
    """Different batch shapes may sum in another order: at most one gray level, in at most one pixel of a thousand."""
    difference = np.abs(first.astype(int) - second.astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 1e-3


@pytest.mark.parametrize("name", [None, pytest.param("student", marks=pytest.mark.slow), "exact"])
def test_image_depends_on_seed_and_index_and_not_on_the_batch(target, name, request):
    guided = {"guide": request.getfixturevalue(name), "scale": 4.0} if name else {}
    options = {"num_steps": 4, **guided}
    whole = side_jax.sample(target, 9, seed=3, **options)
    assert whole.shape == (9, 16, 16, 1)
    assert whole.dtype == np.uint8
    for batch_size in (4,) if name else (1, 4):
        assert_equal_but_for_rounding(side_jax.sample(target, 9, seed=3, batch_size=batch_size, **options), whole)
    later = side_jax.sample(target, 4, seed=3, first_index=5, **options)
    assert_equal_but_for_rounding(later, whole[5:])
    assert (side_jax.sample(target, 9, seed=4, **options) != whole).any()


def test_one_program_serves_every_scale_and_label(target, guide):
    sampler = Sampler(target, stage_key(0, "extract"), Sampling(3, batch_size=2), guide)
    indices = np.arange(2)
    list(sampler(indices, 1.0))
    traced = sampling._sample_batch._cache_size()
    for scale in (2.0, 7.5):
        for labels in (None, np.array([0, 6], np.int32)):
            list(sampler(indices, scale, labels))
    assert sampling._sample_batch._cache_size() == traced


def test_curves_are_paired_by_index(target, guide):
    """The same noise and label at every λ: a tiny λ changes an image hardly, and labels not at all."""
    sampler = Sampler(target, stage_key(0, "extract"), Sampling(3, batch_size=4), guide)
    (_, random), (_, guided) = next(sampler(np.arange(4), 0.0)), next(sampler(np.arange(4), 1e-6))
    assert_equal_but_for_rounding(random, guided)
    labels = draw_labels(index_keys(stage_key(0, "extract"), np.arange(4)), 7)
    _, chosen = next(sampler(np.arange(4), 1e-6, np.asarray(labels)))
    np.testing.assert_array_equal(chosen, guided)


class Brightness(nn.Module):
    """Class 0 is bright, class 1 dark."""

    num_classes: int = 2

    def __call__(self, x, t):
        return jnp.stack([x.sum((1, 2, 3)), -x.sum((1, 2, 3))], axis=1) / 10


@pytest.mark.parametrize(
    ("clip_x0", "options"),
    [
        (1.0, {}),
        pytest.param(1.0, {"clip": "consistent"}, marks=pytest.mark.slow),
        pytest.param(None, {}, marks=pytest.mark.slow),
    ],
)
def test_guidance_makes_images_of_its_class(target, clip_x0, options):
    """At the default options too, though this random target clips nearly everywhere (DESIGN §3)."""
    model, guide = dataclasses.replace(target, clip_x0=clip_x0), Classifier(Brightness(), {})

    def brightness(label, scale):
        return side_jax.sample(model, 8, num_steps=10, guide=guide, labels=label, scale=scale, **options).mean()

    random = brightness(0, 0.0)
    assert brightness(0, 0.5) > random + 2
    assert brightness(1, 0.5) < random - 2


def test_labels_are_uniform():
    labels = np.asarray(draw_labels(index_keys(jax.random.key(0), np.arange(7000)), 7))
    assert np.abs(np.bincount(labels) - 1000).max() < 120


class ByClass(Network):
    """Predicts x₀ outright: −1, 0 or 1 everywhere, by class."""

    image_shape = (4, 4, 1)
    num_classes = 3

    def __call__(self, x_t, t, classes=None, dtype=jnp.float32):
        level = (classes - 1).astype(jnp.float32).reshape(-1, 1, 1, 1)
        return jnp.broadcast_to(level, x_t.shape)


def test_class_conditional_target_draws_one_class_per_image_from_its_own_key():
    """With x₀ predicted outright the image is its class: 0, 128 or 255; whatever the batch, and evenly."""
    target = Target(ByClass(), {}, Schedule(prediction_type="sample"))
    images = side_jax.sample(target, 300, seed=1, num_steps=2)
    assert (images == images[:, :1, :1]).all()
    levels, counts = np.unique(images[:, 0, 0, 0], return_counts=True)
    np.testing.assert_array_equal(levels, [0, 128, 255])
    assert counts.min() > 70
    np.testing.assert_array_equal(side_jax.sample(target, 7, seed=1, num_steps=2, first_index=50), images[50:57])


class Silent(Network):
    """Predicts no noise: an image is its own noise, scaled and clipped."""

    image_shape = (4, 4, 1)
    num_classes = None

    def __call__(self, x_t, t, classes=None, dtype=jnp.float32):
        return jnp.zeros_like(x_t)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_noise_of_an_image_is_the_same_to_the_last_bit_in_any_batch(batch_size):
    target = Target(Silent(), {}, Schedule(), clip_x0=None)
    small = dataclasses.replace(target, schedule=Schedule(num_train_timesteps=2))
    for model in (target, small):  # x₀ far out of range, and in range
        whole = side_jax.sample(model, 20, seed=2, num_steps=2, eta=1.0)
        np.testing.assert_array_equal(
            side_jax.sample(model, 20, seed=2, num_steps=2, eta=1.0, batch_size=batch_size), whole
        )
    assert len(np.unique(whole)) > 2


def test_class_of_an_image_is_independent_of_its_label():
    keys = index_keys(jax.random.key(0), np.arange(900))
    labels, classes = draw_labels(keys, 3), draw_labels(keys, 3, CLASS_DRAW)
    pairs = np.bincount(np.asarray(3 * labels + classes), minlength=9)
    assert pairs.min() > 60  # 100 expected


def test_classes_are_needed_where_there_are_any_and_only_there(target):
    unet = dataclasses.replace(target.net, num_class_embeds=5)
    x, t = jnp.zeros((1, 16, 16, 1)), jnp.zeros((1,), jnp.int32)
    with pytest.raises(ValueError, match="num_class_embeds=5 needs classes in 0 … 4, got None"):
        dataclasses.replace(target, net=unet).eps(x, t)
    with pytest.raises(ValueError, match="num_class_embeds=None takes no classes"):
        target.eps(x, t, t)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_guidance_works_from_zero_terminal_snr(target, eta):
    """The first step, where x_t is noise alone, is left unguided and stays finite; ancestral noise included."""
    schedule = Schedule(prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing")
    other = dataclasses.replace(target, schedule=schedule, clip_x0=None)
    guide = Classifier(Brightness(), {})
    bright, dark = (
        side_jax.sample(other, 4, num_steps=5, guide=guide, labels=label, scale=0.5, eta=eta).mean() for label in (0, 1)
    )
    assert bright > dark + 1


def test_default_sequence_is_the_audits(target):
    sampler = Sampler(target, stage_key(5, "extract"), Sampling(3, batch_size=2))
    np.testing.assert_array_equal(side_jax.sample(target, 2, seed=5, num_steps=3), next(sampler(np.arange(2), 0.0))[1])


def test_eight_devices_give_what_one_gives(target, tmp_path):
    one = side_jax.sample(target, 16, seed=1, num_steps=3)
    script = (
        "import sys, jax, numpy as np\n"
        "jax.config.update('jax_num_cpu_devices', 8)\n"
        "import side_jax\n"
        "assert jax.device_count() == 8\n"
        "np.save(sys.argv[2], side_jax.sample(side_jax.load_target(sys.argv[1]), 16, seed=1, num_steps=3))\n"
    )
    file = tmp_path / "eight.npy"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", script, str(GOLDEN), str(file)], check=True, env=environment)
    assert_equal_but_for_rounding(np.load(file), one)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_images": 0}, "num_images must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"first_index": -1}, "first_index must be at least 0, got -1"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"num_steps": 0}, "num_steps must be 1 to 1000, got 0"),
        ({"eta": 2.0}, r"eta must be in \[0, 1\], got 2.0"),
        ({"scale": 1.0}, "scale must be 0 without a guide"),
        ({"labels": 1}, "labels=1 without a guide"),
        ({"clip": "never"}, "clip must be one of before_guide, after_guide, consistent, none, got 'never'"),
    ],
)
def test_bad_arguments_are_named(target, options, message):
    with pytest.raises(ValueError, match=message):
        side_jax.sample(target, **({"num_images": 2, "num_steps": 2} | options))


def test_unknown_class_and_negative_scale_are_named(target, guide):
    with pytest.raises(ValueError, match="labels must be in 0 … 6, got 7"):
        side_jax.sample(target, 2, guide=guide, labels=7, scale=1.0)
    with pytest.raises(ValueError, match=r"got -1"):
        side_jax.sample(target, 2, guide=guide, scale=-1.0)


def test_balanced_draw_has_every_class_once_in_each_round_whatever_the_batch():
    key, classes = jax.random.key(3), 7
    labels = draw_balanced(key, np.arange(21), classes)
    for start in (0, 7, 14):
        assert sorted(labels[start : start + 7]) == list(range(7))
    assert not np.array_equal(labels[:7], labels[7:14])  # another order in every round
    some = np.array([20, 3, 9, 3])
    np.testing.assert_array_equal(draw_balanced(key, some, classes), labels[some])
    assert not np.array_equal(draw_balanced(jax.random.key(4), np.arange(21), classes), labels)
