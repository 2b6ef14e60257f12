"""Files of a workdir, on a file system or in a bucket (gs://): whole or absent."""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from etils import epath


class AuditError(RuntimeError):
    """A stage cannot go on, and says in one line why and what to do."""


Json = dict[str, Any]  # an object of a JSON file: metrics.json, a manifest, or a part of one
MANIFEST = "manifest.json"
SPEC = "spec.json"


def is_local(path: epath.PathLike) -> bool:
    """True for a path on a file system, False for one in an object store."""
    return "://" not in os.fspath(path)


def absolute(path: epath.Path) -> epath.Path:
    """The absolute path, which Orbax asks for. (etils' `resolve` puts the current folder before gs://.)"""
    return path.resolve() if is_local(path) else path


def kvstore(folder: epath.Path) -> dict[str, str]:
    """The TensorStore spec of a folder as a key-value store."""
    if is_local(folder):
        return {"driver": "file", "path": f"{folder}/"}
    bucket, _, key = str(folder).removeprefix("gs://").partition("/")
    return {"driver": "gcs", "bucket": bucket, "path": f"{key}/" if key else ""}


def _check_local(root: Path) -> None:
    known = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    if not known.is_dir():
        raise ValueError(f"workdir {str(root)!r}: {known} is a file")
    if known != root and known != root.absolute().parent and not root.resolve().is_relative_to(Path.cwd()):
        raise ValueError(f"workdir {str(root)!r}: its parent folder does not exist; create it, or correct the path")
    if not os.access(known, os.W_OK | os.X_OK):
        raise ValueError(f"workdir {str(root)!r}: {known} cannot be written; choose another, or ask for its rights")


def check_workdir(root: epath.Path) -> None:
    """Checks that a workdir can be written at `root`. Writes nothing.

    Raises:
      ValueError: if the parent folder or the bucket is missing or out of reach, if the path is a file, or if it cannot
        be written. Missing parents below the current folder are no error: they are made.
    """
    text = str(root)
    if is_local(root):
        _check_local(Path(root))
        return
    if not text.startswith("gs://"):
        scheme = text.partition("://")[0]
        raise ValueError(f"workdir {text!r}: Orbax writes no checkpoints to {scheme}://; use a local folder or gs://")
    try:
        from google.cloud import storage  # which gcsfs needs, and Orbax

        bucket, _, key = text.removeprefix("gs://").partition("/")
        list(storage.Client().list_blobs(bucket, prefix=key, max_results=1, timeout=20, retry=None))
        root.exists()  # by gcsfs, as artifacts are read
    except ImportError as error:
        raise ValueError(f"workdir {text!r} needs gcsfs: pip install 'side_jax[gcs]'") from error
    except Exception as error:  # of google.auth, google.api_core or requests, which have no common base
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"workdir {text!r} cannot be reached ({reason}); check that the bucket exists and that the credentials"
            " (GOOGLE_APPLICATION_CREDENTIALS, or gcloud auth application-default login) may use it"
        ) from error


def names(folder: epath.Path) -> list[str]:
    """Names of the files in a folder. A path object for each of 400,000 would take ten times as long."""
    if not folder.exists():
        return []
    return os.listdir(folder) if is_local(folder) else [path.name for path in folder.iterdir()]


@contextlib.contextmanager
def open_atomic(path: epath.Path) -> Iterator[BinaryIO]:
    """A file to write to. `path` exists only when the block has ended without an error, and is whole then.

    A local file has a temporary name until it is flushed; an object store gets one PUT.
    """
    if not is_local(path):
        buffer = io.BytesIO()
        yield buffer
        try:
            path.write_bytes(buffer.getvalue())
        except Exception as error:  # of gcsfs, aiohttp or google.auth; it has tried again for a while
            raise AuditError(f"{path} cannot be written ({error}); the same command resumes") from error
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:  # flushes the folder's names: without it a power cut may undo the replacement
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: epath.Path, data: bytes) -> None:
    """Atomically writes `data`, as `open_atomic` does."""
    with open_atomic(path) as file:
        file.write(data)


def write_json(path: epath.Path, content: object) -> None:
    """Atomically writes `content` as readable JSON."""
    write_bytes(path, (json.dumps(plain(content), indent=1, sort_keys=True) + "\n").encode())


def read_json(path: epath.Path) -> Any:
    """Reads JSON; raises `ValueError` naming the file if it is not JSON."""
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); remove it, or restore it from a backup") from error


def plain(content: object) -> Any:
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


def fingerprint(content: object) -> str:
    """First 16 hex digits of SHA-256 over canonical JSON."""
    return hashlib.sha256(json.dumps(plain(content), sort_keys=True).encode()).hexdigest()[:16]


def array_hash(array: np.ndarray) -> str:
    """First 16 hex digits of SHA-256 over the type, shape and values of an array."""
    digest = hashlib.sha256(f"{array.dtype} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()[:16]


def file_hash(path: epath.Path, digits: int = 16) -> str:
    """First hex digits of the file's SHA-256; all 64 are what `sha256sum` prints."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:digits]


def differences(stored: Any, wanted: Any) -> list[str]:
    """Every leaf in which two JSON values differ, as "field: stored -> wanted"."""
    return [f"{field}: {json.dumps(old)} -> {json.dumps(new)}" for field, old, new in differing(stored, wanted)]


def differing(stored: Any, wanted: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every leaf in which two JSON values differ: (field, stored, wanted)."""
    if stored == wanted:
        return
    if not all(value is None or isinstance(value, dict) for value in (stored, wanted)):
        yield prefix, stored, wanted
        return
    stored, wanted = stored or {}, wanted or {}
    for key in sorted(stored.keys() | wanted.keys()):
        yield from differing(stored.get(key), wanted.get(key), f"{prefix}.{key}" if prefix else key)
