import functools
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

import side_jax
from configs import orl
from side_jax.audit.options import AuditOptions
from side_jax.audit.stage import Audit, precision_spec
from side_jax.audit.stages.synthesize import SynthesizeStage
from side_jax.diffusion.schedule import Schedule
from side_jax.matching.descriptors.sscd import sscd_apply
from side_jax.matching.descriptors.sscd_network import SSCDNetwork
from side_jax.runtime.precision import compute_dtype, inference_precision
from side_jax.runtime.training import init_variables
from side_jax.surrogate.classifier import Classifier
from side_jax.surrogate.resnet import ARCHITECTURES, ResNet, ResNetArch
from side_jax.targets.target import Target
from side_jax.targets.unet import UNet

UNETS = {
    "diffusers": {"attention_head_dim": 4},
    "guided_diffusion": {
        "num_attention_heads": 2,
        "resnet_time_scale_shift": "scale_shift",
        "downsample_type": "resnet",
        "upsample_type": "resnet",
        "num_class_embeds": 3,
    },
}
X, T = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32), jax.ShapeDtypeStruct((2,), jnp.int32)


def make_unet(kind):
    return UNet(
        8,
        1,
        1,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        **UNETS[kind],
    )


def make_classifier():
    net = ResNet(ARCHITECTURES["resnet10_tiny"], 5, time_conditioned=True)
    return Classifier(net, init_variables(net, jax.random.key(1), (X, T)))


def noise(shape=X.shape):
    return jax.random.normal(jax.random.key(2), shape)


def products(text):
    """(Operation, input's dtype, input's rank) of every convolution and dot in a lowered program."""
    operands = r"tensor<([0-9x]*)x(\w+)>, tensor<[0-9x]*x(\w+)>"
    types = re.findall(rf"stablehlo\.(convolution|dot_general)\b.*?: \({operands}\)", text)
    assert all(first == second for *_, first, second in types)
    return [(name, dtype, shape.count("x") + 1) for name, shape, dtype, _ in types]


@functools.cache
def lowered_eps(kind, dtype):
    """ε̂ of a target, lowered for float32 parameters and x_t."""
    net = make_unet(kind)
    classes = None if net.num_classes is None else T
    target = Target(net, jax.eval_shape(net.init, jax.random.key(0), X, T, classes)["params"], Schedule())
    eps = jax.jit(lambda target, x_t, t, classes: target.denoise(x_t, t, classes, dtype).eps)
    return eps.lower(target, X, T, classes)


@pytest.mark.parametrize("kind", UNETS)
def test_bfloat16_reaches_every_product_over_pixels_in_the_blocks_of_the_unet(kind):
    lowered = lowered_eps(kind, jnp.bfloat16)
    text = lowered.as_text()
    found = products(text)
    assert len(found) == len(re.findall(r"stablehlo\.(?:convolution|dot_general)\b", text)) > 20
    convolutions = [dtype for name, dtype, _ in found if name == "convolution"]
    assert convolutions[0] == convolutions[-1] == "f32" and set(convolutions[1:-1]) == {"bf16"}
    # Rank 2: the timestep embedding and its projections, one row an image. The others: attention, 1x1 convolutions.
    assert {(dtype, rank > 2) for name, dtype, rank in found if name == "dot_general"} == {
        ("f32", False),
        ("bf16", True),
    }
    assert "f64" not in text
    arguments = re.search(r"func\.func public @main\((.*?)\) ->", text, re.DOTALL).group(1)
    assert re.findall(r"tensor<[0-9x]*?(bf16|f16|f64)>", arguments) == []
    assert jax.tree.leaves(lowered.out_info)[0].dtype == jnp.float32


@pytest.mark.parametrize("kind", UNETS)
def test_float32_has_no_bfloat16_anywhere(kind):
    text = lowered_eps(kind, jnp.float32).as_text()
    assert "bf16" not in text and "f64" not in text


def test_softmax_and_normalisation_of_the_unet_stay_float32_in_bfloat16():
    text = lowered_eps("diffusers", jnp.bfloat16).as_text()
    for operation in (
        "rsqrt .*:",
        r"reduce\(.* applies stablehlo.add .*:",
        r"reduce\(.* applies stablehlo.maximum .*:",
    ):
        dtypes = re.findall(rf"stablehlo\.{operation} \(?tensor<[0-9x]*x(\w+)>", text)
        assert dtypes and set(dtypes) == {"f32"}, operation


