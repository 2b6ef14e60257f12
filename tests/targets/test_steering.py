import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import side_jax
from side_jax.diffusion.sample import to_float
from side_jax.diffusion.schedule import Schedule
from side_jax.runtime.sharding import index_keys, stage_key
from side_jax.targets import sampling
from side_jax.targets.activations import tap
from side_jax.targets.sampling import Sampler, Sampling, draw_classes
from side_jax.targets.steering import Steering, decoder_blocks, steer, steered_steps
from side_jax.targets.target import Target
from side_jax.targets.unet import UNet

STEPS, BATCH = 4, 2
LAYERS = ("mid_block", "up_blocks.0")


def small_target(num_class_embeds=None):
    """One block each way, of random weights."""
    unet = UNet(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        layers_per_block=1,
        norm_num_groups=4,
        add_attention=False,
        num_class_embeds=num_class_embeds,
    )
    one = jnp.zeros(1, jnp.int32)
    classes = None if num_class_embeds is None else one
    shapes = jax.eval_shape(lambda: unet.lazy_init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)), one, classes))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32), shapes["params"])
    return Target(unet, params, Schedule())


@pytest.fixture(scope="module")
def target():
    return small_target()


@pytest.fixture(scope="module")
def sets():
    rng = np.random.default_rng(0)
    return rng.integers(128, 256, (3, 8, 8, 1), np.uint8), rng.integers(0, 128, (5, 8, 8, 1), np.uint8)


@pytest.fixture(scope="module")
def steering(target, sets):
    """Of steps 2 and 3 of 4."""
    return side_jax.steering_vectors(target, *sets, LAYERS, STEPS, (0.5, 1.0), batch_size=2)


@pytest.mark.parametrize(
    ("window", "num_steps", "first", "last"),
    [((0.5, 0.95), 40, 20, 37), ((0.5, 0.95), 50, 25, 47), ((0.5, 0.95), 3, 2, 2), ((0.0, 1.0), 7, 0, 6)],
)
def test_window_is_the_last_half_but_for_the_last_steps(window, num_steps, first, last):
    assert steered_steps(window, num_steps) == range(first, last + 1)


def test_vectors_are_differences_of_means_over_images_and_space(target, sets, steering):
    """Computed again image by image; the batch of 2 does not divide 3 and 5."""
    assert tuple(steering.vectors) == LAYERS
    np.testing.assert_array_equal(steering.timesteps, [750, 500, 250, 0])
    layer = LAYERS[0]
    pooled = jax.jit(tap(target.eps, (layer,)))

    def mean(images, t):
        keys, total = index_keys(stage_key(0, "steer"), np.arange(len(images))), 0.0
        for key, image in zip(keys, images, strict=True):
            noise = jax.random.normal(jax.random.fold_in(key, t), image.shape)
            times = jnp.array([t], jnp.int32)
            x_t = target.schedule.process().add_noise(to_float(jnp.asarray(image))[None], noise[None], times)
            total = total + pooled(x_t, times)[1][layer].mean((0, 1, 2))
        return total / len(images)

    for step, t in ((2, 250), (3, 0)):
        expected = mean(sets[0], t) - mean(sets[1], t)
        np.testing.assert_allclose(steering.vectors[layer][step], expected, atol=1e-5)
        assert np.abs(expected).max() > 1e-3
    assert all((vectors[:2] == 0).all() and vectors.dtype == np.float32 for vectors in steering.vectors.values())


def test_default_is_every_block_of_the_decoder():
    assert decoder_blocks(side_jax.load_target("assets/orl_target")) == tuple(f"up_blocks.{i}" for i in range(4))


def test_swapped_sets_give_the_opposite_direction(target, sets, steering):
    swapped = side_jax.steering_vectors(target, *sets[::-1], LAYERS, STEPS, (0.5, 1.0), batch_size=2)
    for layer in LAYERS:
        np.testing.assert_allclose(swapped.vectors[layer], -steering.vectors[layer], atol=1e-5)


def test_only_rows_of_a_steered_timestep_are_shifted(target, steering):
    """Each row by its own step's vector; rows of steps outside the window, or of no step, stay as they are."""
    layer = LAYERS[0]
    vectors = steering.vectors[layer]
    t = jnp.array([250, 0, 750, 500, 300], jnp.int32)
    x_t = jax.random.normal(jax.random.key(0), (5, 8, 8, 1))
    steered = steer(target.denoise, {layer: vectors}, steering.timesteps, jnp.float32(-3.0))
    ((_, eps), after), ((_, plain), before) = (jax.jit(tap(f, (layer,)))(x_t, t) for f in (steered, target.denoise))
    added = -3 * np.stack([vectors[2], vectors[3], *np.zeros((3, vectors.shape[1]), np.float32)])
    np.testing.assert_allclose(
        after[layer] - before[layer], np.broadcast_to(added[:, None, None], (5, 8, 8, 8)), atol=1e-4
    )
    np.testing.assert_array_equal(eps[2:], plain[2:])
    assert all(np.abs(eps[i] - plain[i]).max() > 1e-3 for i in range(2))


