"""OpenAI's guided-diffusion (ADM) and improved-diffusion: a state dict and, beside it, the flags of its training.

ADM's UNet (Dhariwal & Nichol 2021) computes what diffusers' `UNet2DModel` computes, under other names: its numbered
blocks are a flat list, and query, key and value are one matrix.
"""

import logging
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath
from flax import traverse_util

from side_jax.diffusion.schedule import Schedule
from side_jax.targets.adm_flags import CLASSES, Flags
from side_jax.targets.diffusers import unet_shapes
from side_jax.targets.state_dict import Path, match_variables, read_state_dict
from side_jax.targets.target import Target
from side_jax.targets.unet import UNet, check_unet

_log = logging.getLogger(__name__)
SUFFIXES = (".pt", ".pth", ".safetensors")


def recognises(path: epath.Path) -> bool:
    """True if `path` names a state dict."""
    return path.suffix in SUFFIXES


def files(file: epath.PathLike) -> dict[str, epath.Path]:
    """The state dict and its flags: the files that define the model."""
    weights = epath.Path(file)
    return {path.name: path for path in (weights, _flags_of(weights))}


def _flags_of(weights: epath.Path) -> epath.Path:
    return weights.with_suffix(".json")


def load_target(file: epath.PathLike) -> Target:
    """Reads `NAME.pt` (or `.pth`, `.safetensors`) and its flags in `NAME.json`.

    The learned variance of a `learn_sigma` model is read but not used: DDIM has no need of it.

    Raises:
      ValueError: if a file is missing or unreadable, a flag is not supported, or the weights have missing, extra or
        misshapen keys.
    """
    weights = epath.Path(file)
    described = _flags_of(weights)
    tensors = read_state_dict(weights) if described.exists() else {}
    flags, unet, schedule = _described(described, tensors)
    shapes = variable_shapes(unet)
    source = f"{weights}, read with the flags in {described.name},"
    names = {path: state_dict_name(path, unet) for path in shapes}
    params = match_variables(tensors, shapes, names.__getitem__, source)
    notes = (*flags.notes(), *_average_beside(weights))
    for note in notes:
        _log.warning("%s: %s", weights, note)
    return Target(unet, _split_qkv(params, unet, flags.use_new_attention_order), schedule, notes=notes)


def _average_beside(weights: epath.Path) -> tuple[str, ...]:
    """A note if OpenAI's training script wrote the moving average, ema_RATE_STEP, beside these weights, modelSTEP."""
    step = re.fullmatch(r"model(\d+)", weights.stem)
    averages = sorted(file.name for file in weights.parent.glob(f"ema_*_{step[1]}{weights.suffix}")) if step else []
    return (f"{weights.name} is read, and {averages[0]} beside it, the moving average, is not",) if averages else ()


def read_architecture(file: epath.PathLike) -> UNet | None:
    """The network from the flags beside `NAME.pt`; None without them. Raises `ValueError` as `load_target`.

    Channels and number of classes are those of the weights where these can be read: the flags do not say them.
    """
    weights = epath.Path(file)
    described = _flags_of(weights)
    if not described.exists():
        return None
    try:
        tensors = read_state_dict(weights)
    except ValueError:  # not there, or a torch file where torch is not installed: 3 channels, 1,000 classes
        tensors = {}
    return _described(described, tensors)[1]


def _described(file: epath.Path, tensors: Mapping[str, np.ndarray]) -> tuple[Flags, UNet, Schedule]:
    flags, (first, labels) = Flags.read(file), (_OUTSIDE[name] + ".weight" for name in ("conv_in", "class_embedding"))
    channels = tensors[first].shape[1] if first in tensors else 3
    classes = tensors[labels].shape[0] if labels in tensors else CLASSES
    try:
        unet, schedule = flags.unet(channels, classes), flags.schedule()
        check_unet(unet, flags.image_size, channels)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    return flags, unet, schedule


_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_ATTENTION = {"group_norm": "norm", "qkv": "qkv", "to_out_0": "proj_out"}
_OUTSIDE = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "class_embedding": "label_emb",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def state_dict_name(path: Path, unet: UNet) -> str:
    """Flax path -> ADM's key: ("mid_block", "attentions_0", "qkv", "kernel") -> "middle_block.1.qkv.weight"."""
    *modules, leaf = path
    leaf = {"kernel": "weight", "scale": "weight", "embedding": "weight"}.get(leaf, leaf)
    if ".".join(modules) in _OUTSIDE:
        return f"{_OUTSIDE['.'.join(modules)]}.{leaf}"
    block, layer, *rest = modules
    part = rest[-1]
    kind, number = layer.rsplit("_", 1)
    place = int(number)
    if block == "mid_block":
        slot = f"middle_block.{1 if kind == 'attentions' else 2 * place}"
    elif block.startswith("down_blocks_"):
        # Every layer, and every downsampling, is one entry of the list; entry 0 is conv_in.
        first = 1 + int(block.removeprefix("down_blocks_")) * (unet.layers_per_block + 1)
        entry = first + (unet.layers_per_block if kind == "downsamplers" else place)
        slot = f"input_blocks.{entry}.{1 if kind == 'attentions' else 0}"
    else:
        # Upsampling is the last part of a block's last entry.
        level = int(block.removeprefix("up_blocks_"))
        attention = unet.up_block_types[level] == "AttnUpBlock2D"
        entry = level * (unet.layers_per_block + 1) + (unet.layers_per_block if kind == "upsamplers" else place)
        inside = {"resnets": 0, "attentions": 1, "upsamplers": 2 if attention else 1}[kind]
        slot = f"output_blocks.{entry}.{inside}"
    if part == "conv":
        return f"{slot}.{'op' if kind == 'downsamplers' else 'conv'}.{leaf}"
    return f"{slot}.{(_ATTENTION if kind == 'attentions' else _RESNET)[part]}.{leaf}"


def variable_shapes(unet: UNet) -> dict[Path, tuple[int, ...]]:
    """Shape of every parameter by path, with query, key and value as one variable `qkv`, as in the file."""
    joint = {}
    for path, shape in unet_shapes(unet).items():
        if path[-2] == "to_q":
            joint[*path[:-2], "qkv", path[-1]] = (*shape[:-1], 3 * shape[-1])
        elif path[-2] not in ("to_k", "to_v"):
            joint[path] = shape
    return joint


def _split_qkv(params: Mapping[str, Any], unet: UNet, new_order: bool) -> Any:
    """Cuts every `qkv` in three. The last axis is (3, heads, dim) in the new order, (heads, 3, dim) in the old one."""
    split = {}
    for path, value in traverse_util.flatten_dict(params).items():
        if path[-2] != "qkv":
            split[path] = value
            continue
        channels = value.shape[-1] // 3
        heads = unet.num_attention_heads or channels // (unet.attention_head_dim or channels)
        order = (3, heads) if new_order else (heads, 3)
        parts = np.moveaxis(value.reshape(*value.shape[:-1], *order, -1), -3 if new_order else -2, 0)
        for name, part in zip(("to_q", "to_k", "to_v"), parts, strict=True):
            split[*path[:-2], name, path[-1]] = np.ascontiguousarray(part.reshape(*value.shape[:-1], channels))
    return traverse_util.unflatten_dict(split)
