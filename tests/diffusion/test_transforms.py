import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import side_jax
from side_jax.audit.options import SamplerOptions
from side_jax.diffusion.prediction import Prediction, from_x0
from side_jax.diffusion.process import Level, Process
from side_jax.diffusion.sample import initial_noise, to_uint8
from side_jax.diffusion.schedule import Schedule
from side_jax.diffusion.solvers.ddim import DDIM
from side_jax.diffusion.transforms import CLIP_ORDERS, clip, consistent, fold, guide
from side_jax.runtime.declare import build
from side_jax.runtime.sharding import index_keys, stage_key
from side_jax.surrogate.classifier import Classifier
from side_jax.targets.target import Network, Target
from tests.golden.ours import GOLDEN, difference, guided_noise, write_adm

PROCESS = Process(np.array([0.75, 0.36, 0.0], np.float32))  # σ: .5, .8, 1; α of the second: .6


def says(x0, eps):
    """A target that always says the same."""
    return lambda x_t, t: Prediction(jnp.full_like(x_t, x0), jnp.full_like(x_t, eps))


def push(*g):
    """A guide whose gradient is one number for each image."""
    return lambda x_t, t: jnp.broadcast_to(jnp.array(g, jnp.float32).reshape(-1, 1, 1, 1), x_t.shape)


def images(count=1):
    return jnp.zeros((count, 1, 1, 1))


def test_clipping_changes_x0_and_not_eps():
    found = clip(says(2.67, 0.5), 1.0)(images(), jnp.array([1]))
    assert (found.x0.item(), found.eps.item()) == (1, 0.5)
    assert clip(says(-2.67, 0.5), 2.0)(images(), jnp.array([1])).x0.item() == -2


def test_consistent_eps_follows_from_x0_by_hand():
    """x_t = 2, x̂₀ = 1: ε̂ = (2 − .6)/.8 = 1.75."""
    found = consistent(says(1, 0.5), PROCESS)(images() + 2, jnp.array([1]))
    np.testing.assert_allclose([found.x0.item(), found.eps.item()], [1, 1.75], rtol=1e-6)


def test_guide_moves_x0_and_eps_by_hand():
    """λ = 3, g = ±1, x̂₀ = .2, ε̂ = .1: x̂₀ ± 3 σ²/α, ε̂ ∓ 3 σ; σ²/α = .25/√.75 and .64/.6."""
    found = guide(says(0.2, 0.1), push(1, -1), PROCESS, jnp.float32(3))(images(2), jnp.array([0, 1]))
    np.testing.assert_allclose(found.x0.ravel(), [0.2 + 3 * 0.25 / np.sqrt(0.75), 0.2 - 3 * 0.64 / 0.6], rtol=1e-5)
    np.testing.assert_allclose(found.eps.ravel(), [0.1 - 3 * 0.5, 0.1 + 3 * 0.8], rtol=1e-5)


def test_guide_leaves_what_the_prediction_adds_up_to():
    """α x̂₀ + σ ε̂ before and after, of any prediction at any noise level."""
    process, t = Schedule().process(), jnp.array([0, 1, 200, 400, 980, 999])
    x_t, x0, g = (jax.random.normal(jax.random.key(i), (6, 2, 2, 1)) for i in range(3))
    alpha, sigma = process.at(t)

    def denoise(x_t, t):
        return clip(lambda x_t, t: from_x0(3 * x0, x_t, alpha, sigma), 1.0)(x_t, t)

    plain, moved = denoise(x_t, t), guide(denoise, lambda x_t, t: g, process, jnp.float32(4))(x_t, t)
    before, after = (alpha * found.x0 + sigma * found.eps for found in (plain, moved))
    np.testing.assert_allclose(after, before, atol=2e-5)
    assert np.abs(moved.x0 - plain.x0).max() > 1 and np.abs(moved.eps - plain.eps).max() > 1


def test_lambda_zero_changes_nothing_to_the_last_bit():
    x_t, t = jax.random.normal(jax.random.key(0), (3, 2, 2, 1)), jnp.arange(3)
    denoise = lambda x_t, t: Prediction(jnp.sin(x_t), jnp.cos(x_t))
    found = guide(denoise, push(5, -5, 5), PROCESS, jnp.float32(0))(x_t, t)
    for ours, plain in zip(found, denoise(x_t, t), strict=True):
        np.testing.assert_array_equal(ours, plain)


@pytest.mark.parametrize("g", [1.0, np.inf, np.nan])
def test_no_guidance_where_x_t_is_noise_alone(g):
    """ᾱ = 0: x̂₀ and ε̂ are the target's, and numbers, whatever the guide says; one step before it they move."""
    t = jnp.array([2, 1])
    found = guide(says(0.2, 0.1), push(g, 1.0), PROCESS, jnp.float32(3))(images(2), t)
    np.testing.assert_allclose(found.x0.ravel(), [0.2, 0.2 + 3 * 0.64 / 0.6], rtol=1e-5)
    np.testing.assert_allclose(found.eps.ravel(), [0.1, 0.1 - 3 * 0.8], rtol=1e-5)


