"""What a chapter found, in the four words that the table on top of the page has, and in half a sentence."""

from typing import Any

from side_jax.report.wording import SIGNIFICANT

SUPPORTED, IN_PART, CONTRADICTED, OPEN = "supported", "supported in part", "contradicted", "not significant"


def above(estimate: dict[str, float], null: float) -> str:
    """The verdict on "it is larger than `null`", from a 95 % interval."""
    return SUPPORTED if estimate["low"] > null else CONTRADICTED if estimate["high"] < null else OPEN


def tested(estimate: dict[str, float], p: float, null: float) -> str:
    """The verdict on "it is larger than `null`", from its p."""
    return OPEN if p >= SIGNIFICANT else SUPPORTED if estimate["value"] > null else CONTRADICTED


def interval(estimate: dict[str, Any], digits: int = 2) -> str:
    """An estimate as 0.66 [0.61, 0.71]."""
    value, low, high = (f"{estimate[name]:.{digits}f}" for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"
