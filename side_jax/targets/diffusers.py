"""Hugging Face diffusers model directories, of unconditional or class-conditional pixel models (`UNet2DModel`).

`side_jax.targets.diffusers_files` says where their parts are. What is chosen among several things, or taken where
nothing is said, stands in the target's notes, and so in the log and the report.
"""

import dataclasses
import logging
from collections.abc import Collection, Mapping
from typing import get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import traverse_util
from safetensors.numpy import save as save_safetensors

from side_jax.diffusion.schedule import Schedule
from side_jax.runtime.declare import fits
from side_jax.runtime.files import Json, read_json, write_bytes, write_json
from side_jax.targets.diffusers_files import WEIGHTS, locate, unet_folder
from side_jax.targets.state_dict import match_variables, to_torch
from side_jax.targets.target import Facts, Target
from side_jax.targets.unet import UNet, check_unet, module_name

_log = logging.getLogger(__name__)

# Attention of diffusers before 0.15 -> since.
_OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

_SCHEDULERS = ("DDIMScheduler", "DDPMScheduler")  # with the same defaults
# Options that must have exactly this value if present: no other is implemented.
_UNET_FIXED: Json = {
    "act_fn": "silu",
    "class_embed_type": None,
    "mid_block_type": "UNetMidBlock2D",
    "time_embedding_type": "positional",
}
_SCHEDULER_FIXED: Json = {"thresholding": False}
# Options that change nothing here: of other time embeddings, of the moving average that `EMAModel` saved, of
# thresholding, of DDPM's variance, of NumPy tensors.
_UNET_IGNORED = (
    *("num_train_timesteps", "decay", "inv_gamma", "min_decay", "optimization_step", "power", "update_after_step"),
    "use_ema_warmup",
)
_SCHEDULER_IGNORED = ("dynamic_thresholding_ratio", "sample_max_value", "tensor_format", "variance_type")
UNET_OPTIONS = (
    "add_attention",
    "attention_head_dim",
    "attn_norm_num_groups",
    "block_out_channels",
    "center_input_sample",
    "down_block_types",
    "downsample_padding",
    "downsample_type",
    "dropout",
    "flip_sin_to_cos",
    "freq_shift",
    "in_channels",
    "layers_per_block",
    "mid_block_scale_factor",
    "norm_eps",
    "norm_num_groups",
    "num_class_embeds",
    "out_channels",
    "resnet_time_scale_shift",
    "sample_size",
    "time_embedding_dim",
    "up_block_types",
    "upsample_type",
)
_UNET_TYPES = {name: get_type_hints(UNet)[name] for name in UNET_OPTIONS}
_SCHEDULER_TYPES = {**get_type_hints(Schedule), "clip_sample": bool, "clip_sample_range": float}


def torch_name(path: tuple[str, ...]) -> str:
    """Flax path -> diffusers state-dict key: ("down_blocks_0", "conv", "kernel") -> "down_blocks.0.conv.weight"."""
    *modules, leaf = path
    leaf = {"kernel": "weight", "scale": "weight", "embedding": "weight"}.get(leaf, leaf)
    return f"{module_name(modules)}.{leaf}"


def save_target(target: Target, directory: epath.PathLike) -> None:
    """Writes a pipeline directory that diffusers itself loads and samples from (`DDIMPipeline.from_pretrained`).

    A learned variance is left out: diffusers' DDIM, like this package's, has no use for it, and cannot sample with it.
    (`DDIMPipeline` has no way to give a class; of a class-conditional target diffusers loads `unet/` and `scheduler/`.)

    Raises:
      ValueError: if the architecture has an option that diffusers' UNet2DModel has not.

    Example:
      >>> import tempfile, side_jax
      >>> target = side_jax.load_target("assets/orl_target")
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     side_jax.save_target(target, folder)
      ...     side_jax.load_target(folder).net == target.net
      True
    """
    root = epath.Path(directory)
    unet, params = target.net, jax.device_get(target.params)
    assert isinstance(unet, UNet)
    if unet.out_channels > unet.in_channels:
        mean = {name: value[..., : unet.in_channels] for name, value in params["conv_out"].items()}
        unet, params = dataclasses.replace(unet, out_channels=unet.in_channels), {**params, "conv_out": mean}
    foreign = [f for f in dataclasses.fields(unet) if f.name not in (*UNET_OPTIONS, "parent", "name")]
    for field in foreign:
        if getattr(unet, field.name) != field.default:
            raise ValueError(
                f"unet.{field.name}={getattr(unet, field.name)!r}: diffusers' UNet2DModel has no such option"
            )
    options = {name: getattr(unet, name) for name in UNET_OPTIONS}
    write_json(root / "unet" / "config.json", {"_class_name": "UNet2DModel", **_UNET_FIXED, **options})
    clipping = {"clip_sample": target.clip_x0 is not None, "clip_sample_range": float(target.clip_x0 or 1)}
    schedule = {"_class_name": "DDIMScheduler", **_SCHEDULER_FIXED, **dataclasses.asdict(target.schedule), **clipping}
    write_json(root / "scheduler" / "scheduler_config.json", schedule)
    flat = traverse_util.flatten_dict(params)
    tensors = {torch_name(path): to_torch(path, np.asarray(value)) for path, value in flat.items()}
    write_bytes(root / "unet" / WEIGHTS, save_safetensors(tensors, metadata={"format": "pt"}))
    if target.facts:
        write_json(root / "manifest.json", target.facts)
    index = {"_class_name": "DDIMPipeline", "scheduler": ["diffusers", "DDIMScheduler"]}
    write_json(root / "model_index.json", {**index, "unet": ["diffusers", "UNet2DModel"]})