def linear_log_prob(x, t):
    """Two classes, logits ± the sum of the pixels."""
    total = x.sum((1, 2, 3))
    return jax.nn.log_softmax(jnp.stack([total, -total], axis=1), axis=-1)


def linear_gradient(x, t, labels):
    """Of `linear_log_prob`, summed up: class 0 lies up in every pixel."""
    return jax.grad(lambda x: jnp.take_along_axis(linear_log_prob(x, t), labels[:, None], 1).sum())(x)


@pytest.mark.parametrize("label", [0, 1])
def test_guidance_moves_x0_towards_the_class(label):
    x, t = jnp.full((1, 2, 2, 1), -0.3), jnp.array([1])
    denoise = lambda x_t, t: from_x0(x_t / 2, x_t, *PROCESS.at(t))
    moved = guide(denoise, functools.partial(linear_gradient, labels=jnp.array([label])), PROCESS, jnp.float32(1))
    before, after = (linear_log_prob(f(x, t).x0, t)[0, label] for f in (denoise, moved))
    assert after > before


def test_gradient_is_taken_at_x_t_and_not_through_the_target():
    """A target whose own derivative is huge leaves the guidance term as it is."""
    steep = lambda x_t, t: Prediction(1e6 * x_t, 1e6 * x_t)
    gradient = functools.partial(linear_gradient, labels=jnp.array([0]))
    found = guide(steep, gradient, PROCESS, jnp.float32(1))(images(), jnp.array([0]))
    np.testing.assert_allclose([found.x0.item(), found.eps.item()], [0.25 / np.sqrt(0.75), -0.5], rtol=1e-5)


def test_guided_noise_equals_torch_autograd_on_the_same_weights(tmp_path):
    golden = np.load(GOLDEN / "guidance.npz")
    target = side_jax.load_target(write_adm(tmp_path, "legacy"))
    log_prob, eps_hat = guided_noise(target, 0, golden["x"], golden["t"], golden["labels"], scale=9.0)
    assert difference(log_prob, jax.nn.log_softmax(golden["logits"])) <= 1e-4
    assert difference(eps_hat, golden["eps_hat"]) <= 1e-4
    assert np.abs(golden["guidance"]).max() > 0.1  # the guide's share is far above the bound


class Adder:
    """A transform that adds 10 to x̂₀ and leaves ε̂, and counts how often it is folded in."""

    def __init__(self):
        self.folded = 0

    def __call__(self, denoise):
        self.folded += 1

        def moved(x_t, t):
            prediction = denoise(x_t, t)
            return prediction._replace(x0=prediction.x0 + 10)

        return moved


@pytest.mark.parametrize(
    ("order", "limit", "x0", "eps"),
    [
        ("before_guide", 1.0, 11, 0.5),  # clip(3) + 10
        ("after_guide", 1.0, 1, 0.5),  # clip(3 + 10)
        ("consistent", 1.0, 11, 1.75),  # as the first, with ε̂ = (2 − .6 · 1)/.8 from before the guide
        ("none", 1.0, 13, 0.5),
        *((order, None, 13, 0.5) for order in CLIP_ORDERS),  # the target's scheduler does not clip
        ("before_guide", 2.0, 12, 0.5),
    ],
)
def test_every_order_is_the_composition_that_its_name_says(order, limit, x0, eps):
    """x_t = 2; the target says x̂₀ = 3 and ε̂ = .5, once, and the guide is folded in once."""
    calls, guidance = [], Adder()

    def denoise(x_t, t):
        calls.append(t)
        return says(3, 0.5)(x_t, t)

    found = fold(denoise, order, limit, PROCESS, guidance)(images() + 2, jnp.array([1]))
    np.testing.assert_allclose([found.x0.item(), found.eps.item()], [x0, eps], rtol=1e-6)
    assert (len(calls), guidance.folded) == (1, 1)


def test_orders_are_named_with_the_default_first():
    assert CLIP_ORDERS == ("before_guide", "after_guide", "consistent", "none")


def test_unknown_orders_are_refused_in_one_line():
    known = "before_guide, after_guide, consistent, none, got 'sideways'"
    with pytest.raises(ValueError, match=rf"^sample: clip must be one of {known}$"):
        side_jax.sample(Target(StandardNormal(), {}, Schedule()), 1, clip="sideways")
    with pytest.raises(ValueError, match=rf"^sampler.clip must be one of {known}$"):
        build(SamplerOptions, {"solver": "ddim", "clip": "sideways"}, "sampler")


ALPHA_BAR = Schedule().alpha_bar()
FROM_400, TO_380 = (Level(np.int32(t), ALPHA_BAR[t]) for t in (400, 380))  # a step of 50 of 1000


def shift_of_a_step(order, x0, lam_g):
    """What the guide adds to x_{t−1}, per λ g, where the target says x̂₀ at t = 400."""
    process = Schedule().process()

    def x_s(lam):
        # Of the images that lead to this x̂₀ at ε̂ = .3.
        x_t = FROM_400.alpha * images() + x0 * FROM_400.alpha + 0.3 * FROM_400.sigma
        denoise = says(x0, 0.3)
        guidance = lambda denoise: guide(denoise, push(1.0), process, jnp.float32(lam))
        prediction = fold(denoise, order, 1.0, process, guidance)(x_t, jnp.array([400]))
        return DDIM().step(None, x_t, prediction, FROM_400, TO_380, None)[0].item()

    return (x_s(lam_g) - x_s(0.0)) / lam_g


