"""What a page is made from, kept beside it: `python -m side_jax.report WORKDIR` makes the page again without JAX."""

import dataclasses
import io
import json
import zipfile
from typing import Any

import numpy as np
from etils import epath

from side_jax.report.blocks import Pair, Sheet
from side_jax.report.section import FoundPhoto, Page, Ranked
from side_jax.runtime.files import AuditError, write_bytes

FILE = "page.zip"  # in the folder of the report stage
VERSION = 1
_CLASSES = {one.__name__: one for one in (Page, Sheet, Pair, Ranked, FoundPhoto)}
_PAGE = "page.json"


def save_page(page: Page, path: epath.Path) -> None:
    """Writes the page's content as one zip file: JSON, and an npy file for each array."""
    arrays: list[np.ndarray] = []
    content = json.dumps({"version": VERSION, "page": _encode(page, arrays)})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(_PAGE, content)
        for number, array in enumerate(arrays):
            with file.open(f"{number}.npy", "w") as entry:
                np.save(entry, array, allow_pickle=False)
    write_bytes(path, buffer.getvalue())


def load_page(path: epath.Path) -> Page:
    """Reads what `save_page` wrote.

    Raises:
      AuditError: if the file is not there, damaged or of another version.
    """
    if not path.exists():
        raise AuditError(f"{path} does not exist: the workdir has no finished report")
    try:
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as file:
            content = json.loads(file.read(_PAGE))
            if content["version"] != VERSION:
                raise AuditError(f"{path} is of version {content['version']}, and this side_jax reads {VERSION}")
            page: Page = _decode(content["page"], file)
            return page
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        raise AuditError(f"{path} is damaged ({error}); --stages=report makes it again") from error


def _encode(value: Any, arrays: list[np.ndarray]) -> Any:
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if dataclasses.is_dataclass(value):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {"class": type(value).__name__, "fields": _encode(fields, arrays)}
    if isinstance(value, dict):
        return {"items": [[key, _encode(one, arrays)] for key, one in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_encode(one, arrays) for one in value]}
    return [_encode(one, arrays) for one in value] if isinstance(value, list) else value


def _decode(value: Any, file: zipfile.ZipFile) -> Any:
    match value:
        case {"array": number}:
            return np.load(io.BytesIO(file.read(f"{number}.npy")), allow_pickle=False)
        case {"class": name, "fields": fields}:
            return _CLASSES[name](**_decode(fields, file))
        case {"items": items}:
            return {key: _decode(one, file) for key, one in items}
        case {"tuple": items}:
            return tuple(_decode(one, file) for one in items)
        case list():
            return [_decode(one, file) for one in value]
    return value
