"""Groups of options of a toy audit."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from side_jax.runtime.declare import (
    AMOUNT,
    CONTENT,
    amounts,
    as_config,
    at_least,
    build,
    decided,
    each_of,
    one_of,
    option,
)


@dataclasses.dataclass(frozen=True)
class Brush:
    width: int = option(3, "pixels", at_least(1))
    workers: int = option(2, "at once", decides=False)


@dataclasses.dataclass(frozen=True)
class Painting:
    style: str = option("plain", "plain | dotted", one_of("plain", "dotted"))
    dots: int = option(5, "dotted: how many", used=lambda painting: painting.style == "dotted")
    copies: int = option(1, "of it", decides=AMOUNT)
    source: str = option("", "a file", decides=CONTENT)
    colors: tuple[str, ...] = option((), "used", each_of("red", "blue"))
    size: int | str = option(8, 'or "auto"', decides=False)
    brush: Brush = option(Brush(width=4), "the brush")
    extra: Mapping[str, Any] = option({"a": 1}, "more")

    def check(self, path):
        if self.copies > self.dots:
            raise ValueError(f"{path}.copies {self.copies} is more than dots {self.dots}")


def test_config_has_every_default_and_takes_overrides():
    config = as_config(Painting()).lock()
    config.update({"size": "auto", "brush": {"width": 7}})
    painting = build(Painting, config, "painting")
    assert painting == Painting(size="auto", brush=Brush(width=7), extra={"a": 1})
    with pytest.raises(TypeError):
        config.copies = "many"


def test_lists_become_tuples():
    values = as_config(Painting()).to_dict() | {"colors": ["red", "blue"]}
    assert build(Painting, values, "painting").colors == ("red", "blue")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"brush": {"width": 0, "workers": 1}}, "painting.brush.width must be at least 1, got 0"),
        ({"style": "bold"}, "painting.style must be one of plain, dotted, got 'bold'"),
        ({"colors": ("red", "red")}, "painting.colors must be some of red, blue, without repetitions, got"),
        ({"colors": ("green",)}, "painting.colors must be some of red, blue, without repetitions, got"),
        ({"copies": 9}, "painting.copies 9 is more than dots 5"),
        ({"frame": 1}, "painting.frame is not a field; known: brush, colors, copies"),
        ({"brush": 3}, "painting.brush must be a group of fields, got 3"),
    ],
)
def test_what_does_not_fit_is_named_by_its_path(change, message):
    with pytest.raises(ValueError, match=message):
        build(Painting, as_config(Painting()).to_dict() | change, "painting")


def test_missing_field_has_the_default_of_its_place():
    """A group inside a group may have other defaults than its class: here a brush is 3 wide, but 4 in a painting."""
    assert build(Painting, {}) == build(Painting, {"brush": {}}) == Painting()
    assert build(Painting, {"brush": {"workers": 1}}).brush == Brush(width=4, workers=1)


def test_field_decides_unless_it_is_marked_or_not_used():
    plain = decided(Painting())
    assert plain == {"style": "plain", "colors": (), "brush": {"width": 4}, "extra": {"a": 1}}
    assert decided(Painting(style="dotted"), without=("extra", "colors", "brush")) == {"style": "dotted", "dots": 5}
    assert amounts(Painting()) == {"copies": 1}


def test_every_option_of_the_audit_is_documented():
    from side_jax.audit.options import AuditOptions

    def fields(group):
        for field in dataclasses.fields(group):
            value = getattr(group, field.name)
            if "doc" in field.metadata:
                yield field
            if dataclasses.is_dataclass(value):
                assert type(value).__doc__
                yield from fields(value)

    found = list(fields(AuditOptions()))
    assert len(found) > 100
    assert all(field.metadata["doc"] for field in found)
