import functools
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from side_jax.matching.descriptors.sscd_network import SSCDNetwork
from side_jax.surrogate.resnet import ARCHITECTURES, ResNet, ResNetArch
from side_jax.surrogate.torchvision import load_resnet, start_from_pretrained
from tests.golden.resnet_weights import resnet_variables, resnet_weights

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "resnets.npz")


@pytest.fixture(scope="module")
def resnet18(tmp_path_factory):
    """A file of torchvision's names and sizes."""
    file = tmp_path_factory.mktemp("torchvision") / "resnet18-f37072fd.safetensors"
    save_file(resnet_weights(ResNet(ARCHITECTURES["resnet18"], 1000)), file)
    return file


def test_logits_equal_torchs(tmp_path):
    """On our inputs in [−1, 1] what torchvision's network makes of its own."""
    save_file(resnet_weights(ResNet(ARCHITECTURES["resnet34"], 1000)), tmp_path / "resnet34.safetensors")
    variables = load_resnet("resnet34", tmp_path / "resnet34.safetensors")
    net = ResNet(ARCHITECTURES["resnet34"], 1000, imagenet_input=True)
    logits = jax.jit(net.apply)(variables, GOLDEN["images"].astype(np.float32) / 127.5 - 1)
    cosine = (logits * GOLDEN["resnet34"]).sum(-1) / (
        np.linalg.norm(logits, axis=-1) * np.linalg.norm(GOLDEN["resnet34"], axis=-1)
    )
    assert float(abs(logits - GOLDEN["resnet34"]).max()) <= 1e-4
    assert float(cosine.min()) >= 0.99999
    assert GOLDEN["resnet34"].std(axis=-1).min() > 1  # of numbers that say something
    assert abs(GOLDEN["resnet34"][0] - GOLDEN["resnet34"][1]).max() > 1


def initialised(classes):
    net = ResNet(ARCHITECTURES["resnet18"], classes, imagenet_input=True)
    shapes = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 32, 32, 1), np.float32))
    return jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5, leaf.dtype), shapes)


@pytest.mark.parametrize("classes", [7, 1000])
def test_teacher_starts_at_the_file_and_fc_only_if_the_classes_are_as_many(resnet18, classes):
    pretrained, variables = load_resnet("resnet18", resnet18), initialised(classes)
    start = start_from_pretrained(variables, pretrained)
    assert jax.tree.map(np.shape, start) == jax.tree.map(np.shape, variables)
    source = variables if classes == 7 else pretrained
    np.testing.assert_array_equal(start["params"]["fc"]["kernel"], source["params"]["fc"]["kernel"])
    for collection in ("params", "batch_stats"):
        for name in pretrained[collection].keys() - {"fc"}:
            jax.tree.map(np.testing.assert_array_equal, start[collection][name], pretrained[collection][name])


def test_batch_statistics_move_by_a_tenth_in_training():
    """torch's momentum of 0.1; outside training they are frozen."""
    net = ResNet(ARCHITECTURES["resnet10_tiny"], 3)
    x = np.random.default_rng(0).standard_normal((4, 8, 8, 3)).astype(np.float32)
    variables = resnet_variables(net)
    inner = jax.tree.map(lambda leaf: leaf + 2, variables["batch_stats"])
    step = jax.jit(functools.partial(net.apply, train=True, mutable=["batch_stats"]))
    _, state = step(variables | {"batch_stats": inner}, x)
    h = jax.lax.conv_general_dilated(
        x, variables["params"]["conv1"]["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    expected = 0.9 * inner["bn1"]["mean"] + 0.1 * h.mean((0, 1, 2))
    np.testing.assert_allclose(state["batch_stats"]["bn1"]["mean"], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("arch", "tensors", "message"),
    [
        (
            "resnet34",
            lambda: resnet_weights(ResNet(ResNetArch((2, 2, 2, 2), 4), 9)),
            "looks like a ResNet18 with 9 outputs",
        ),
        (
            "resnet34",
            lambda: resnet_weights(SSCDNetwork(9, ResNetArch((3, 4, 6, 3), 4))),
            "looks like a ResNet50 with 9 outputs; .* 'resnet34' needs",
        ),
        ("resnet18", lambda: {"x": np.zeros(1, np.float32)}, "looks like no ResNet: its 1 names begin with x"),
        (
            "resnet18",
            lambda: resnet_weights(ResNet(ResNetArch((2, 2, 2, 2), 4), 9)),
            "misshapen bn1.bias: .4,., not .64,.",
        ),
    ],
)
def test_a_file_of_another_network_is_refused(tmp_path, arch, tensors, message):
    save_file(tensors(), tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=message):
        load_resnet(arch, tmp_path / "other.safetensors")


def test_an_arch_that_torchvision_does_not_have_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no weights for classifier.arch 'resnet10_small'; use resnet18 or resnet34"):
        load_resnet("resnet10_small", tmp_path / "any.pth")
    with pytest.raises(ValueError, match="any.safetensors does not exist"):
        load_resnet("resnet18", tmp_path / "any.safetensors")
