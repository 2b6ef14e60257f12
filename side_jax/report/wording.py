"""Numbers of the report as it writes them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from side_jax.evidence import null
from side_jax.evidence.scores import Band
from side_jax.runtime.files import Json

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


def count_interval(estimate: dict[str, float]) -> str:
    """An expected count, like 1,204 [1,150, 1,260]; of less than ten with a decimal."""
    places = 0 if estimate["value"] >= 10 else 1
    return f"{estimate['value']:,.{places}f} [{estimate['low']:,.{places}f}, {estimate['high']:,.{places}f}]"


def times(ratio: dict[str, float]) -> str:
    """A ratio to something, like 2.1 times [1.6, 2.9]: two digits of the value, and its interval to the same place."""
    places = max(0, 1 - math.floor(math.log10(ratio["value"]))) if ratio["value"] else 2
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


def better(p: float, difference: float) -> str:
    """What a difference is worth: better, worse or not significant."""
    if p >= SIGNIFICANT:
        return "not significant"
    return "better" if difference > 0 else "worse"


def band_range(band: Band) -> str:
    """A band with its scores, like mid [0.5, 0.6)."""
    name, low, high = band
    return f"{name} [{low:g}, {high:g}{']' if high >= 1 else ')'}"


def scale_list(scales: list[float]) -> str:
    """The λ of a sweep in words: all of them if they are few."""
    if len(scales) <= 8:
        return ", ".join(f"{scale:g}" for scale in scales)
    return f"{len(scales)} from {min(scales):g} to {max(scales):g}"


def scale_name(row: Mapping[str, Any]) -> str:
    """A row of metrics.json's "scales": its λ, or the name of a set of generated images."""
    name: str = row.get("name") or f"{row['scale']:g}"
    return name


def scale_title(row: Mapping[str, Any]) -> str:
    """The same as a title: λ = 2, or the name."""
    return scale_name(row) if row.get("name") else f"λ = {scale_name(row)}"


def scale_heading(rows: Sequence[Mapping[str, Any]]) -> str:
    """The heading of such rows."""
    return "set" if any(row.get("name") for row in rows) else "λ"


def method_name(method: str) -> str:
    """A method as the paper calls it."""
    return _METHOD_NAMES.get(method, method)


_METHOD_NAMES = {
    "random": "Random",
    "samples": "Guidance",  # of samples that are named by their λ
    "ol_ti": "OL-TI",
    "side": "SIDE",
    "side_clusters": "SIDE, clusters",
    "side_exact": "SIDE, exact",
    "side_repeats": "SIDE, exact, repeats",
    "exact_train": "Exact, training photos (bound)",
    "exact_heldout": "Exact, held-out photos (control)",
    "random_labels": "Random labels",
}


def with_what_it_saw(method: Json) -> list[str]:
    """The name of a row of `methods` or `table1`; below it, whether its guide has seen training photos."""
    return [method_name(method["method"]), *(["guide saw training photos"] * method["saw_training_photos"])]


def untested(excess: dict[str, float], reason: str | None, even_at_0: bool = False) -> str | None:
    """Why the relabelling test says nothing of an excess, as the end of a sentence; None if it says something.

    Args:
      excess: `null.Excess`.
      reason: why it can say nothing of any, if that is so.
      even_at_0: whether an excess that is 0 in every relabelling is one more of these; else nothing was scored at all.
    """
    same = excess["value"] == excess["null_low"] == excess["null_high"] and excess["p"] == 1
    if reason is None and same and (excess["value"] or even_at_0):
        return "the photos that decide it have the same label in every relabelling"
    return reason
