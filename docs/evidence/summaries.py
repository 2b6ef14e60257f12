"""The rows of docs/evidence.md: simulation.json by function, the power of the copy test, the list of photos at risk."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from side_jax.evidence.null import SIGNIFICANT
from side_jax.evidence.power import detectable_share

Row = Mapping[str, Any]

PHOTOS, SIZES = 200, (480, 1_000, 10_000, 50_000)
ALPHA = SIGNIFICANT / 2  # the verdict takes the smaller p of two tests
BY_CHANCE = (0.0, 0.01, 0.05)  # shares of images that score with some photo, of either kind, by chance

# Function -> what of the report it makes.
WHAT: Mapping[str, str] = {
    "auroc": "AUROC",
    "auroc, grouped": "AUROC over several λ, an index being one draw",
    "auroc_difference": "difference between two AUROC",
    "auroc_difference, grouped": "the same over several λ",
    "chance": "AUROC against 0.5",
    "compare_at_equal_compute, hits": "hits over Random's at equal compute",
    "compare_recipes, difference": "loss of one recipe minus that of another",
    "compare_with_random, AMS": "AMS at the chosen λ minus Random's",
    "compare_with_random, AMS ratio": "AMS at the chosen λ over Random's",
    "compare_with_random, UMS": "UMS at the chosen λ minus Random's",
    "compare_with_random, UMS ratio": "UMS at the chosen λ over Random's",
    "detectors.compare": "AUROC of a detector whose layer was chosen on the other half",
    "equal_counts_p, hits": "two numbers of hits",
    "equal_counts_p, photos": "two numbers of different photos",
    "extrapolated": "forecast of different photos, up to twice the images",
    "kid": "KID of images and photos",
    "kid difference": "difference between two KID",
    "kid, paired": "KID of steered and unsteered images",
    "mean": "mean loss",
    "mean_share": "AMS over several λ",
    "mean_unique_share": "UMS over several λ",
    "measured_bands, low": "lower measured band",
    "measured_bands, mid": "higher measured band",
    "nearest_excess": "images whose nearest photo is a training photo",
    "proportion": "AMS",
    "ratio_with_interval, hits": "ratio of hits",
    "ratio_with_interval, photos": "ratio of different photos",
    "sanity, kid_difference": "check of a target: KID against a control",
    "sanity, loss": "check of a target: its loss",
    "share_difference": "difference between two AMS",
    "share_excess, high": "training minus held-out, upper band",
    "share_excess, mid": "training minus held-out, lower band",
    "tpr_at_fpr, audits of this size": "TPR that audits of this size have on average",
    "tpr_at_fpr, endlessly many images": "TPR that endlessly many images would have",
    "unique_difference": "difference between two UMS",
    "unique_share": "UMS",
}


def by_name(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each function."""
    return _grouped(rows, lambda row: row["name"])


def by_reason(rows: Sequence[Row], side: str) -> dict[str, list[Row]]:
    """The rows whose verdict is `side`, by the reason that it gives."""
    return _grouped([row for row in rows if side_of(row) == side], lambda row: row["verdict"].split(": ", 1)[1])


def side_of(row: Row) -> str:
    """The verdict without its reason."""
    side: str = row["verdict"].split(": ", 1)[0]
    return side


def _grouped(rows: Sequence[Row], key: Callable[[Row], str]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def power_rows(sizes: Sequence[int] = SIZES) -> list[dict[str, Any]]:
    """The detectable share by number of images, and by the share that scores by chance; None where none is called.

    An image that scores by chance does so with one photo, training or held-out: it adds 1 to the variance of T − H.
    """
    return [
        {"images": n, "shares": [detectable_share(n, PHOTOS, chance * n, ALPHA) for chance in BY_CHANCE]} for n in sizes
    ]


def holds(row: Row) -> str:
    """Whether the true share of false finds is at most the nominal one; two standard errors are allowed for."""
    return "at most" if row["true"] <= row["nominal"] + 2 * row["error"] else "more than"