def test_weight_zero_is_no_steering_to_the_last_bit(target, steering):
    options = {"seed": 1, "num_steps": STEPS, "batch_size": BATCH}
    plain = side_jax.sample(target, 3, **options)
    np.testing.assert_array_equal(side_jax.sample(target, 3, **options, steering=steering), plain)
    sampler = Sampler(target, stage_key(0, "extract"), Sampling(STEPS), steering=steering)
    assert sampler.generator(0.0).steering is None
    moved = side_jax.sample(target, 3, **options, steering=steering, steering_weight=5.0)
    assert np.abs(moved.astype(int) - plain).mean() > 1


def test_one_program_serves_every_weight(target, steering):
    sampler = Sampler(target, stage_key(0, "extract"), Sampling(STEPS, batch_size=BATCH), steering=steering)
    images = [next(sampler(np.arange(2), 0.0, steering_weight=1.0))[1]]
    traced = sampling._sample_batch._cache_size()
    images += [next(sampler(np.arange(2), 0.0, steering_weight=weight))[1] for weight in (-1.0, 8.0)]
    assert sampling._sample_batch._cache_size() == traced
    assert all((one != other).any() for one, other in itertools.pairwise(images))


def test_steered_image_depends_on_its_index_and_not_on_the_batch(target, steering):
    options = {"seed": 3, "num_steps": STEPS, "batch_size": BATCH, "steering": steering, "steering_weight": -2.0}
    whole = side_jax.sample(target, 3, **options)
    later = side_jax.sample(target, 2, first_index=1, **options)
    assert np.abs(later.astype(int) - whole[1:]).max() <= 1


def test_class_conditional_target_is_steered_with_the_classes_of_the_noise(sets):
    """Each set the same image twice, under other noise and another class: where the images agree, nothing is left."""
    target = small_target(num_class_embeds=5)
    layer = decoder_blocks(target)[-1]
    assert len(set(draw_classes(target, index_keys(stage_key(0, "steer"), np.arange(2))).tolist())) == 2
    same, other = (
        side_jax.steering_vectors(target, sets[0][[0, 0]], images[[0, 0]], [layer], STEPS) for images in sets
    )
    assert (same.vectors[layer] == 0).all()
    plain, moved = (
        side_jax.sample(target, 2, num_steps=STEPS, steering=other, steering_weight=weight) for weight in (0.0, 20.0)
    )
    assert (plain != moved).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": ["up_blocks.9"]}, r"layer 'up_blocks.9' does not exist .* it has conv_in, "),
        ({"layers": []}, "layers is empty; name at least one"),
        ({"window": (0.5, 0.6)}, r"window \(0.5, 0.6\) holds none of the 3 steps"),
        ({"window": (0.6, 0.5)}, r"window must be .* got \(0.6, 0.5\)"),
        ({"num_steps": 0}, "num_steps must be 1 to 1000, got 0"),
        ({"positive": np.zeros((1, 8, 8, 1), np.uint8)}, "positive needs at least 2 images for a mean, got 1"),
        ({"negative": np.zeros((2, 8, 8, 3), np.uint8)}, r"negative must be uint8 \[N, 8, 8, 1\], got uint8 \[2,"),
        ({"negative": np.zeros((2, 8, 8, 1))}, r"negative must be .* got float64 \[2, 8, 8, 1\]"),
    ],
)
def test_bad_arguments_are_named(target, sets, change, message):
    options = {"positive": sets[0], "negative": sets[1], "num_steps": 3}
    with pytest.raises(ValueError, match=message):
        side_jax.steering_vectors(target, **(options | change))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_steps": 5}, r"made for the 4 timesteps 750 … 0, the sampler takes 5: 800 … 0"),
        ({"steering_weight": np.inf}, "steering_weight must be 0 without steering and finite with it, got inf"),
        ({"steering": None}, "steering_weight must be 0 without steering and finite with it, got 1.0"),
    ],
)
def test_steering_that_does_not_fit_is_refused(target, steering, options, message):
    options = {"num_steps": STEPS, "steering": steering, "steering_weight": 1.0} | options
    with pytest.raises(ValueError, match=message):
        side_jax.sample(target, 2, **options)


def test_steering_of_another_target_is_refused(target, steering):
    layer = LAYERS[0]
    wide = Steering({layer: np.zeros((STEPS, 3), np.float32)}, steering.timesteps)
    with pytest.raises(ValueError, match=rf"layer '{layer}' is \(4, 3\), the target needs \(4, \d+\)"):
        wide.check(target, STEPS)
    with pytest.raises(ValueError, match="layer 'up_blocks.8' does not exist"):
        Steering({"up_blocks.8": np.zeros((STEPS, 3), np.float32)}, steering.timesteps).check(target, STEPS)
