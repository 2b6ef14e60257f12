"""Where a workdir comes from: config, versions, commit and devices, for config.json."""

import importlib.metadata
import shutil
import subprocess
from pathlib import Path

import jax

import side_jax
from side_jax.audit.options import AuditOptions
from side_jax.audit.stages import STAGES
from side_jax.runtime import files
from side_jax.runtime.files import Json


def provenance(options: AuditOptions) -> Json:
    """The options, every default included, with their hash, versions, commit and devices."""
    plain = files.plain(options)
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "config": plain,
        "config_hash": files.fingerprint(plain),
        "left_out": left_out(options),
        "versions": {"side_jax": side_jax.__version__} | {name: importlib.metadata.version(name) for name in packages},
        "commit": _commit(),
        "devices": [f"{device.platform}:{device.device_kind}" for device in jax.devices()],
    }


def left_out(options: AuditOptions) -> list[str]:
    """Names of the stages that an audit without a model leaves out; none with one."""
    return [stage.name for stage in STAGES if stage.of_model] if options.modelless else []


def software() -> dict[str, str]:
    """Minor versions of the libraries that decide results: their random streams, initialisers and lowering."""
    return {name: ".".join(importlib.metadata.version(name).split(".")[:2]) for name in ("jax", "flax")}


def _commit() -> str | None:
    """The commit of this checkout; None for an installed package, or without git."""
    root = Path(__file__).parents[2]
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return None
    done = subprocess.run([git, "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