def load_target(directory: epath.PathLike) -> Target:
    """Reads the directory of a pipeline, of a bare UNet2DModel, or of a checkpoint of diffusers' training example.

    A bare network has the scheduler of the pipeline that it lies in, or else diffusers' defaults, with a note. Weights
    in float16 or bfloat16 become float32.

    Raises:
      ValueError: if a file is missing or unreadable, the class or an option is not supported, or the weights have
        missing, extra or misshapen keys.
    """
    root = epath.Path(directory)
    found = locate(root)
    unet = _read_unet(found.config)
    schedule, clip_x0, chosen = _read_schedule(found.scheduler) if found.scheduler else (Schedule(), 1.0, (_DEFAULTS,))
    tensors = found.tensors()
    unet, counted = _with_classes(unet, tensors)
    notes = (*found.notes, *chosen, *counted)
    for note in notes:
        _log.warning("%s: %s", root, note)

    def name_of(path: tuple[str, ...]) -> str:
        name = torch_name(path)
        old = _old_name(name)
        return old if old in tensors else name

    params = match_variables(tensors, unet_shapes(unet), name_of, str(found.weights[0]))
    facts = Facts(read_json(found.manifest) if found.manifest else {})
    return Target(unet, params, schedule, clip_x0, facts, notes)


def recognises(path: epath.Path) -> bool:
    """True: this is the last family, whose errors say what is missing at a path."""
    return True


def read_architecture(directory: epath.PathLike) -> UNet | None:
    """The network alone, from its config.json; weights and scheduler need not be there. None without the directory.

    Raises:
      ValueError: if that file is missing or unreadable, or the class or an option is not supported.
    """
    root = epath.Path(directory)
    if not root.exists():
        return None
    file = unet_folder(root) / "config.json"
    if not file.exists():
        raise ValueError(f"{root} is not a diffusers model directory: it has no {file.relative_to(root)}")
    return _read_unet(file)


def files(directory: epath.PathLike) -> dict[str, epath.Path]:
    """The files that define the target in `directory`, in any layout. Raises `ValueError` as `load_target`."""
    root = epath.Path(directory)
    return locate(root).named(root)


def _read_config(file: epath.Path) -> Json:
    config = read_json(file)
    if not isinstance(config, dict):
        raise ValueError(f"{file} holds a {type(config).__name__}, not the JSON object of a diffusers config")
    return {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}


def _check_class(config: Mapping[str, object], file: epath.Path, classes: tuple[str, ...]) -> None:
    if config.get("_class_name") not in classes:
        known = ", ".join(classes)
        raise ValueError(f"{file}: class {config.get('_class_name')!r} is not supported; known: {known}")


def _select(
    config: Json,
    file: epath.Path,
    types: Mapping[str, object],
    fixed: Mapping[str, object],
    ignored: Collection[str],
) -> Json:
    """The options of a config that `types` names, after refusing every other key that asks for something."""
    for key, value in config.items():
        if key in types and not fits(value, types[key]):
            raise ValueError(f"{file}: {key}={value!r} is not of type {types[key]}")
        if key in fixed and value != fixed[key]:
            raise ValueError(f"{file}: {key}={value!r} is not supported; only {fixed[key]!r} is")
        known = key in types or key in fixed or key in ignored or key.startswith("_")
        if not known and value is not None and value is not False:
            raise ValueError(f"{file}: {key}={value!r} is not supported: no option of this name is known")
    return {key: float(value) if types[key] is float else value for key, value in config.items() if key in types}


