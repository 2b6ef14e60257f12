"""SSCD's weights and outputs. What needs torch, such as its own files, is in tests/parity/test_parity_sscd.py."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from side_jax.matching.descriptors.sscd import load_sscd, torchvision_name
from side_jax.matching.descriptors.sscd_network import RESNET50, SSCDNetwork
from side_jax.surrogate.resnet import ResNet, ResNetArch, imagenet_normalize
from side_jax.surrogate.torchvision import torch_name, variable_shapes
from tests.golden.resnet_weights import resnet_weights, with_classy_names

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "resnets.npz")
TINY = ResNetArch((1, 1, 2, 1), 4)
NARROW = dataclasses.replace(RESNET50, width=4)


def weights(net, prefix="backbone."):
    return resnet_weights(net, prefix)


def test_descriptors_equal_torchs(tmp_path):
    counters = {"backbone.bn1.num_batches_tracked": np.array(5)}  # ignored; the published files have them
    save_file(weights(SSCDNetwork()) | counters, tmp_path / "sscd.safetensors")
    net, variables = load_sscd(tmp_path / "sscd.safetensors")
    descriptors = jax.jit(net.apply)(variables, imagenet_normalize(GOLDEN["images"].astype(np.float32) / 255))
    assert descriptors.shape == (3, 512)
    assert float(abs(descriptors - GOLDEN["sscd"]).max()) <= 1e-4
    assert float((descriptors * GOLDEN["sscd"]).sum(-1).min()) >= 0.99999
    assert min(np.linalg.norm(GOLDEN["sscd"][0] - GOLDEN["sscd"][i]) for i in (1, 2)) > 0.1  # of unlike images


def test_names_and_sizes_are_those_of_torchvisions_resnet50():
    """25,557,032 parameters with 1000 outputs, 2,049 for each output; 267 tensors without step counters."""
    shapes = variable_shapes(SSCDNetwork(dims=1000))
    names = {torch_name(path) for path in shapes}
    assert len(names) == 267
    assert sum(np.prod(shape) for path, shape in shapes.items() if path[0] == "params") == 25_557_032
    for name in ("conv1.weight", "bn1.running_var", "layer1.0.conv1.weight", "layer3.5.bn3.bias", "fc.bias"):
        assert name in names
    assert {"layer1.0.downsample.0.weight", "layer4.0.downsample.1.running_mean"} <= names


def test_classy_vision_names_give_the_same_network(tmp_path):
    tensors = weights(SSCDNetwork(16, TINY))
    classy = with_classy_names(tensors)
    assert "backbone.blocks.2.block2-1.convolutional_block.6.weight" in classy
    assert "backbone.blocks.3.block3-0.downsample.1.running_var" in classy
    assert not classy.keys() & tensors.keys()
    assert all(torchvision_name(name) == name for name in tensors)
    save_file(tensors, tmp_path / "torchvision.safetensors")
    save_file(classy, tmp_path / "classy.safetensors")
    (net, ours), (other, same) = (
        load_sscd(tmp_path / f"{kind}.safetensors", TINY) for kind in ("torchvision", "classy")
    )
    assert net == other == SSCDNetwork(16, TINY)
    jax.tree.map(np.testing.assert_array_equal, ours, same)


def resnext101():
    """As `sscd_disc_large`: 32x4, 1024 outputs, Classy Vision's names."""
    tensors = weights(SSCDNetwork(1024, ResNetArch((3, 4, 23, 3), 4)))
    grouped = {name: t[:, :1] if ".conv2." in name else t for name, t in tensors.items()}
    return with_classy_names(grouped)


@pytest.mark.parametrize(
    ("tensors", "looks"),
    [
        (resnext101, "a ResNeXt101 with 1024 outputs below 'backbone.'"),
        (lambda: weights(ResNet(ResNetArch((2, 2, 2, 2), 4), 512)), "a ResNet18 with 512 outputs below 'backbone.'"),
        (lambda: weights(SSCDNetwork(1000, NARROW), ""), "a ResNet50 with 1000 outputs, without 'backbone.'"),
        (lambda: {"visual.proj": np.zeros((2, 2), np.float32)}, "no ResNet: its 1 names begin with visual.proj,"),
        (dict, "an empty state dict, without"),
    ],
    ids=["disc_large", "ResNet18", "ImageNet ResNet50", "CLIP", "empty"],
)
def test_another_architecture_is_refused_in_one_line(tmp_path, tensors, looks):
    save_file(tensors(), tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=f"other.safetensors looks like {looks}") as error:
        load_sscd(tmp_path / "other.safetensors")
    assert "wanted is SSCD's ResNet50" in str(error.value) and "\n" not in str(error.value)
    assert "sscd_disc_mixup.torchvision.pt (MIT licence" in str(error.value)


def test_a_damaged_file_lists_its_keys(tmp_path):
    tensors = weights(SSCDNetwork(16, NARROW))
    del tensors["backbone.bn1.weight"]
    tensors["backbone.fc.bias"] = np.zeros(3, np.float32)
    save_file(tensors, tmp_path / "damaged.safetensors")
    with pytest.raises(
        ValueError, match="in 2 keys .1 missing, 1 misshapen.: missing backbone.bn1.weight; misshapen backbone.fc.bias"
    ):
        load_sscd(tmp_path / "damaged.safetensors", NARROW)
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "damaged.safetensors").read_bytes()[:999])
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        load_sscd(tmp_path / "cut.safetensors")