def test_guidance_runs_in_bfloat16_both_ways_and_its_gradient_is_float32():
    classifier, labels = make_classifier(), jnp.array([0, 4])

    def gradient(variables, x, t):
        return Classifier(classifier.net, variables).in_dtype(jnp.bfloat16).gradient(x, t, labels)

    lowered = jax.jit(gradient).lower(classifier.variables, noise(), jnp.array([10, 900]))
    text = lowered.as_text()
    found = products(text)
    assert "f64" not in text
    forward = sum(name == "convolution" for name, *_ in products(jax.jit(classifier.log_prob).lower(X, T).as_text()))
    convolutions = [dtype for name, dtype, _ in found if name == "convolution"]
    assert set(convolutions) == {"bf16"} and len(convolutions) == 2 * forward
    assert all(dtype == "bf16" for name, dtype, rank in found if rank > 2)
    assert lowered.out_info.dtype == jnp.float32


def test_bfloat16_predictions_are_close_to_float32_and_not_the_same():
    net = make_unet("diffusers")
    target = Target(net, init_variables(net, jax.random.key(0), (X, T))["params"], Schedule())
    x, t = noise(), jnp.array([10, 900])
    denoise = jax.jit(target.denoise, static_argnames="dtype")
    exact, coarse = (denoise(x, t, dtype=dtype).eps for dtype in (jnp.float32, jnp.bfloat16))
    relative = jnp.linalg.norm(exact - coarse) / jnp.linalg.norm(exact)
    assert 1e-5 < relative < 0.02
    guide = make_classifier()
    exact, coarse = (guide.in_dtype(dtype).log_prob(x, t) for dtype in (jnp.float32, jnp.bfloat16))
    assert coarse.dtype == jnp.float32
    assert 0 < abs(exact - coarse).max() < 0.05
    np.testing.assert_allclose(jnp.exp(coarse).sum(-1), 1, rtol=1e-5)


def test_sscd_in_bfloat16_gives_float32_unit_rows_close_to_float32():
    net = SSCDNetwork(8, ResNetArch((1, 1, 1, 1), 4))
    variables = init_variables(net, jax.random.key(0), (jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32),))
    images = np.random.default_rng(0).integers(0, 256, (1, 12, 12, 3), np.uint8)
    embed, exactly = (jax.jit(sscd_apply(net, "square_320", dtype)) for dtype in (jnp.bfloat16, jnp.float32))
    text = embed.lower(variables, images).as_text()
    assert {dtype for name, dtype, _ in products(text) if name == "convolution"} >= {"bf16"}
    assert "f64" not in text
    exact, coarse = exactly(variables, images), embed(variables, images)
    assert coarse.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(coarse, axis=1), 1, rtol=1e-6)
    assert 0 < abs(exact - coarse).max() < 0.02


def test_auto_is_float32_on_cpu_and_bfloat16_elsewhere(monkeypatch):
    assert jax.default_backend() == "cpu"
    assert compute_dtype("auto") == compute_dtype("float32") == jnp.float32
    assert compute_dtype("bfloat16") == jnp.bfloat16
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compute_dtype("auto") == jnp.bfloat16
    assert compute_dtype("float32") == jnp.float32


def test_a_sweep_records_the_precision_that_auto_means_where_it_runs(monkeypatch):
    options = AuditOptions.from_config(orl.get_config())
    audit = Audit(options, epath.Path("unused"), split=None)
    assert precision_spec(audit) == {"precision": "float32"}
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert precision_spec(audit) == {"precision": "bfloat16"}
    assert SynthesizeStage().spec(audit)["precision"] == "bfloat16"


FP32, TF32 = "float32", "float32 (TF32 products)"
ONE_PASS, THREE_PASSES = "float32 (bfloat16 products)", "float32 (products of 3 bfloat16 passes)"


@pytest.mark.parametrize(
    ("backend", "capability", "products", "recorded"),
    [
        ("cpu", None, None, FP32),
        ("gpu", "9.0", None, TF32),
        ("gpu", "8.0", "tensorfloat32", TF32),
        ("gpu", "10.0", "high", TF32),
        ("gpu", "9.0", "float32", FP32),
        ("gpu", "9.0", "highest", FP32),
        ("gpu", "7.0", None, FP32),  # Volta has no TF32
        ("gpu", "gfx942", None, FP32),
        ("tpu", None, None, ONE_PASS),
        ("tpu", None, "bfloat16", ONE_PASS),
        ("tpu", None, "high", THREE_PASSES),
        ("tpu", None, "highest", FP32),
    ],
)
def test_float32_is_recorded_with_the_products_that_it_has(monkeypatch, backend, capability, products, recorded):
    device = SimpleNamespace(compute_capability=capability) if capability else SimpleNamespace()
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    with jax.default_matmul_precision(products):
        assert inference_precision("float32") == recorded
        assert inference_precision("bfloat16") == "bfloat16"


def test_unknown_precision_is_refused():
    message = "precision must be one of auto, float32, bfloat16, got 'half'"
    with pytest.raises(ValueError, match=message):
        side_jax.load_descriptor("pixel", precision="half")
    with pytest.raises(ValueError, match=message):
        compute_dtype("half")
    config = orl.get_config()
    config.precision = "half"
    with pytest.raises(ValueError, match=message):
        AuditOptions.from_config(config)
