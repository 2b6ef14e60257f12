"""What the terminal says at the end of an audit: the verdict and its numbers, in at most ten lines."""

from collections.abc import Iterator

from side_jax.report.wording import p_value, percent
from side_jax.runtime.files import Json

_DISAGREEMENTS = 2  # that are said here


def closing(audit: Json, workdir: str) -> list[str]:
    """The lines, without the path of the page.

    Args:
      audit: audit.json.
      workdir: as it is shown.
    """
    verdict = audit["verdict"]
    return [
        f"{verdict['word']}. {verdict['sentence']}",
        *verdict["disagreements"][:_DISAGREEMENTS],
        *_numbers(audit["metrics"]),
        *_at_risk(audit["metrics"], workdir),
    ]


def _numbers(metrics: Json) -> Iterator[str]:
    value = {name: one["value"] for name, one in metrics.items()}
    if value["ams"] is not None:
        heldout = "" if value["ams_heldout"] is None else f", {percent(value['ams_heldout'])} % a held-out one"
        yield (
            f"unguided: {percent(value['ams'])} % of {value['images']:,} images match a training photo{heldout}"
            f"{_with_p(value['p'])}"
        )
    if value["guided_ams"] is not None:
        yield f"guided: {percent(value['guided_ams'])} % at the best λ{_with_p(value['guided_p'])}"
    if value["recall_share"] is not None:
        yield (
            f"asked for by name: {percent(value['recall_share'])} % of the training photos come out,"
            f" {percent(value['recall_heldout'])} % of the held-out ones{_with_p(value['recall_p'])}"
        )
    if value["membership_auroc"] is not None:
        yield f"its loss tells training photos: AUROC {value['membership_auroc']:.3f}{_with_p(value['membership_p'])}"


def _with_p(p: float | None) -> str:
    return "" if p is None else f" ({p_value(p)})"


def _at_risk(metrics: Json, workdir: str) -> Iterator[str]:
    listed, sure = metrics["photos_listed"]["value"], metrics["photos_at_risk"]["value"]
    if listed:
        found = f"{sure} at a false-discovery rate of 10 %" if sure is not None else "none calibrated"
        yield f"training photos at risk: {listed} listed, {found}: {workdir}/at_risk.csv"