@pytest.mark.parametrize("lam_g", [0.1, -0.1])
@pytest.mark.parametrize("x0", [0.3, 2.0, -2.0])
@pytest.mark.parametrize("order", ["before_guide", "consistent", "none"])
def test_step_goes_towards_the_class_in_free_and_clipped_pixels_alike(order, x0, lam_g):
    """+0.08 per λ g at t = 400 of 50 steps, by hand: α_s σ_t²/α_t − σ_s σ_t."""
    by_hand = TO_380.alpha * FROM_400.sigma**2 / FROM_400.alpha - TO_380.sigma * FROM_400.sigma
    assert float(by_hand) == pytest.approx(0.08, abs=0.005)
    assert shift_of_a_step(order, x0, lam_g) == pytest.approx(float(by_hand), abs=1e-4)


@pytest.mark.parametrize("lam_g", [0.1, -0.1])
@pytest.mark.parametrize("x0", [2.0, -2.0])
def test_step_goes_away_from_the_class_in_a_clipped_pixel_if_clipping_comes_after_the_guide(x0, lam_g):
    """−0.79 per λ g: −σ_s σ_t alone, for x̂₀ cannot follow. Why `after_guide` is not the default."""
    assert shift_of_a_step("after_guide", x0, lam_g) == pytest.approx(-0.79, abs=0.005)
    assert shift_of_a_step("after_guide", 0.3, lam_g) == pytest.approx(0.08, abs=0.005)  # in a free one it can


TRACED = []


class StandardNormal(Network):
    """v = 0, the target of standard normal images: x̂₀ = α x_t, ε̂ = σ x_t. Notes when it is traced."""

    image_shape = (4, 4, 1)
    num_classes = None

    def __call__(self, x_t, t, classes=None, dtype=jnp.float32):
        TRACED.append("target")
        return jnp.zeros_like(x_t)


class Brightness(nn.Module):
    """Class 0 is bright, class 1 dark."""

    num_classes: int = 2

    def __call__(self, x, t):
        TRACED.append("guide")
        return jnp.stack([x.sum((1, 2, 3)), -x.sum((1, 2, 3))], axis=1) / 10


def exact(target):
    """Class 0 is white, class 1 black."""
    white = np.full((4, 4, 4, 1), 255, np.uint8)
    return side_jax.exact_guide(target, np.concatenate([white, 0 * white]), np.repeat([0, 1], 4), block=3)


@pytest.mark.parametrize("kind", ["network", "exact"])
def test_one_compilation_serves_every_lambda_and_label(kind):
    target = Target(StandardNormal(), {}, Schedule(prediction_type="v_prediction"))
    options = {"num_steps": 5, "guide": exact(target) if kind == "exact" else Classifier(Brightness(), {})}
    bright = side_jax.sample(target, 4, labels=0, scale=1.0, **options)
    traced = len(TRACED)
    weak = side_jax.sample(target, 4, labels=0, scale=0.01, **options)
    dark = side_jax.sample(target, 4, labels=1, scale=1.0, **options)
    mixed = side_jax.sample(target, 4, labels=np.array([1, 0, 0, 1]), scale=1.0, **options)
    side_jax.sample(target, 4, scale=3.0, **options)
    assert len(TRACED) == traced > 0
    assert bright.mean() > weak.mean() + 10 > dark.mean() + 20
    np.testing.assert_array_equal(mixed, np.where(np.array([1, 0, 0, 1]).reshape(4, 1, 1, 1), dark, bright))


@pytest.mark.parametrize("order", CLIP_ORDERS)
def test_sampler_takes_the_order_it_is_told_if_the_target_clips(order):
    """x̂₀ = α x_t is clipped here and there at ±0.5: other images than without; by hand, with one step from t = 0."""
    target = Target(StandardNormal(), {}, Schedule(num_train_timesteps=1, prediction_type="v_prediction"), 0.5)
    guide = Classifier(Brightness(), {})
    found = side_jax.sample(target, 2, num_steps=1, guide=guide, labels=0, scale=1e4, clip=order)
    x_t = initial_noise(index_keys(stage_key(0, "extract"), np.arange(2)), (4, 4, 1))
    alpha, sigma = target.schedule.process().at(jnp.zeros(2, jnp.int32))
    move = 1e4 * sigma**2 / alpha * guide.gradient(x_t, jnp.zeros(2, jnp.int32), jnp.zeros(2, jnp.int32))
    clipped = functools.partial(jnp.clip, min=-0.5, max=0.5)
    free = alpha * x_t
    by_hand = {"none": free + move, "after_guide": clipped(free + move)}.get(order, clipped(free) + move)
    assert np.abs(found.astype(int) - np.asarray(to_uint8(by_hand), int)).max() <= 1
