"""Conditions on the metrics of an audit, such as `ums_excess > 0 and p < 0.01`: parsed by hand, never run as code.

    any        := all ("or" all)*
    all        := one ("and" one)*
    one        := "not" one | "(" any ")" | METRIC OPERATOR NUMBER
    OPERATOR   := < | <= | > | >= | == | !=
    NUMBER     := -0.5 | .5 | 1e-3 | …

A metric that was not measured makes its comparison unknown (Kleene's three values): `unknown and false` is false,
`unknown or true` is true, and else what has an unknown part is unknown.
"""

import dataclasses
import difflib
import math
import operator
import re
from collections.abc import Callable, Collection, Iterator, Mapping

OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_WORDS = ("and", "or", "not")
_DEEPEST = 50  # parentheses and "not" within each other
_TOKEN = re.compile(
    r"\s*(?:(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]))|(?P<word>[A-Za-z_]\w*)"
    r"|(?P<operator><=|>=|==|!=|<|>)|(?P<parenthesis>[()]))",
    re.ASCII,
)
Values = Mapping[str, float | None]  # metric -> value; None, or no entry, if it was not measured


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A metric compared with a number."""

    metric: str
    operator: str
    number: float


@dataclasses.dataclass(frozen=True)
class Not:
    """True if its part is false."""

    part: "Condition"


@dataclasses.dataclass(frozen=True)
class All:
    """`and`: two parts or more."""

    parts: "tuple[Condition, ...]"


@dataclasses.dataclass(frozen=True)
class Any:
    """`or`: two parts or more."""

    parts: "tuple[Condition, ...]"


Condition = Comparison | Not | All | Any


@dataclasses.dataclass(frozen=True)
class _Token:
    kind: str  # a group of `_TOKEN`, or "end"
    text: str
    position: int  # of its first character, from 1


def parse(text: str, metrics: Collection[str]) -> Condition:
    """The condition that a text says.

    Args:
      text: as above.
      metrics: names that it may use.

    Raises:
      ValueError: one line with the position of what is not understood, or with the metrics that an unknown one is
        nearest to.
    """
    parser = _Parser(list(_tokens(text)), text, metrics)
    condition = parser.any(0)
    if parser.next.kind != "end":
        raise parser.error("'and', 'or' or the end")
    return condition


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while text[at:].strip():
        found = _TOKEN.match(text, at)
        if found is None:
            place = at + len(text[at:]) - len(text[at:].lstrip())
            raise ValueError(f"{text!r}, position {place + 1}: {text[place : place + 10]!r} is not understood")
        kind = str(found.lastgroup)
        yield _Token(kind, found[kind], found.start(kind) + 1)
        at = found.end()
    yield _Token("end", "", len(text) + 1)


class _Parser:
    """Recursive descent, one token ahead."""

    def __init__(self, tokens: list[_Token], text: str, metrics: Collection[str]) -> None:
        self._tokens, self._text, self._metrics, self._at = tokens, text, metrics, 0

    @property
    def next(self) -> _Token:
        return self._tokens[self._at]

    def error(self, wanted: str) -> ValueError:
        """What stands where something else is wanted."""
        got = repr(self.next.text) if self.next.text else "the end"
        return ValueError(f"{self._text!r}, position {self.next.position}: wanted {wanted}, got {got}")

    def any(self, depth: int) -> Condition:
        parts = [self._all(depth)]
        while self._took("or"):
            parts.append(self._all(depth))
        return parts[0] if len(parts) == 1 else Any(tuple(parts))

    def _all(self, depth: int) -> Condition:
        parts = [self._one(depth)]
        while self._took("and"):
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _one(self, depth: int) -> Condition:
        if depth > _DEEPEST:
            raise self.error(f"at most {_DEEPEST} parentheses within each other")
        if self._took("not"):
            return Not(self._one(depth + 1))
        if self._took("("):
            inner = self.any(depth + 1)
            if not self._took(")"):
                raise self.error("')', 'and' or 'or'")
            return inner
        return self._comparison()

    def _comparison(self) -> Comparison:
        if self.next.kind != "word" or self.next.text in _WORDS:
            raise self.error("a metric")
        if self.next.text not in self._metrics:
            raise ValueError(f"{self._text!r}, position {self.next.position}: {self._unknown(self.next.text)}")
        name = self._take().text
        if self.next.kind != "operator":
            raise self.error(f"one of {' '.join(OPERATORS)}")
        compare = self._take().text
        if self.next.kind != "number" or not math.isfinite(float(self.next.text)):
            raise self.error("a number")
        return Comparison(name, compare, float(self._take().text))

    def _unknown(self, name: str) -> str:
        near = ", ".join(difflib.get_close_matches(name, self._metrics, n=3))
        return f"no metric {name!r}{f'; near it: {near}' if near else ''}; --fail_if=help lists all"

    def _took(self, text: str) -> bool:
        return self.next.text == text and bool(self._take())

    def _take(self) -> _Token:
        self._at += 1
        return self._tokens[self._at - 1]


def names(condition: Condition) -> list[str]:
    """Metrics that a condition uses, each once, from left to right."""
    if isinstance(condition, Comparison):
        return [condition.metric]
    parts = (condition.part,) if isinstance(condition, Not) else condition.parts
    return list(dict.fromkeys(name for part in parts for name in names(part)))


def holds(condition: Condition, values: Values) -> bool | None:
    """Whether it holds; None if metrics that were not measured decide."""
    if isinstance(condition, Comparison):
        value = values.get(condition.metric)
        return None if value is None else OPERATORS[condition.operator](value, condition.number)
    if isinstance(condition, Not):
        inner = holds(condition.part, values)
        return None if inner is None else not inner
    found = [holds(part, values) for part in condition.parts]
    decides = isinstance(condition, Any)  # one true part decides an `or`, one false part an `and`
    if decides in found:
        return decides
    return None if None in found else not decides


def why(condition: Condition, values: Values) -> str:
    """The parts that make a decided condition true, or false, with their values: `p = 0.004 < 0.01`."""
    return " and ".join(_decisive(condition, values, bool(holds(condition, values))))


def _decisive(condition: Condition, values: Values, truth: bool) -> list[str]:
    if isinstance(condition, Comparison):
        if truth and condition.operator == "==":
            return [f"{condition.metric} == {condition.number:g}"]
        said = f"{'' if truth else 'is not '}{condition.operator} {condition.number:g}"
        return [f"{condition.metric} = {values[condition.metric]:.6g} {said}"]
    if isinstance(condition, Not):
        return _decisive(condition.part, values, not truth)
    return [text for part in condition.parts if holds(part, values) is truth for text in _decisive(part, values, truth)]


def undecided(condition: Condition, values: Values) -> list[str]:
    """Metrics that were not measured, and that an undecided condition would need."""
    if isinstance(condition, Comparison):
        return [condition.metric]
    parts = (condition.part,) if isinstance(condition, Not) else condition.parts
    missing = [name for part in parts if holds(part, values) is None for name in undecided(part, values)]
    return list(dict.fromkeys(missing))
