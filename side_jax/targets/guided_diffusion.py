"""OpenAI's guided-diffusion (ADM) checkpoints: a state dict and, beside it, the flags that it was trained with.

ADM's UNet (Dhariwal & Nichol 2021) computes what diffusers' `UNet2DModel` computes, under other names: its numbered
blocks are a flat list, and query, key and value are one matrix.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath
from flax import traverse_util

from side_jax.diffusion.schedule import Schedule
from side_jax.targets.diffusers import unet_shapes
from side_jax.targets.state_dict import Path, match_variables, read_state_dict
from side_jax.targets.target import Target
from side_jax.targets.unet import UNet, check_unet

SUFFIXES = (".pt", ".pth", ".safetensors")
EXAMPLE = (
    '{"image_size": 256, "num_channels": 256, "num_res_blocks": 2, "num_head_channels": 64, "attention_resolutions":'
    ' "32,16,8", "resblock_updown": true, "learn_sigma": true, "noise_schedule": "linear"}'
)
# Flags that change neither the network's output nor the steps that are taken here.
_WITHOUT_EFFECT = (
    "dropout",
    "rescale_learned_sigmas",
    "timestep_respacing",
    "use_checkpoint",
    "use_fp16",
    "use_kl",
)
_CHANNEL_MULT = {64: "1,2,3,4", 128: "1,1,2,3,4", 256: "1,1,2,2,4,4", 512: "0.5,1,1,2,2,4,4"}  # by image_size
_TRUE, _FALSE = ("yes", "true", "t", "y", "1"), ("no", "false", "f", "n", "0")
_GROUPS = 32  # of every normalisation
_CLASSES = 1000  # of a class_cond model


@dataclasses.dataclass(frozen=True)
class Flags:
    """The flags that matter; names and defaults are those of guided-diffusion's `model_and_diffusion_defaults`."""

    image_size: int = 64
    num_channels: int = 128
    num_res_blocks: int = 2
    num_heads: int = 4
    num_heads_upsample: int = -1
    num_head_channels: int = -1
    attention_resolutions: str = "16,8"
    channel_mult: str = ""
    class_cond: bool = False
    use_scale_shift_norm: bool = True
    resblock_updown: bool = False
    use_new_attention_order: bool = False
    learn_sigma: bool = False
    diffusion_steps: int = 1000
    noise_schedule: str = "linear"
    predict_xstart: bool = False
    rescale_timesteps: bool = False

    @classmethod
    def read(cls, file: epath.Path) -> "Flags":
        """Reads a JSON object of flags; a value may be a string, as on the command line.

        Raises:
          ValueError: if the file is missing or no JSON object, or a flag is unknown, ill-typed or not supported.
        """
        if not file.exists():
            raise ValueError(f"{file} is missing: write the model's guided-diffusion flags there, such as {EXAMPLE}")
        try:
            content = json.loads(file.read_text())
        except ValueError as error:
            raise ValueError(f"{file} is not readable as JSON: {error}") from error
        if not isinstance(content, dict):
            raise ValueError(f"{file} must hold an object of guided-diffusion flags, such as {EXAMPLE}")
        kinds = {field.name: type(field.default) for field in dataclasses.fields(cls)}
        unknown = sorted(content.keys() - kinds.keys() - set(_WITHOUT_EFFECT))
        if unknown:
            raise ValueError(f"{file}: unknown flag {unknown[0]!r}; known: {', '.join([*kinds, *_WITHOUT_EFFECT])}")
        given = {name: value for name, value in content.items() if name in kinds}
        try:
            flags = cls(**{name: _parse(name, value, kinds[name]) for name, value in given.items()})
            flags.check()
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
        return flags

    def check(self) -> None:
        """Raises `ValueError`, naming the flag, for a value that is not supported."""
        if self.num_head_channels == -1 and self.num_heads_upsample not in (-1, self.num_heads):
            raise ValueError(
                f"num_heads_upsample {self.num_heads_upsample} beside num_heads {self.num_heads} is not supported"
            )
        if self.rescale_timesteps and self.diffusion_steps != 1000:
            raise ValueError(f"rescale_timesteps with diffusion_steps {self.diffusion_steps} is not supported")
        if self.noise_schedule not in ("linear", "cosine"):
            raise ValueError(f"noise_schedule {self.noise_schedule!r} is not supported; known: linear, cosine")
        for name in ("image_size", "num_channels", "num_res_blocks", "num_heads", "diffusion_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.channel_mult and self.image_size not in _CHANNEL_MULT:
            raise ValueError(
                f"image_size {self.image_size} needs a channel_mult; only {', '.join(map(str, _CHANNEL_MULT))} have"
                " a default"
            )

    def unet(self) -> UNet:
        """The network that these flags describe."""
        multipliers = _numbers("channel_mult", self.channel_mult or _CHANNEL_MULT[self.image_size], float)
        widths = tuple(int(m * self.num_channels) for m in multipliers)
        rates = [self.image_size // r for r in _numbers("attention_resolutions", self.attention_resolutions, int)]
        attends = [2**level in rates for level in range(len(widths))]
        attending = {widths[-1], *(width for width, attention in zip(widths, attends, strict=True) if attention)}
        per_head = self.num_head_channels
        if per_head == -1 and len(attending) == 1:  # a width that diffusers can express
            per_head = widths[-1] // self.num_heads
        elif per_head != -1 and (per_head < 1 or any(width % per_head for width in attending)):
            raise ValueError(f"num_head_channels {per_head} does not divide attention layers of {sorted(attending)}")
        down, up = (
            ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D")
            if self.resblock_updown
            else ("DownBlock2D", "UpBlock2D")
        )
        return UNet(
            sample_size=self.image_size,
            out_channels=6 if self.learn_sigma else 3,
            time_embedding_dim=4 * self.num_channels,
            down_block_types=tuple("AttnDownBlock2D" if attention else down for attention in attends),
            up_block_types=tuple("AttnUpBlock2D" if attention else up for attention in attends[::-1]),
            block_out_channels=widths,
            layers_per_block=self.num_res_blocks,
            downsample_type="resnet" if self.resblock_updown else "conv",
            upsample_type="resnet" if self.resblock_updown else "conv",
            attention_head_dim=None if per_head == -1 else per_head,
            num_attention_heads=self.num_heads if per_head == -1 else None,
            norm_num_groups=_GROUPS,
            attn_norm_num_groups=_GROUPS,
            resnet_time_scale_shift="scale_shift" if self.use_scale_shift_norm else "default",
            num_class_embeds=_CLASSES if self.class_cond else None,
            time_proj_dim=None if widths[0] == self.num_channels else self.num_channels,
        )

    def schedule(self) -> Schedule:
        """The noise schedule."""
        steps, prediction = self.diffusion_steps, "sample" if self.predict_xstart else "epsilon"
        if self.noise_schedule == "cosine":
            return Schedule(steps, beta_schedule="squaredcos_cap_v2", prediction_type=prediction)
        scale = 1000 / steps  # about the same ᾱ_T for any number of steps
        return Schedule(steps, scale * 1e-4, scale * 0.02, prediction_type=prediction)


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
    flags, unet, schedule = _described(described)
    shapes = variable_shapes(unet)
    source = f"{weights}, read with the flags in {described.name},"
    names = {path: state_dict_name(path, unet) for path in shapes}
    params = match_variables(read_state_dict(weights), shapes, names.__getitem__, source)
    return Target(unet, _split_qkv(params, unet, flags.use_new_attention_order), schedule)


def read_architecture(file: epath.PathLike) -> UNet | None:
    """The network from the flags beside `NAME.pt`; None without them. Raises `ValueError` as `load_target`."""
    described = _flags_of(epath.Path(file))
    return _described(described)[1] if described.exists() else None


def _described(file: epath.Path) -> tuple[Flags, UNet, Schedule]:
    flags = Flags.read(file)
    try:
        unet, schedule = flags.unet(), flags.schedule()
        check_unet(unet, flags.image_size, 3)
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


def _parse(name: str, value: Any, kind: type) -> Any:
    """A flag's value, from its own type or from a command line's string."""
    if kind is str:
        return ",".join(map(str, value)) if isinstance(value, list) else str(value)
    text = str(value).strip().lower()
    if kind is bool and text in _TRUE + _FALSE:
        return text in _TRUE
    if kind is int and text.removeprefix("-").isdecimal():
        return int(text)
    raise ValueError(f"{name} must be {'true or false' if kind is bool else 'a whole number'}, got {value!r}")


def _numbers(name: str, text: str, kind: type) -> list[Any]:
    try:
        numbers = [kind(number) for number in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(number > 0 for number in numbers):
        raise ValueError(f"{name} must be numbers above 0 with commas between, such as '4,8', got {text!r}")
    return numbers
