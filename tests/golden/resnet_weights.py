"""State dicts of Flax ResNets as torch would write them, for both sides of a comparison and for files in tests."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from side_jax.surrogate.torchvision import torch_name, variable_shapes
from side_jax.targets.state_dict import match_variables
from tests.golden.weights import make_weights


def resnet_weights(net: Any, prefix: str = "") -> dict[str, np.ndarray]:
    """`make_weights` for a ResNet or an SSCD, under torchvision's names after `prefix`."""
    shapes = {}
    for path, shape in variable_shapes(net).items():
        order = {4: (3, 2, 0, 1), 2: (1, 0)}.get(len(shape), (0,))
        shapes[prefix + torch_name(path)] = tuple(shape[i] for i in order)
    return make_weights(shapes)


def resnet_variables(net: Any) -> Any:
    """The same as Flax variables."""
    return match_variables(resnet_weights(net), variable_shapes(net), torch_name, "made")


def with_classy_names(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """SSCD's *.torchvision.pt renamed as its *.classy.pt is."""
    return {_classy_name(name): tensor for name, tensor in tensors.items()}


def _classy_name(name: str) -> str:
    parts = name.split(".")
    if parts[1] == "fc":
        return f"embeddings.1.{parts[2]}"
    if parts[1] in ("conv1", "bn1"):
        return f"backbone.initial_block._module.{int(parts[1] == 'bn1')}.{parts[2]}"
    stage, block, module = int(parts[1].removeprefix("layer")) - 1, parts[2], parts[3]
    places = {"conv1": 0, "bn1": 1, "conv2": 3, "bn2": 4, "conv3": 6}
    inner = f"convolutional_block.{places[module]}" if module in places else {"bn3": "bn"}.get(module, module)
    return ".".join(["backbone.blocks", str(stage), f"block{stage}-{block}", inner, *parts[4:]])
