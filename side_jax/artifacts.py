"""Files of a workdir, on a file system or in a bucket (gs://): whole or absent."""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
from etils import epath


class AuditError(RuntimeError):
    """A stage cannot go on, and says in one line why and what to do."""


MANIFEST = "manifest.json"
SPEC = "spec.json"


def is_local(path: epath.PathLike) -> bool:
    """Is it on a file system, not in an object store?"""
    return "://" not in os.fspath(path)


def absolute(path: epath.Path) -> epath.Path:
    """The absolute path, which Orbax asks for. (etils' `resolve` puts the current folder before gs://.)"""
    return path.resolve() if is_local(path) else path


def kvstore(folder: epath.Path) -> dict[str, Any]:
    """The TensorStore spec of what lies in a folder."""
    text = str(folder)
    if is_local(folder):
        return {"driver": "file", "path": f"{text}/"}
    bucket, _, key = text.removeprefix("gs://").partition("/")
    return {"driver": "gcs", "bucket": bucket, "path": f"{key}/" if key else ""}


def check_workdir(root: epath.Path) -> None:
    """Can artifacts be kept there? Writes nothing.

    Raises:
      ValueError: if the parent folder or the bucket is missing or out of reach, or the path is a file.
    """
    text = str(root)
    if is_local(root):
        if not root.parent.exists():
            raise ValueError(f"workdir {text!r}: its parent folder does not exist; create it, or correct the path")
        if root.exists() and not root.is_dir():
            raise ValueError(f"workdir {text!r} is a file")
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


@contextlib.contextmanager
def open_atomic(path: epath.Path) -> Iterator[BinaryIO]:
    """A file to write to, which is at `path` only when the block has ended without an error, and then whole.

    Locally a temporary name, flushed and moved into place; to an object store one PUT.
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


def write_bytes(path: epath.Path, data: bytes) -> None:
    """Atomically writes `data`, as `open_atomic` does."""
    with open_atomic(path) as file:
        file.write(data)


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
    if stored != wanted and all(value is None or isinstance(value, dict) for value in (stored, wanted)):
        stored, wanted, found = stored or {}, wanted or {}, []
        for key in sorted(stored.keys() | wanted.keys()):
            found += differences(stored.get(key), wanted.get(key), f"{prefix}.{key}" if prefix else key)
        return found
    return [] if stored == wanted else [f"{prefix}: {json.dumps(stored)} -> {json.dumps(wanted)}"]