def _read_unet(file: epath.Path) -> UNet:
    config = _read_config(file)
    _check_class(config, file, ("UNet2DModel",))
    size = config.get("sample_size")
    if isinstance(size, tuple) and len(set(size)) == 1:
        config["sample_size"] = size[0]
    if not isinstance(config.get("sample_size"), int):
        raise ValueError(
            f"{file}: sample_size must be one number, got {config.get('sample_size')!r}; set it to the pixels a side of"
            " the square images that the model was trained on"
        )
    unet = UNet(**_select(config, file, _UNET_TYPES, _UNET_FIXED, _UNET_IGNORED))
    try:
        check_unet(unet, config["sample_size"], unet.in_channels)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    return unet


def _with_classes(unet: UNet, tensors: Mapping[str, np.ndarray]) -> tuple[UNet, tuple[str, ...]]:
    """The network with as many classes as the weights embed, and a note if its config says otherwise."""
    name, said = "class_embedding.weight", unet.num_class_embeds
    if name not in tensors or len(tensors[name]) == said:
        return unet, ()
    count = len(tensors[name])
    note = f"num_class_embeds={said} in config.json, but the weights embed {count} classes, which are taken"
    return dataclasses.replace(unet, num_class_embeds=count), (note,)


_DEFAULTS = (
    "no scheduler_config.json is there: diffusers' DDPM defaults are taken (1000 timesteps, linear betas 1e-4 to 0.02,"
    " epsilon prediction, clipping to [-1, 1]); put the model's own beside config.json if it has one"
)


def _read_schedule(file: epath.Path) -> tuple[Schedule, float | None, tuple[str, ...]]:
    """The schedule, the range that x̂₀ is clipped to (None if it is not clipped), and what was chosen."""
    config = _read_config(file)
    foreign = config.get("_class_name") not in _SCHEDULERS
    if foreign:
        _check_betas(config, file)
    if config.get("predict_epsilon") is not None:  # before diffusers 0.10
        config.setdefault("prediction_type", "epsilon" if config["predict_epsilon"] else "sample")
        del config["predict_epsilon"]
    ignored = config if foreign else _SCHEDULER_IGNORED
    options = _select(config, file, _SCHEDULER_TYPES, _SCHEDULER_FIXED, ignored)
    clip, clip_range = options.pop("clip_sample", True), options.pop("clip_sample_range", 1.0)
    if clip and not clip_range > 0:
        raise ValueError(f"{file}: clip_sample_range must be above 0, got {clip_range!r}")
    try:
        schedule, clip_x0 = Schedule(**options), float(clip_range) if clip else None
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    return schedule, clip_x0, _foreign_notes(config, schedule, clip_x0) if foreign else ()


def _check_betas(config: Json, file: epath.Path) -> None:
    """Refuses a scheduler whose noise schedule the file does not give: defaults differ from class to class."""
    absent = [name for name in ("beta_start", "beta_end", "beta_schedule") if config.get(name) is None]
    if absent and config.get("trained_betas") is None:
        raise ValueError(
            f"{file}: class {config.get('_class_name')!r} is not supported without {', '.join(absent)}; known:"
            f" {', '.join(_SCHEDULERS)}, and any other whose file gives the betas"
        )


def _foreign_notes(config: Json, schedule: Schedule, clip_x0: float | None) -> tuple[str, ...]:
    """What is taken from another scheduler, as `DDIMScheduler.from_config` takes it, and what its file does not say."""
    betas = f"{schedule.beta_schedule} betas {schedule.beta_start:g} to {schedule.beta_end:g}"
    taken = (
        f"{schedule.num_train_timesteps} timesteps, {'trained betas' if schedule.trained_betas else betas},"
        f" {schedule.prediction_type}, {f'clipping to ±{clip_x0:g}' if clip_x0 else 'no clipping'}"
    )
    unsaid = [name for name in ("num_train_timesteps", "prediction_type", "clip_sample") if name not in config]
    assumed = f"; {', '.join(unsaid)} as DDIM has by default" if unsaid else ""
    return (f"of {config.get('_class_name')} the noise schedule is taken, and the steps are DDIM's: {taken}{assumed}",)


def _old_name(name: str) -> str:
    for new, old in _OLD_NAMES.items():
        name = name.replace(f".{new}.", f".{old}.")
    return name


def unet_shapes(unet: UNet) -> dict[tuple[str, ...], tuple[int, ...]]:
    """Shape of every parameter by path, without computing any."""
    size = unet.sample_size or 2 ** len(unet.block_out_channels)
    x = jax.ShapeDtypeStruct((1, size, size, unet.in_channels), jnp.float32)
    t = jax.ShapeDtypeStruct((1,), jnp.int32)
    variables = jax.eval_shape(unet.init, jax.random.key(0), x, t, None if unet.num_class_embeds is None else t)
    return {path: leaf.shape for path, leaf in traverse_util.flatten_dict(variables["params"]).items()}
