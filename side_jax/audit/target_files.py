"""Loads a target by its path: a model of some family, or the workdir of an audit."""

import dataclasses
import re

from etils import epath

from side_jax.runtime.files import MANIFEST, read_json
from side_jax.targets.families import family_of
from side_jax.targets.target import Network, Target

EXPORT = "diffusers"  # a trained target as a diffusers directory, below target/


def load_target(path: epath.PathLike) -> Target:
    """Reads a diffusion model.

    Args:
      path: a diffusers directory (a DDPM or DDIM pipeline, or a UNet2DModel), a guided-diffusion state dict (`.pt`,
        `.pth`, `.safetensors`) with its flags beside it (`.json`), or the workdir of an audit.

    Raises:
      ValueError: if the path holds no model, or its files do not fit together; names the file or option.

    Example:
      >>> import side_jax
      >>> target = side_jax.load_target("assets/orl_target")
      >>> target.image_shape, target.schedule.num_train_timesteps
      ((32, 32, 1), 1000)
    """
    root, classes = _model(path)
    return dataclasses.replace(family_of(root).load_target(root), classes=classes)


def read_architecture(path: epath.PathLike) -> Network | None:
    """The architecture of the model at `path`, whose weights may be missing; None without a model."""
    root = model_path(path) if epath.Path(path).exists() else epath.Path(path)
    return family_of(root).read_architecture(root)


def _hub(path: str) -> str:
    """A way on, if the path looks like a model's name on a hub."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", path):
        return ""
    return f"; nothing is downloaded: `hf download {path} --local-dir DIR` gets a model of this name"


def model_path(path: epath.PathLike) -> epath.Path:
    """The path of the model: `path` itself, or the model that a workdir trained or loaded. Raises `ValueError`."""
    return _model(path)[0]


def _model(path: epath.PathLike) -> tuple[epath.Path, tuple[int, ...] | None]:
    """`model_path`, and the classes that the workdir generates, if not all."""
    root = epath.Path(path)
    if not root.exists():
        raise ValueError(f"target path {str(root)!r} does not exist{_hub(str(path))}")
    manifest = root / "target" / MANIFEST
    if not manifest.exists():
        return root, None
    facts = read_json(manifest)["facts"]
    if facts["source"] == "train":
        return root / "target" / EXPORT, None
    return model_path(facts["path"]), tuple(facts.get("classes") or ()) or None
