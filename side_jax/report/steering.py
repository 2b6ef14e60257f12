"""The report's section on mitigation: what steering bought and cost, in sentences."""

from typing import Any

from side_jax.report.wording import SIGNIFICANT, p_value, percent


def sentences(steer: dict[str, Any], band: str) -> list[str]:
    """What each weight bought and cost, in words."""
    (unsteered,) = (row for row in steer["rows"] if row["weight"] == 0)
    sentences = []
    for row in steer["rows"]:
        if row["weight"] == 0:
            continue
        copies, ams = row["memorized"], row["bands"][band]["train"]["ams"]
        kid = row["kid"]
        sentences.append(
            f"α = {row['weight']:g}: {_moved(copies['change'], 'fewer', 'more')} images are memorized,"
            f" {percent(copies['value'])} % for {percent(unsteered['memorized']['value'])} %"
            f" ({p_value(copies['change']['p'])}), and {_moved(ams['change'], 'fewer', 'more')} score in band {band},"
            f" {percent(ams['value'])} % for {percent(unsteered['bands'][band]['train']['ams']['value'])} %"
            f" ({p_value(ams['change']['p'])}). The images are"
            f" {_moved(kid['change'], 'nearer to', 'further from')} held-out photos: KID {kid['value']:.4f} for"
            f" {unsteered['kid']['value']:.4f} ({p_value(kid['change']['p'])})."
        )
    return sentences


def _moved(change: dict[str, Any], fell: str, rose: str) -> str:
    if change["p"] >= SIGNIFICANT:
        return f"not significantly {fell if change['difference']['value'] < 0 else rose}"
    return fell if change["difference"]["value"] < 0 else rose
