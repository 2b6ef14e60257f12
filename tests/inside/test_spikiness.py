import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import side_jax
from side_jax.diffusion.sample import to_float
from side_jax.diffusion.schedule import Schedule
from side_jax.inside.probe import generation_classes
from side_jax.inside.spikiness import MEASURES, max_pool, measures
from side_jax.runtime.sharding import index_keys, stage_key
from side_jax.targets.activations import decoder_layers, tap
from tests.golden.ours import write_adm

PLAIN = "tests/golden/plain"


@pytest.fixture(scope="module")
def target():
    return side_jax.load_target(PLAIN)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 16, 16, 1), np.uint8)


def test_one_active_unit_of_a_hundred_is_spikier_than_twenty_five():
    """NUMBERS §3: std .0995 and L4/L2 1 against .0866 and .4472, at unit energy."""
    vectors = np.zeros((3, 100), np.float32)
    vectors[0, 7] = 1
    vectors[1, :25] = 0.2
    found = measures(jnp.asarray(vectors))
    np.testing.assert_allclose(found[0], [0.0995, 1, 1], atol=1e-5)
    np.testing.assert_allclose(found[1], [0.0866, 0.4472, 1], atol=1e-4)
    np.testing.assert_array_equal(found[2], 0)  # nothing is active


def test_shape_does_not_depend_on_size_and_size_is_the_norm():
    vector = jnp.asarray(np.random.default_rng(0).random((1, 64)), jnp.float32)
    one, ten = measures(vector)[0], measures(1e10 * vector)[0]
    np.testing.assert_allclose(ten, one * jnp.array([1e10, 1, 1e10]), rtol=1e-5)


def test_pooling_takes_the_highest_of_every_channel():
    h = jnp.zeros((2, 3, 3, 2), jnp.bfloat16).at[0, 1, 2, 0].set(5).at[1, 0, 0, 1].set(-1).at[1, 2, 2, 0].set(2)
    pooled = max_pool(h)
    assert pooled.dtype == jnp.float32
    np.testing.assert_array_equal(pooled, [[5, 0], [2, 0]])


def test_spikiness_and_loss_are_those_of_one_forward_with_the_images_own_noise(target, images):
    layers = decoder_layers(target)
    found = side_jax.spikiness(target, images, timesteps=(10, 300), num_noises=2, seed=3)
    assert found.layers == layers
    assert found.values.shape == (5, len(layers), 2, 2, 3)
    assert found.loss.shape == (5, 2, 2)
    key = index_keys(stage_key(3, "detect"), np.array([4]))[0]
    eps = jax.random.normal(jax.random.fold_in(key, 1), (1, 16, 16, 1))
    t = jnp.array([300])
    x_t = target.schedule.process().add_noise(to_float(jnp.asarray(images[4:])), eps, t)
    eps_hat, hidden = jax.jit(tap(target.eps, layers))(x_t, t)
    np.testing.assert_allclose(found.loss[4, 1, 1], jnp.square(eps - eps_hat).mean(), rtol=1e-5)
    for i, layer in enumerate(layers):
        pooled = np.asarray(hidden[layer]).max((1, 2))[0]
        expected = [pooled.std(), (pooled**4).sum() ** 0.25 / np.linalg.norm(pooled), np.linalg.norm(pooled)]
        np.testing.assert_allclose(found.values[4, i, 1, 1], expected, rtol=1e-4)
    np.testing.assert_array_equal(found.measure("l4_l2"), found.values[..., MEASURES.index("l4_l2")])


def test_result_depends_on_seed_and_index_and_not_on_the_batch(target, images):
    whole = side_jax.spikiness(target, images)
    rest = side_jax.spikiness(target, images[2:], first_index=2, batch_size=2)
    np.testing.assert_allclose(rest.values, whole.values[2:], rtol=1e-5)
    np.testing.assert_allclose(rest.loss, whole.loss[2:], rtol=1e-5)
    assert not np.allclose(side_jax.spikiness(target, images, seed=1).loss, whole.loss, rtol=1e-3)


def test_class_conditional_target_is_asked_in_the_class_that_generated_the_image(tmp_path):
    """ADM's golden model has classes and a learned variance; images 0 … are those of `sample` with the same seed."""
    target = side_jax.load_target(write_adm(tmp_path, "updown"))
    images = np.random.default_rng(0).integers(0, 256, (3, *target.image_shape), np.uint8)
    drawn = generation_classes(target, stage_key(0, "extract"), np.arange(3))
    assert len(set(drawn.tolist())) > 1
    found = side_jax.spikiness(target, images)
    given = side_jax.spikiness(target, images, classes=drawn)
    other = side_jax.spikiness(target, images, classes=np.zeros(3, np.int32))
    np.testing.assert_array_equal(given.values, found.values)
    changed = (other.values != found.values).any((1, 2, 3, 4))
    np.testing.assert_array_equal(changed, drawn != 0)
    with pytest.raises(ValueError, match="classes must be 3 numbers in 0 … "):
        side_jax.spikiness(target, images, classes=np.array([0, 1, 10_000]))


def test_loss_is_of_the_noise_whatever_the_network_predicts(target, images):
    """A network asked for v gives another ε̂, and its loss is still ‖ε − ε̂‖²."""
    other = dataclasses.replace(target, schedule=Schedule(prediction_type="v_prediction"))
    plain, v = (side_jax.spikiness(one, images, timesteps=(500,)) for one in (target, other))
    np.testing.assert_array_equal(v.values, plain.values)
    eps = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, 0), (16, 16, 1)))(
        index_keys(stage_key(0, "detect"), np.arange(5))
    )
    t = jnp.full(5, 500)
    x_t = other.schedule.process().add_noise(to_float(jnp.asarray(images)), eps, t)
    np.testing.assert_allclose(v.loss[:, 0, 0], jnp.square(eps - jax.jit(other.eps)(x_t, t)).mean((1, 2, 3)), rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": ("up_blocks.9",)}, "layer 'up_blocks.9' does not exist in this target; it has conv_in, "),
        ({"layers": ()}, "layers is empty"),
        ({"timesteps": (10, 1000)}, "timesteps must be in 0 … 999, got t = 1000"),
        ({"timesteps": (-1,)}, "timesteps must be in 0 … 999, got t = -1"),
        ({"timesteps": ()}, "timesteps must be in 0 … 999, got none"),
        ({"images": np.zeros((0, 16, 16, 1), np.uint8)}, "images is empty; at least 1 is needed"),
        ({"images": np.zeros((2, 8, 8, 1), np.uint8)}, r"must be uint8 \[N, 16, 16, 1\], got uint8 \[2, 8, 8, 1\]"),
        ({"images": np.zeros((2, 16, 16, 1), np.float32)}, r"images must be uint8 .*, got float32 \[2, 16, 16, 1\]"),
        ({"classes": np.zeros(5, np.int32)}, "the target is not class-conditional; leave them out"),
        ({"num_noises": 0}, "num_noises must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_bad_input_is_named_before_any_compute(target, images, arguments, message):
    with pytest.raises(ValueError, match=message):
        side_jax.spikiness(target, **({"images": images} | arguments))
