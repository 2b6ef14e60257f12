"""Where a workdir comes from: config, versions, commit and devices, for config.json."""

import importlib.metadata
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

import side_jax
from side_jax import artifacts


def resolved(config: Mapping[str, Any]) -> Any:
    """The config as plain JSON types."""
    return artifacts.plain(config.to_dict() if hasattr(config, "to_dict") else config)


def provenance(config: Mapping[str, Any]) -> dict[str, Any]:
    """The resolved config with its hash, versions, commit and devices."""
    plain = resolved(config)
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "config": plain,
        "config_hash": artifacts.fingerprint(plain),
        "versions": {"side_jax": side_jax.__version__} | {name: importlib.metadata.version(name) for name in packages},
        "commit": _commit(),
        "devices": [f"{device.platform}:{device.device_kind}" for device in jax.devices()],
    }


def _commit() -> str | None:
    """The commit of this checkout; None for an installed package, or without git."""
    root = Path(__file__).parents[1]
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return None
    done = subprocess.run([git, "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
