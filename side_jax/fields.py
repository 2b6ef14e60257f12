"""Frozen dataclasses from configs: where ml_collections ends, and unknown or missing fields are named."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import flax.linen as nn

T = TypeVar("T")


def build(kind: type[T], config: Mapping[str, Any]) -> T:
    """A dataclass, nested ones included, from a ConfigDict or mapping. Raises `ValueError` naming the field."""
    return _build(kind, _plain(config), "")


def _plain(value: Any) -> Any:
    if hasattr(value, "items"):
        return {key: _plain(item) for key, item in value.items()}
    return tuple(_plain(item) for item in value) if isinstance(value, list | tuple) else value


def check_known(kind: type, fields: Mapping[str, Any], where: str) -> None:
    """Raises `ValueError` for a name in `fields` that the dataclass or module `kind` has not."""
    names = {field.name for field in dataclasses.fields(kind)}
    if issubclass(kind, nn.Module):
        names -= {"parent", "name"}
    unknown = sorted(set(fields) - names)
    if unknown:
        raise ValueError(f"{where}.{unknown[0]} is not a field; known: {', '.join(sorted(names))}")


def _build(kind: type[T], values: Any, where: str) -> T:
    """A dataclass from a mapping, nested ones included."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{where or 'config'} must be a group of fields, got {values!r}")
    check_known(kind, values, where or "config")
    built = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        path = f"{where}.{field.name}" if where else field.name
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if field.name not in values:
            if required:
                raise ValueError(f"{path} is missing from the config; configs/default.py has every field")
            continue
        value = values[field.name]
        group: Any = field.type if dataclasses.is_dataclass(field.type) else None
        try:
            built[field.name] = _build(group, value, path) if group else value
        except ValueError as error:
            if str(error).startswith("train."):  # TrainOptions does not know whose training it describes
                raise ValueError(f"{where}.{error}") from error
            raise
    return kind(**built)
