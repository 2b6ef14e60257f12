import functools
import hashlib

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

import side_jax
from side_jax.matching.descriptor import Descriptor, DescriptorFacts
from side_jax.matching.descriptors import descriptor_facts
from side_jax.matching.descriptors.sscd import load_sscd, sscd_apply
from side_jax.matching.descriptors.sscd_network import SSCDNetwork
from side_jax.matching.descriptors.teacher import feature_descriptor
from side_jax.surrogate.resnet import ARCHITECTURES, ResNet, ResNetArch
from tests.golden.resnet_weights import resnet_variables, resnet_weights

NONE = {"weights": None, "sha256": None, "preprocessing": None}


def test_pixel_descriptor_is_the_correlation_of_pixels(image_set):
    images = image_set(5, size=6, channels=3).images
    descriptors = side_jax.load_descriptor("pixel")(images)
    np.testing.assert_allclose(np.linalg.norm(descriptors, axis=1), 1, rtol=1e-5)
    expected = np.corrcoef(images.reshape(5, -1).astype(float))
    np.testing.assert_allclose(descriptors @ descriptors.T, expected, atol=1e-5)


def test_brightness_and_contrast_do_not_matter():
    image = np.random.default_rng(0).integers(50, 100, (1, 8, 8, 1), np.uint8)
    embed = side_jax.load_descriptor("pixel")
    np.testing.assert_allclose(embed(image), embed(2 * image + 10), atol=1e-6)


def test_constant_image_is_zero_and_not_nan():
    assert not side_jax.load_descriptor("pixel")(np.full((1, 4, 4, 1), 9, np.uint8)).any()


@pytest.fixture(scope="module")
def tiny_sscd(tmp_path_factory):
    """SSCD of 8 numbers, with random weights."""
    arch, file = ResNetArch((1, 1, 1, 1), 4), tmp_path_factory.mktemp("sscd") / "tiny.safetensors"
    save_file(resnet_weights(SSCDNetwork(8, arch), "backbone."), file)
    net, variables = load_sscd(file, arch)
    return Descriptor(variables, sscd_apply(net, "small_edge_288"), DescriptorFacts("sscd"))


def test_sscd_gives_unit_rows_that_depend_on_their_image_alone(tiny_sscd, image_set):
    """Any number of images, through one program."""
    images = image_set(35, size=12, channels=3).images
    descriptors = tiny_sscd(images)
    assert descriptors.shape == (35, 8) and descriptors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(descriptors, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(tiny_sscd(images[33:34]), descriptors[33:34])
    np.testing.assert_array_equal(tiny_sscd(images[::-1][:20]), descriptors[::-1][:20])
    assert tiny_sscd(images[:0]).shape == (0, 8)
    assert abs(descriptors[0] - descriptors[1]).max() > 1e-4


def test_sscd_sees_gray_as_its_three_equal_channels(tiny_sscd):
    gray = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 1), np.uint8)
    np.testing.assert_allclose(tiny_sscd(gray), tiny_sscd(np.repeat(gray, 3, axis=3)), atol=1e-5)


def test_teacher_features_are_what_its_last_layer_sees(image_set):
    images = image_set(4, size=8, channels=3).images
    net = ResNet(ARCHITECTURES["resnet10_tiny"], 5)
    variables = resnet_variables(net)
    descriptors = feature_descriptor(net, variables)(images)
    np.testing.assert_allclose(np.linalg.norm(descriptors, axis=1), 1, rtol=1e-5)
    x, last = images.astype(np.float32) / 127.5 - 1, variables["params"]["fc"]
    features = jax.jit(functools.partial(net.apply, features=True))(variables, x)
    assert features.shape == descriptors.shape == (4, 64)
    assert (features * descriptors).sum(1) == pytest.approx(np.linalg.norm(features, axis=1), rel=1e-5)
    logits = jax.jit(net.apply)(variables, x)
    np.testing.assert_allclose(features @ last["kernel"] + last["bias"].reshape(1, -1), logits, atol=1e-5)


def test_facts_of_teacher_features_change_with_its_weights():
    net = ResNet(ARCHITECTURES["resnet10_tiny"], 5)
    variables = resnet_variables(net)
    facts = feature_descriptor(net, variables).facts
    assert facts.name == "teacher" and len(facts.sha256) == 64
    assert feature_descriptor(net, jax.device_put(variables)).facts == facts
    assert feature_descriptor(net, jax.tree.map(lambda leaf: leaf + 1, variables)).facts != facts
    with pytest.raises(ValueError, match="got a time-conditioned one"):
        feature_descriptor(ResNet(ARCHITECTURES["resnet10_tiny"], 5, time_conditioned=True), variables)


def test_facts_name_variant_hash_and_preprocessing(tmp_path):
    file = tmp_path / "sscd_disc_mixup.torchvision.pt"
    file.write_bytes(b"weights")
    facts = "sscd", file.name, hashlib.sha256(b"weights").hexdigest()
    assert descriptor_facts("sscd", str(file)) == DescriptorFacts(*facts, "small_edge_288")
    assert descriptor_facts("sscd", str(file), "square_320") == DescriptorFacts(*facts, "square_320")
    assert side_jax.load_descriptor("pixel").facts == DescriptorFacts("pixel")


def test_sscd_without_weights_says_where_they_are_and_under_which_licence():
    with pytest.raises(ValueError, match="sscd_disc_mixup.torchvision.pt .MIT licence.* set extract.weights") as error:
        side_jax.load_descriptor("sscd")
    assert "\n" not in str(error.value)


def test_bad_input_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"extract.descriptor must be pixel or sscd, got 'clip'"):
        side_jax.load_descriptor("clip")
    with pytest.raises(ValueError, match=r"no weights, got 'x.pt'; leave extract.weights empty"):
        side_jax.load_descriptor("pixel", "x.pt")
    with pytest.raises(ValueError, match=r"no preprocessing, got 'square_320'; leave extract.preprocessing empty"):
        side_jax.load_descriptor("pixel", preprocessing="square_320")
    with pytest.raises(ValueError, match="preprocessing must be small_edge_288 or square_320, got 'crop'"):
        side_jax.load_descriptor("sscd", "x.pt", "crop")
    with pytest.raises(ValueError, match=r"extract.weights .*x.pt' is no file; those of sscd are at https"):
        side_jax.load_descriptor("sscd", str(tmp_path / "x.pt"))
    with pytest.raises(ValueError, match=r"extract.weights .* is no file"):
        side_jax.load_descriptor("sscd", str(tmp_path))
    save_file({"x": np.zeros(1, np.float32)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"x.safetensors looks like no ResNet"):
        side_jax.load_descriptor("sscd", str(tmp_path / "x.safetensors"))
    for images in (np.zeros((1, 4, 4, 1)), np.zeros((4, 4, 1), np.uint8), np.zeros((1, 4, 4, 4), np.uint8)):
        with pytest.raises(ValueError, match="uint8"):
            side_jax.load_descriptor("pixel")(images)
