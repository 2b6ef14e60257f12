"""torchvision's ResNets: names, and ImageNet weights as a start for the teacher."""

import re
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import traverse_util
from flax.typing import VariableDict

from side_jax.surrogate.resnet import ARCHITECTURES, ResNet
from side_jax.targets.state_dict import match_variables, read_state_dict

PUBLISHED = ("resnet18", "resnet34")  # those of ARCHITECTURES that torchvision has weights for
_LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
_DEPTHS: dict[tuple[bool, tuple[int, ...]], str] = {
    (False, (2, 2, 2, 2)): "18",
    (False, (3, 4, 6, 3)): "34",
    (True, (3, 4, 6, 3)): "50",
    (True, (3, 4, 23, 3)): "101",
    (True, (3, 8, 36, 3)): "152",
}


def torch_name(path: tuple[str, ...]) -> str:
    """Flax path -> torchvision's key: ("params", "layer1_0", "bn1", "scale") -> "layer1.0.bn1.weight"."""
    _, *modules, leaf = path
    return ".".join([re.sub(r"_(\d+)$", r".\1", module) for module in modules] + [_LEAVES.get(leaf, leaf)])


def variable_shapes(net: nn.Module) -> dict[tuple[str, ...], tuple[int, ...]]:
    """Path -> shape of every parameter and batch statistic of a network for RGB images, without computing any."""
    variables = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32))
    return {path: leaf.shape for path, leaf in traverse_util.flatten_dict(variables).items()}


def without_counters(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A state dict without BatchNorm's step counters, which change nothing."""
    return {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}


def describe(tensors: Mapping[str, np.ndarray]) -> str:
    """The network of a state dict with torchvision's names: "a ResNet50 with 1000 outputs"."""
    blocks = [re.match(r"layer([1-4])\.(\d+)\.conv1\.weight$", name) for name in tensors]
    stages = [block[1] for block in blocks if block]
    sizes = tuple(stages.count(stage) for stage in "1234")
    if not stages:
        first = ", ".join(sorted(tensors)[:3])
        return f"no ResNet: its {len(tensors)} names begin with {first}" if tensors else "an empty state dict"
    inner = tensors.get("layer1.0.conv2.weight")
    grouped = inner is not None and inner.shape[1] < inner.shape[0]
    depth = _DEPTHS.get(("layer1.0.conv3.weight" in tensors, sizes), f" of {sizes} blocks")
    outputs = f"{len(tensors['fc.weight'])} outputs" if "fc.weight" in tensors else "no fc layer"
    return f"a {'ResNeXt' if grouped else 'ResNet'}{depth} with {outputs}"


def load_resnet(arch: str, file: epath.PathLike) -> VariableDict:
    """torchvision's weights (`resnet34-b627a593.pth`, or the same names in a .safetensors) as variables of a ResNet.

    Args:
      arch: "resnet18" or "resnet34".
      file: a state dict; its `fc` decides the number of classes, 1000 in the published files.

    Returns:
      {"params": …, "batch_stats": …} of `ResNet(ARCHITECTURES[arch], classes, imagenet_input=True)`.

    Raises:
      ValueError: if torchvision has no such architecture, or the file is not its weights.
    """
    if arch not in PUBLISHED:
        raise ValueError(
            f"classifier.pretrained: torchvision has no weights for classifier.arch {arch!r}; use"
            f" {' or '.join(PUBLISHED)}, or leave classifier.pretrained empty"
        )
    tensors = without_counters(read_state_dict(file))
    found = describe(tensors)
    if not found.startswith(f"a ResNet{arch.removeprefix('resnet')} with"):
        raise ValueError(
            f"classifier.pretrained {file} looks like {found}; classifier.arch {arch!r} needs its own weights"
        )
    classes = len(tensors["fc.weight"]) if "fc.weight" in tensors else 1000
    net = ResNet(ARCHITECTURES[arch], classes, imagenet_input=True)
    return match_variables(tensors, variable_shapes(net), torch_name, f"classifier.pretrained {file} ({arch})")


def start_from_pretrained(variables: VariableDict, pretrained: VariableDict) -> VariableDict:
    """A teacher's first variables: all of `pretrained`, except an `fc` of another number of classes.

    Args:
      variables: of the teacher, as initialised.
      pretrained: what `load_resnet` returned for the same architecture.
    """
    params = dict(pretrained["params"])
    if params["fc"]["bias"].shape != variables["params"]["fc"]["bias"].shape:
        params["fc"] = variables["params"]["fc"]
    return jax.tree.map(jnp.asarray, {"params": params, "batch_stats": pretrained["batch_stats"]})
