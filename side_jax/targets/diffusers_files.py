"""Where the parts of a diffusers model are: in a pipeline, beside it, or in a training checkpoint.

pipeline        model_index.json  unet/  scheduler/        or everything in the root, as google/ddpm-*
bare            config.json and weights of a UNet2DModel; the scheduler of the pipeline that it lies in
checkpoint-500  unet_ema/  unet/                            of diffusers' training example
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from etils import epath

from side_jax.runtime.files import Json, read_json
from side_jax.targets.state_dict import read_state_dict

WEIGHTS = "diffusion_pytorch_model.safetensors"
_TORCH_WEIGHTS = "diffusion_pytorch_model.bin"
_INDEX = ".index.json"  # of weights in several files
_SCHEDULER = "scheduler_config.json"
_FOLDERS = ("unet", "unet_ema")
_PIPELINES = ("DDIMPipeline", "DDPMPipeline")


class Located(NamedTuple):
    """The files of a model.

    Attributes:
      config: of the network.
      weights: one file, or several that share its tensors out, after their index.
      scheduler: None if there is none.
      manifest: what its maker says of its training; None if there is none.
      notes: what was chosen, in words.
    """

    config: epath.Path
    weights: tuple[epath.Path, ...]
    scheduler: epath.Path | None
    manifest: epath.Path | None
    notes: tuple[str, ...]

    def named(self, root: epath.Path) -> dict[str, epath.Path]:
        """Every file by its path relative to the model's."""
        found = [self.config, *self.weights, *([self.scheduler] if self.scheduler else [])]
        return {os.path.relpath(file, root): file for file in found}

    def tensors(self) -> Mapping[str, np.ndarray]:
        """The tensors of all files. Raises `ValueError` for a file that is missing or cannot be read."""
        if len(self.weights) == 1:
            return read_state_dict(self.weights[0])
        return {name: tensor for file in self.weights[1:] for name, tensor in read_state_dict(file).items()}


def unet_folder(root: epath.Path) -> epath.Path:
    """The folder of the network: that of the moving average if a training checkpoint has one."""
    checkpoint = not (root / "model_index.json").exists() and (root / "unet_ema").exists()
    folder = root / ("unet_ema" if checkpoint else "unet")
    return folder if folder.exists() else root


def locate(root: epath.Path) -> Located:
    """Locates the parts.

    Raises:
      ValueError: if one is missing, or the pipeline has parts that are not supported.
    """
    notes, bare = list(_index_notes(root)), not (root / "model_index.json").exists()
    folder = unet_folder(root)
    if folder.name == "unet_ema" and (root / "unet").exists():
        notes.append("unet_ema, the moving average, is read, and unet beside it is not")
    if (name := _absolute(folder)).name == "unet" and bare and (name.parent / "unet_ema").exists():
        notes.append("unet is read, and unet_ema beside it, the moving average, is not")
    weights, chosen = _weights(folder)
    homes = [root, *_around(folder)] if bare else [root]
    scheduler = _first(home / name for home in homes for name in (f"scheduler/{_SCHEDULER}", _SCHEDULER))
    inside = "" if folder == root else f"{folder.name}/"
    wanted = (
        (f"{inside}config.json", (folder / "config.json").exists()),
        (f"{inside}{WEIGHTS} or {_TORCH_WEIGHTS}", weights),
        (f"scheduler/{_SCHEDULER}", scheduler or bare),
    )
    missing = [f"no {name}" for name, exists in wanted if not exists]
    if missing:
        checkpoints = sorted(file.name for file in root.glob("checkpoint-*"))
        hint = f"; it has {', '.join(checkpoints)}: name one" if checkpoints else ""
        raise ValueError(f"{root} is not a diffusers model directory: it has {', '.join(missing)}{hint}")
    if scheduler and not scheduler.is_relative_to(root):
        notes.append(f"the scheduler is {os.path.relpath(scheduler, root)}, that of the pipeline around the network")
    manifest = _first(home / "manifest.json" for home in homes)
    return Located(folder / "config.json", weights, scheduler, manifest, (*notes, *chosen))


def _first(files: Iterable[epath.Path]) -> epath.Path | None:
    return next((file for file in files if file.exists()), None)


def _index_notes(root: epath.Path) -> Iterator[str]:
    """What a pipeline's index says that is not read. Raises `ValueError` for parts that are not supported."""
    file = root / "model_index.json"
    if not file.exists():
        return
    index: Json = read_json(file)
    parts = [name for name, value in index.items() if isinstance(value, list) and value and value[0]]
    others = [name for name in parts if name not in ("unet", "scheduler")]
    if others or ("unet" not in parts and index.get("_class_name") not in _PIPELINES):
        lacks = f"has {', '.join(others)}" if others else "has no unet"
        raise ValueError(
            f"{file}: pipeline {index.get('_class_name')!r} {lacks}; a model of pixels has a unet and a scheduler alone"
        )
    if index.get("_class_name") not in _PIPELINES:
        yield f"the steps of the pipeline {index.get('_class_name')!r} are not known: its network is sampled by DDIM"


def _around(folder: epath.Path) -> Iterator[epath.Path]:
    """The pipeline that a network's folder lies in, and the output folder that its checkpoint lies in."""
    resolved = _absolute(folder)
    if resolved.name in _FOLDERS:
        yield resolved.parent
        if resolved.parent.name.startswith("checkpoint-"):
            yield resolved.parent.parent


def _absolute(folder: epath.Path) -> epath.Path:
    return folder if "://" in os.fspath(folder) else epath.Path(os.path.abspath(folder))


def _weights(folder: epath.Path) -> tuple[tuple[epath.Path, ...], list[str]]:
    """The files of the weights, and what was chosen. Raises `ValueError` if it is not clear which."""
    for name in (WEIGHTS, WEIGHTS + _INDEX, _TORCH_WEIGHTS, _TORCH_WEIGHTS + _INDEX):
        if (file := folder / name).exists():
            return (_shards(file) if name.endswith(_INDEX) else (file,)), []
    variants = _variants(folder, WEIGHTS) or _variants(folder, _TORCH_WEIGHTS)
    if len(variants) > 1:
        names = ", ".join(file.name for file in variants)
        raise ValueError(f"{folder} has the weights in several variants: {names}; keep one, or rename it to {WEIGHTS}")
    notes = [f"the weights are the variant {file.name}" for file in variants]
    return (_shards(variants[0]) if variants and variants[0].suffix == ".json" else tuple(variants)), notes


def _variants(folder: epath.Path, name: str) -> list[epath.Path]:
    """Weights that diffusers saved with `variant`: one file, or the index of several."""
    stem, _, suffix = name.partition(".")
    single = [file for file in folder.glob(f"{stem}.*.{suffix}") if "-of-" not in file.name]  # a shard is no variant
    return sorted([*single, *folder.glob(f"{name}.index.*.json")])


def _shards(index: epath.Path) -> tuple[epath.Path, ...]:
    content = read_json(index)
    where = content.get("weight_map") if isinstance(content, dict) else None
    names = sorted(set(where.values())) if isinstance(where, dict) else []
    absent = [name for name in names if not (index.parent / name).exists()]
    if absent or not names:
        raise ValueError(f"{index}: {f'its file {absent[0]} is missing' if absent else 'it names no files'}")
    return (index, *(index.parent / name for name in names))
