"""Options, each field declared once: default, check, documentation, and whether a result depends on it.

A frozen dataclass of `option` fields is a group. From it come the config that users override (`as_config`), the checked
object that stages get (`build`), the fields for which a workdir is refused (`decided`) and those that extend it
(`amounts`).
"""

import dataclasses
import types
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, get_args, get_origin

import flax.linen as nn
from ml_collections import ConfigDict, FieldReference

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")

AMOUNT = "amount"  # more of it extends a workdir
CONTENT = "content"  # the content that it names decides, not the name: the hash of a file, the pixels of images


class Check(NamedTuple):
    """A condition on a value, and the rule in words."""

    holds: Callable[[Any], bool]
    rule: str


def at_least(least: float) -> Check:
    """value >= least."""
    return Check(lambda value: value >= least, f"at least {least}")


def above(least: float) -> Check:
    """value > least."""
    return Check(lambda value: value > least, f"above {least}")


def one_of(*known: str) -> Check:
    """One of these strings."""
    return named_in(known)


def named_in(registry: Collection[str], *more: str) -> Check:
    """A name in a registry, or one of `more`."""
    rule = "one of " + ", ".join(name or "''" for name in (*more, *registry))
    return Check(lambda value: value in registry or value in more, rule)


def each_of(*known: str) -> Check:
    """A sequence of these strings, without repetitions."""
    return Check(
        lambda values: DISTINCT.holds(values) and set(values) <= set(known),
        f"some of {', '.join(known)}, without repetitions",
    )


SOME = Check(lambda values: len(values) > 0, "at least one")
WINDOW = Check(
    lambda window: 0 <= window[0] < window[1] <= 1, "(first, last), shares of the steps with 0 <= first < last <= 1"
)
DISTINCT = Check(lambda values: len(set(values)) == len(values), "without repetitions")


def require(check: Check, field: str, value: object) -> None:
    """Raises `ValueError`, naming the field, its rule and the value, unless the check holds."""
    if not check.holds(value):
        raise ValueError(f"{field} must be {check.rule}, got {value!r}")


def option(
    default: object,
    doc: str,
    check: Check | None = None,
    *,
    decides: bool | str = True,
    used: Callable[[Any], bool] | None = None,
) -> Any:
    """A field of a group.

    Args:
      default: its value in configs/default.py; a mapping, a group, or plain.
      doc: one line, for configs/default.py and docs/configuration.md.
      check: what its value must fulfil.
      decides: True if a result depends on it; `AMOUNT`, `CONTENT`, or False if it changes speed, memory or words only.
      used: given the group, tells if the field is read at all with these values of the others; None: always.
    """
    metadata = {"doc": doc, "check": check, "decides": decides, "used": used}
    if isinstance(default, Mapping):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def as_config(group: "DataclassInstance") -> ConfigDict:
    """The ConfigDict of a group, nested ones included; a field of several types takes any."""
    config = ConfigDict()
    for field in dataclasses.fields(group):
        value = getattr(group, field.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = as_config(value)
        elif isinstance(value, Mapping):
            value = ConfigDict(value)
        elif isinstance(field.type, types.UnionType):
            value = FieldReference(value, field_type=object)
        config[field.name] = value
    return config


def build(kind: type[T], config: Mapping[str, object], path: str = "", default: T | None = None) -> T:
    """A group, nested ones included, from a ConfigDict or mapping, checked. A field that is missing has its default.

    A group may have a method `check(path)` for rules that join several fields.

    Args:
      kind: the group's class.
      config: its fields.
      path: the group's name in messages.
      default: the group with the defaults; None for those of the class.

    Raises:
      ValueError: for an unknown field, or a value that does not fit, naming the field.
    """
    default = default or kind()
    values = _plain(config)
    if not isinstance(values, Mapping):
        raise ValueError(f"{path or 'config'} must be a group of fields, got {values!r}")
    check_known(kind, values, path or "config")
    built = {}
    for field in dataclasses.fields(kind):
        name = f"{path}.{field.name}" if path else field.name
        known = getattr(default, field.name)
        value: Any = values[field.name] if field.name in values else _plain(known)
        nested: Any = field.type if dataclasses.is_dataclass(field.type) else None
        if not nested and not fits(value, field.type):
            kind_name = field.type.__name__ if isinstance(field.type, type) else field.type
            raise ValueError(f"{name} must be {kind_name}, got {value!r}")
        built[field.name] = build(nested, value, name, known) if nested else value
        if check := field.metadata.get("check"):
            require(check, name, value)
    group = kind(**built)
    if hasattr(group, "check"):
        group.check(path)
    return group


def fits(value: Any, kind: Any) -> bool:
    """True if a value, as JSON or a config has it, is of a declared type. An integer is a float too, a bool neither."""
    if isinstance(kind, types.UnionType):
        return any(fits(value, one) for one in get_args(kind))
    origin, parts = get_origin(kind) or kind, get_args(kind)
    if origin is tuple and parts:
        each = parts[:1] * len(value) if isinstance(value, tuple) and parts[1:] == (...,) else parts
        return isinstance(value, tuple) and len(value) == len(each) and all(map(fits, value, each))
    if isinstance(value, bool):
        return origin is bool
    return isinstance(value, (int, float) if origin is float else origin)


def adapted(kind: type, config: Mapping[str, Any], path: str = "") -> tuple[dict[str, Any], list[str]]:
    """The fields of a config that this version knows, and the names of all fields that only one of the two has."""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    fitted: dict[str, Any] = {}
    prefix = f"{path}." if path else ""
    differing = [prefix + name for name in (*config, *fields) if (name in config) != (name in fields)]
    for name, field in fields.items():
        if name in config and dataclasses.is_dataclass(field.type) and isinstance(config[name], Mapping):
            fitted[name], more = adapted(field.type, config[name], prefix + name)  # type: ignore[arg-type]
            differing += more
        elif name in config:
            fitted[name] = config[name]
    return fitted, differing


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping | ConfigDict):
        return {key: _plain(item) for key, item in value.items()}
    return tuple(_plain(item) for item in value) if isinstance(value, list | tuple) else value


def check_known(kind: type, fields: Collection[str], path: str) -> None:
    """Raises `ValueError` for a name in `fields` that is no field of the dataclass or module `kind`."""
    names = {field.name for field in dataclasses.fields(kind)}
    if issubclass(kind, nn.Module):
        names -= {"parent", "name"}
    unknown = sorted(set(fields) - names)
    if unknown:
        raise ValueError(f"{path}.{unknown[0]} is not a field; known: {', '.join(sorted(names))}")


def decided(group: "DataclassInstance", without: Collection[str] = (), decides: bool | str = True) -> dict[str, object]:
    """The fields of a group that a result depends on (or that are marked `decides`), except those in `without`."""
    chosen = {}
    for field in dataclasses.fields(group):
        value, used = getattr(group, field.name), field.metadata["used"]
        if field.name in without or field.metadata["decides"] is not decides or (used and not used(group)):
            continue
        nested = dataclasses.is_dataclass(value) and not isinstance(value, type)
        chosen[field.name] = decided(value, decides=decides) if nested else value
    return chosen


def amounts(group: "DataclassInstance") -> dict[str, object]:
    """The fields of a group that say how much is wanted."""
    return decided(group, decides=AMOUNT)
