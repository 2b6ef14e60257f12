"""SSCD's and torchvision's own kinds of files, and their networks against torch, from pixels to descriptors."""

import dataclasses
import shlex
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from side_jax import load_descriptor
from side_jax.matching.descriptors.sscd import load_sscd
from side_jax.matching.descriptors.sscd_network import RESNET50
from side_jax.surrogate.resnet import ARCHITECTURES, ResNet
from side_jax.surrogate.torchvision import load_resnet
from side_jax.targets.state_dict import CONVERT
from tests.golden.resnet_weights import with_classy_names

torch = pytest.importorskip("torch")
from tests.golden import make_resnets  # needs torch

pytestmark = pytest.mark.parity
BILINEAR = Image.Resampling.BILINEAR


@pytest.fixture(scope="module")
def sscd():
    return make_resnets.with_weights(make_resnets.SSCD(), seed=1)


@pytest.fixture(scope="module")
def torchvision_pt(sscd, tmp_path_factory):
    file = tmp_path_factory.mktemp("sscd") / "sscd.torchvision.pt"
    torch.save(sscd.state_dict(), file)
    return file


def images(*shape):
    return np.random.RandomState(1).randint(0, 256, shape).astype(np.uint8)


def resized(batch, size):
    """torchvision's Resize on PIL images: its size is (height, width)."""
    return np.stack([np.asarray(Image.fromarray(image).resize(size[::-1], BILINEAR)) for image in batch])


@pytest.mark.parametrize(("preprocessing", "size"), [("small_edge_288", (288, 403)), ("square_320", (320, 320))])
def test_descriptors_from_pixels_on(sscd, torchvision_pt, compare, preprocessing, size):
    batch = images(2, 40, 56, 3)
    ours = load_descriptor("sscd", str(torchvision_pt), preprocessing)(batch)
    with torch.no_grad():
        theirs = sscd(make_resnets.imagenet_input(resized(batch, size))).numpy()
    compare("SSCD descriptors", preprocessing, ours, theirs, 1e-4)
    assert (ours * theirs).sum(-1).min() >= 0.99999
    assert np.linalg.norm(theirs[0] - theirs[1]) > 0.01


@pytest.mark.parametrize("kind", ["traced", "scripted", "classy", "converted"])
def test_every_kind_of_file_gives_the_same_network(tmp_path, kind):
    net = make_resnets.with_weights(make_resnets.SSCD(dims=16, width=4))
    arch, state = dataclasses.replace(RESNET50, width=4), net.state_dict()
    torch.save(state, tmp_path / "sscd.torchvision.pt")
    file = tmp_path / "sscd.other.pt"
    if kind == "traced":
        torch.jit.trace(net, torch.zeros(1, 3, 64, 64)).save(str(file))
    elif kind == "scripted":
        torch.jit.script(net).save(str(file))
    elif kind == "classy":
        torch.save(with_classy_names(state), file)
    else:
        command = shlex.split(CONVERT.format(source="sscd.torchvision.pt", stem="sscd"))
        subprocess.run([sys.executable, *command[1:]], cwd=tmp_path, check=True)
        file = tmp_path / "sscd.safetensors"
    (first, expected), (second, variables) = (load_sscd(f, arch) for f in (tmp_path / "sscd.torchvision.pt", file))
    assert first == second
    jax.tree.map(np.testing.assert_array_equal, variables, expected)


@pytest.mark.parametrize(("arch", "sizes"), [("resnet18", (2, 2, 2, 2)), ("resnet34", (3, 4, 6, 3))])
@pytest.mark.parametrize("channels", [3, 1])
def test_teachers_logits(tmp_path, compare, arch, sizes, channels):
    net = make_resnets.with_weights(make_resnets.ResNet(make_resnets.BasicBlock, sizes, 1000), seed=1)
    torch.save(net.state_dict(), tmp_path / f"{arch}.pth")
    batch = images(2, 64, 96, channels)
    variables = load_resnet(arch, tmp_path / f"{arch}.pth")
    flax = ResNet(ARCHITECTURES[arch], 1000, imagenet_input=True)
    ours = np.asarray(jax.jit(flax.apply)(variables, batch.astype(np.float32) / 127.5 - 1))
    with torch.no_grad():
        theirs = net(make_resnets.imagenet_input(np.repeat(batch, 3 // channels, axis=3))).numpy()
    compare("torchvision ResNets", f"{arch}, {channels} channels", ours, theirs, 1e-4)
    assert ((ours * theirs).sum(-1) / np.linalg.norm(ours, axis=-1) / np.linalg.norm(theirs, axis=-1)).min() >= 0.99999
