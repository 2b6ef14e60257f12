"""Numbers of the report as it writes them."""

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


def p_value(p: float) -> str:
    """A p value, like p = 0.012, or p < 0.001."""
    return f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"
