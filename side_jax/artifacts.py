"""Files of a workdir: written to a temporary name, checked, moved into place."""

import dataclasses
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from etils import epath


class AuditError(RuntimeError):
    """A stage cannot go on, and says in one line why and what to do."""


MANIFEST = "manifest.json"
SPEC = "spec.json"


def write_atomic(path: epath.Path, write: Callable[[epath.Path], object]) -> None:
    """Calls `write` on a temporary sibling of `path`, a file or folder, and moves that into place: whole or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        if temporary.exists():  # only after an error
            temporary.rmtree() if temporary.is_dir() else temporary.unlink()


def write_bytes(path: epath.Path, data: bytes) -> None:
    """Atomically writes `data`, flushed to disk where the file system is local."""

    def write(temporary: epath.Path) -> None:
        with temporary.open("wb") as file:
            file.write(data)
            sync(file, temporary)

    write_atomic(path, write)


def sync(file: Any, path: epath.Path) -> None:
    """Flushes an open file to disk where its `path` is on a local file system."""
    file.flush()
    if hasattr(file, "fileno") and not str(path).startswith("gs://"):
        os.fsync(file.fileno())


def write_json(path: epath.Path, content: Any) -> None:
    """Atomically writes `content` as readable JSON."""
    write_bytes(path, (json.dumps(plain(content), indent=1, sort_keys=True) + "\n").encode())


def read_json(path: epath.Path) -> Any:
    """Reads JSON; raises `ValueError` naming the file if it is not JSON."""
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); remove it, or restore it from a backup") from error


def plain(content: Any) -> Any:
    """`content` with dataclasses, NumPy scalars and arrays, tuples and paths as plain JSON types."""
    if dataclasses.is_dataclass(content) and not isinstance(content, type):
        content = dataclasses.asdict(content)
    if isinstance(content, Mapping):
        return {str(key): plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple | np.ndarray):
        return [plain(value) for value in content]
    if isinstance(content, np.generic):
        return content.item()
    if isinstance(content, os.PathLike):
        return os.fspath(content)
    return content


def fingerprint(content: Any) -> str:
    """First 16 hex digits of SHA-256 over canonical JSON."""
    return hashlib.sha256(json.dumps(plain(content), sort_keys=True).encode()).hexdigest()[:16]


def file_hash(path: epath.Path, digits: int = 16) -> str:
    """First hex digits of the file's SHA-256; all 64 are what `sha256sum` prints."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:digits]


def differences(stored: Any, wanted: Any, prefix: str = "") -> list[str]:
    """Every leaf in which two JSON values differ, as "field: stored -> wanted"."""
    if isinstance(stored, dict) and isinstance(wanted, dict):
        found = []
        for key in sorted(stored.keys() | wanted.keys()):
            found += differences(stored.get(key), wanted.get(key), f"{prefix}.{key}" if prefix else key)
        return found
    return [] if stored == wanted else [f"{prefix}: {json.dumps(stored)} -> {json.dumps(wanted)}"]
