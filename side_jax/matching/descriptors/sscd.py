"""SSCD as a descriptor (Pizzi et al. 2022): its network, its input and its published weights together.

Weights are `*.torchvision.pt`, `*.classy.pt`, TorchScript, or the same names in a .safetensors.

    python -c "import torch, safetensors.torch as s; s.save_file(torch.load('sscd_disc_mixup.torchvision.pt',
    weights_only=True), 'sscd_disc_mixup.safetensors')"

converts a file once (on one line), and from then on torch is not needed.
"""

import functools
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax.typing import VariableDict
from jax.typing import DTypeLike

from side_jax.matching.descriptor import Apply, Kind
from side_jax.matching.descriptors.sscd_input import PREPROCESSING, sscd_input
from side_jax.matching.descriptors.sscd_network import RESNET50, SSCDNetwork
from side_jax.surrogate.resnet import ResNetArch
from side_jax.surrogate.torchvision import describe, torch_name, variable_shapes, without_counters
from side_jax.targets.state_dict import match_variables, read_state_dict

OFFICIAL = (
    "https://dl.fbaipublicfiles.com/sscd-copy-detection/sscd_disc_mixup.torchvision.pt"
    " (MIT licence, github.com/facebookresearch/sscd-copy-detection)"
)
_PREFIX = "backbone."
# Classy Vision's ResNets (classy_vision/models/resnext.py), which SSCD was trained with, in torchvision's terms.
_CLASSY = (
    (r"^backbone\.initial_block\._module\.0\.", "backbone.conv1."),
    (r"^backbone\.initial_block\._module\.1\.", "backbone.bn1."),
    (r"^backbone\.blocks\.\d+\.block(\d+)-(\d+)\.", lambda m: f"backbone.layer{int(m[1]) + 1}.{m[2]}."),
    (r"\.convolutional_block\.0\.", ".conv1."),
    (r"\.convolutional_block\.1\.", ".bn1."),
    (r"\.convolutional_block\.3\.", ".conv2."),
    (r"\.convolutional_block\.4\.", ".bn2."),
    (r"\.convolutional_block\.6\.", ".conv3."),
    (r"^(backbone\.layer\d\.\d+)\.bn\.", r"\1.bn3."),
    (r"^embeddings\.1\.", "backbone.fc."),
)


@functools.cache
def sscd_apply(net: SSCDNetwork, preprocessing: str, dtype: DTypeLike = jnp.float32) -> Apply:
    """SSCD's descriptors of images that are resized by `preprocessing`.

    In float32 products are computed in full float32 on GPU and TPU too, so that a score does not depend on the device.
    In bfloat16 (`dtype`) convolutions round their inputs to 8 bits, in an order of their own on every device: compare
    only descriptors of one dtype and one kind of device. Preprocessing, pooling and the projection stay full float32.
    """

    def apply(variables: VariableDict, images: jax.Array) -> Any:
        with jax.default_matmul_precision("float32"):
            return net.apply(variables, sscd_input(images, preprocessing).astype(dtype))

    return apply


def _load(weights: str, preprocessing: str, dtype: DTypeLike) -> tuple[Apply, VariableDict]:
    net, variables = load_sscd(weights)
    return sscd_apply(net, preprocessing, np.dtype(dtype)), variables


@functools.cache  # tracing a ResNet50 takes seconds, and a dry run asks several times
def _abstract(preprocessing: str) -> tuple[Apply, VariableDict]:
    net, image = SSCDNetwork(), jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    return sscd_apply(net, preprocessing), jax.eval_shape(lambda: net.lazy_init(jax.random.key(0), image))


_BANDS = (("low", 0.4, 0.5), ("mid", 0.5, 0.6), ("high", 0.6, 1.0))  # seed 002, section 4.2
SSCD = Kind("Pizzi et al. 2022, needs its weights", _load, _abstract, OFFICIAL, PREPROCESSING, _BANDS)


def torchvision_name(name: str) -> str:
    """A key of `*.classy.pt` as `*.torchvision.pt` has it; any other key as it is."""
    for pattern, replacement in _CLASSY:
        name = re.sub(pattern, replacement, name)
    return name


def load_sscd(file: epath.PathLike, arch: ResNetArch = RESNET50) -> tuple[SSCDNetwork, VariableDict]:
    """A network and its variables, {"params": …, "batch_stats": …}, as NumPy arrays.

    Args:
      file: the weights. The size of the descriptor is theirs (512 in the published files).
      arch: depth and width; the published files that fit are the ResNet50 ones.

    Raises:
      ValueError: in one line, if the file is unreadable or holds another network: what it looks like, what is wanted.
    """
    tensors = {torchvision_name(name): tensor for name, tensor in without_counters(read_state_dict(file)).items()}
    projection = tensors.get(_PREFIX + "fc.weight")
    net = SSCDNetwork(512 if projection is None else len(projection), arch)
    try:
        return net, match_variables(tensors, variable_shapes(net), lambda path: _PREFIX + torch_name(path), str(file))
    except ValueError as error:
        found = _description(tensors)
        if found.startswith(f"a ResNet50 with {net.dims} outputs below"):
            raise  # the right network, but damaged: its keys say how
        raise ValueError(
            f"extract.weights {file} looks like {found}; wanted is SSCD's ResNet50 with its projection below"
            f" {_PREFIX!r}, such as {OFFICIAL}"
        ) from error


def _description(tensors: Mapping[str, np.ndarray]) -> str:
    inner = {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items() if name.startswith(_PREFIX)}
    return f"{describe(inner)} below {_PREFIX!r}" if inner else f"{describe(tensors)}, without {_PREFIX!r}"
