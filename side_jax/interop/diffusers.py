"""Hugging Face diffusers model directories: `model_index.json`, `unet/`, `scheduler/`, safetensors."""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import traverse_util
from safetensors.numpy import save as save_safetensors

from side_jax.artifacts import read_json, write_bytes, write_json
from side_jax.diffusion.schedule import Schedule
from side_jax.interop.state_dict import match_variables, read_state_dict, to_torch
from side_jax.models.unet import UNet, check_unet
from side_jax.target import Target

WEIGHTS = "diffusion_pytorch_model.safetensors"
_LISTS = re.compile(r"(down_blocks|up_blocks|resnets|attentions|downsamplers|upsamplers|to_out)_(\d+)")
NOT_IN_DIFFUSERS = ("num_attention_heads", "time_proj_dim")  # fields of UNet

# Options of UNet2DModel and its schedulers that must have exactly this value if present: no other is implemented.
_UNET_FIXED: dict[str, Any] = {
    "act_fn": "silu",
    "class_embed_type": None,
    "mid_block_type": "UNetMidBlock2D",
    "num_class_embeds": None,
    "time_embedding_type": "positional",
}
_SCHEDULER_FIXED: dict[str, Any] = {
    "clip_sample_range": 1.0,
    "prediction_type": "epsilon",
    "rescale_betas_zero_snr": False,
    "set_alpha_to_one": True,
    "thresholding": False,
    "timestep_spacing": "leading",
    "trained_betas": None,
}


def torch_name(path: tuple[str, ...]) -> str:
    """Flax path -> diffusers state-dict key: ("down_blocks_0", "conv", "kernel") -> "down_blocks.0.conv.weight"."""
    *modules, leaf = path
    leaf = {"kernel": "weight", "scale": "weight"}.get(leaf, leaf)
    return ".".join([_LISTS.sub(r"\1.\2", module) for module in modules] + [leaf])


def save_target(target: Target, directory: epath.PathLike) -> None:
    """Writes a pipeline directory that diffusers itself loads (`DDIMPipeline.from_pretrained`).

    Raises:
      ValueError: if the architecture uses a field that diffusers does not have, before anything is written.
    """
    for name in NOT_IN_DIFFUSERS:
        if getattr(target.unet, name) is not None:
            raise ValueError(
                f"diffusers' UNet2DModel has no {name}={getattr(target.unet, name)!r}; a model that needs it (a"
                " guided-diffusion one) cannot be written as a diffusers directory"
            )
    root = epath.Path(directory)
    unet = {f.name: getattr(target.unet, f.name) for f in _unet_fields()}
    write_json(root / "unet" / "config.json", {"_class_name": "UNet2DModel", **_UNET_FIXED, **unet})
    write_json(
        root / "scheduler" / "scheduler_config.json",
        {
            "_class_name": "DDIMScheduler",
            **_SCHEDULER_FIXED,
            **dataclasses.asdict(target.schedule),
            "clip_sample": target.clip_x0,
        },
    )
    flat = traverse_util.flatten_dict(jax.device_get(target.params))
    tensors = {torch_name(path): to_torch(path, np.asarray(value)) for path, value in flat.items()}
    write_bytes(root / "unet" / WEIGHTS, save_safetensors(tensors, metadata={"format": "pt"}))
    if target.facts:
        write_json(root / "manifest.json", target.facts)
    index = {"_class_name": "DDIMPipeline", "scheduler": ["diffusers", "DDIMScheduler"]}
    write_json(root / "model_index.json", {**index, "unet": ["diffusers", "UNet2DModel"]})


def load_target(directory: epath.PathLike) -> Target:
    """Reads a pipeline directory.

    Raises:
      ValueError: if a file is missing or unreadable, the class or an option is not supported, or the weights have
        missing, extra or misshapen keys.
    """
    root = epath.Path(directory)
    for file in ("unet/config.json", f"unet/{WEIGHTS}", "scheduler/scheduler_config.json"):
        if not (root / file).exists():
            raise ValueError(f"{root} is not a diffusers pipeline directory: {file} is missing")
    config = _checked(read_json(root / "unet" / "config.json"), root, "unet", ("UNet2DModel",), _UNET_FIXED)
    scheduling = read_json(root / "scheduler" / "scheduler_config.json")
    known = ("DDIMScheduler", "DDPMScheduler")
    scheduling = _checked(scheduling, root, "scheduler", known, _SCHEDULER_FIXED)
    names = {f.name for f in _unet_fields()}
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items() if k in names}
    unet = UNet(**fields)
    schedule_names = {f.name for f in dataclasses.fields(Schedule)}
    schedule = Schedule(**{k: v for k, v in scheduling.items() if k in schedule_names})
    size = unet.sample_size
    if not isinstance(size, int):
        raise ValueError(f"{root}/unet/config.json: sample_size must be one number, got {size!r}")
    check_unet(unet, size, unet.in_channels)
    params = _load_params(unet, root / "unet" / WEIGHTS)
    manifest = root / "manifest.json"
    facts = read_json(manifest) if manifest.exists() else {}
    return Target(unet, params, schedule, bool(scheduling.get("clip_sample", True)), facts)


def _unet_fields() -> list[Any]:
    return [f for f in dataclasses.fields(UNet) if f.name not in ("parent", "name", *NOT_IN_DIFFUSERS)]


def _checked(config: Any, root: epath.Path, part: str, classes: tuple[str, ...], fixed: dict[str, Any]) -> Any:
    if config.get("_class_name") not in classes:
        raise ValueError(f"{root}/{part}: class {config.get('_class_name')!r} is not supported; known: {classes}")
    for option, value in fixed.items():
        if config.get(option, value) != value:
            raise ValueError(f"{root}/{part}: {option}={config[option]!r} is not supported; only {value!r} is")
    return config


def unet_shapes(unet: UNet) -> dict[tuple[str, ...], tuple[int, ...]]:
    """Path -> shape of every parameter, without computing any."""
    size = unet.sample_size or 2 ** len(unet.block_out_channels)
    x = jax.ShapeDtypeStruct((1, size, size, unet.in_channels), jnp.float32)
    t = jax.ShapeDtypeStruct((1,), jnp.int32)
    variables = jax.eval_shape(unet.init, jax.random.key(0), x, t)
    return {path: leaf.shape for path, leaf in traverse_util.flatten_dict(variables["params"]).items()}


def _load_params(unet: UNet, file: epath.Path) -> Any:
    return match_variables(read_state_dict(file), unet_shapes(unet), torch_name, str(file))
