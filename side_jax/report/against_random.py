"""The verdict on guidance: its best λ against Random, at equal numbers of images and at equal compute."""

from typing import Any

from side_jax.report.wording import SIGNIFICANT, interval, operations, p_value, times


def at_equal_compute(metrics: dict[str, Any]) -> bool:
    """Had Random enough images for that?"""
    return any(found.get("equal_compute") for found in (metrics["guided_against_random"] or {}).values())


def sentences(found: dict[str, Any], band: str, method: str) -> list[str]:
    """One, or two if Random had enough images.

    Args:
      found: `compare_with_random`, with "equal_compute": `compare_at_equal_compute` and its "cost", or None.
      band: name of the band.
      method: name of the method.
    """
    equal = found.get("equal_compute")
    return [_same_images(found, band, method)] + ([_same_compute(equal, band, method)] if equal else [])


def _same_images(found: dict[str, Any], band: str, method: str) -> str:
    parts = [
        f"{name} at λ = {result['scale']:g} differs by {interval(result['difference'])} points{_times(result['ratio'])}"
        f" ({_says(result['p'], result['difference']['value'])}, {p_value(result['p'])})"
        for name, result in (("AMS", found["ams"]), ("UMS", found["ums"]))
    ]
    return (
        f"{method}, its best λ against Random, band {band}, chosen on the even-numbered images and measured on the"
        f" {found['num_images']} odd-numbered: {'; '.join(parts)}."
    )


def _same_compute(found: dict[str, Any], band: str, method: str) -> str:
    cost = found["cost"]
    spent = cost["surrogate_flops"] + cost["num_images"] * cost["guided_flops_per_image"]
    parts = [
        f"at λ = {result['scale']:g}, {method} has {result['count']:,} {unit} and Random {result['random_count']:,}"
        f"{_times(result['ratio'])} ({_says(result['p'], result['count'] - result['random_count'])},"
        f" {p_value(result['p'])})"
        for unit, result in (("hits", found["hits"]), ("different photos", found["photos"]))
    ]
    return (
        f"At equal compute: the surrogate and {cost['num_images']:,} images of {method} take {operations(spent)} FLOP,"
        f" for which Random makes {cost['random_images']:,} images. In band {band}, in the odd-numbered half of both"
        f" ({found['num_images']:,} and {found['random_images']:,} images): {'; '.join(parts)}."
    )


def _times(ratio: dict[str, Any]) -> str:
    if ratio["value"] is None:
        return ", where Random has none" if ratio["low"] else ", where both have none"
    return f", {times(ratio)} Random's"


def _says(p: float, difference: float) -> str:
    if p >= SIGNIFICANT:
        return "not significant"
    return "better" if difference > 0 else "worse"
