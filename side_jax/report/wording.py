"""Numbers of the report as it writes them."""

import math
from typing import Any

from side_jax.evidence import null

SIGNIFICANT = null.SIGNIFICANT


def percent(value: float) -> str:
    """A share in %: 0.01234 -> 1.23, 0.1234 -> 12.3."""
    return f"{100 * value:.2f}" if abs(value) < 0.1 else f"{100 * value:.1f}"


def interval(estimate: dict[str, float]) -> str:
    """An estimate in %, like 1.23 [0.98, 1.51]."""
    return f"{percent(estimate['value'])} [{percent(estimate['low'])}, {percent(estimate['high'])}]"


def decimals(estimate: dict[str, float]) -> str:
    """An estimate that is no share, like 0.664 [0.617, 0.709]."""
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"


def times(ratio: dict[str, Any]) -> str:
    """A ratio to something, like 2.1 times [1.6, 2.9]: two digits of the value, and its interval to the same place."""
    value = ratio["value"]
    places = max(0, 1 - math.floor(math.log10(value))) if value else 2
    value, low, high = (f"{ratio[name]:,.{places}f}" for name in ("value", "low", "high"))
    return f"{value} times [{low}, {high}]"


def operations(flops: float) -> str:
    """A number of operations, like 3.1 · 10¹⁷."""
    power = math.floor(math.log10(flops))
    return f"{flops / 10**power:.1f} · 10{str(power).translate(_SUPERSCRIPT)}"


_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def p_value(p: float) -> str:
    """A p value, like p = 0.012, or p < 0.001."""
    return f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"
