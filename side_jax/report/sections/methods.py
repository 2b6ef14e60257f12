"""Every method by λ, and against Random at equal numbers of images and at equal compute."""

from collections.abc import Iterator

from side_jax.report.blocks import Block, Note, Table, Text
from side_jax.report.section import Page, Section
from side_jax.report.wording import (
    band_range,
    better,
    interval,
    method_name,
    operations,
    p_value,
    times,
    with_what_it_saw,
)
from side_jax.runtime.files import Json


def _blocks(page: Page) -> Iterator[Block]:
    methods = page.metrics["methods"]
    yield _by_scale(page)
    yield Table(
        ["method", "AMS", "UMS", "hits", "different photos"],
        [_best(group) for group in methods if group["against_random"]],
        "The best λ of each against Random",
        {"train": page.metrics["images"]["train"]},
        [("", 1), ("equal numbers of images", 2), ("equal compute", 2)],
    )
    bound = (
        " The bound steers to the training photos themselves, as only an attacker who has them could; the control"
        " steers to as many held-out photos and shows what such a guide paints by itself."
    )
    saw = " A guide that has seen training photos can make them likelier by itself, whatever the target knows: read it"
    saw += " beside the control." if any(group["labels"] == "heldout" for group in methods) else _NO_CONTROL
    yield Note(
        "λ is chosen on the even-numbered images and measured on the odd-numbered ones. At equal compute Random gets as"
        " many more images as the surrogate and the guide's gradients would pay for."
        f"{saw if any(group['saw_training_photos'] for group in methods) else ''}"
        f"{bound if any(group['method'] == 'exact_train' for group in methods) else ''}"
    )


_NO_CONTROL = " beside a control (methods has 'exact_heldout'), which this audit lacks."


def _seen(group: Json) -> str:
    """What the guide of a method has seen."""
    if group["guide"] == "none":
        return ""
    if group["saw_training_photos"]:
        return "training photos" if group["labels"] == "dataset" else "a classifier of training photos"
    return "held-out photos (control)" if group["labels"] == "heldout" else "synthetic images"


def _by_scale(page: Page) -> Table:
    """A row for each λ of each method, in the highest band."""
    rows = []
    for group in page.metrics["methods"]:
        name, seen = method_name(group["method"]), _seen(group)  # in its first row
        for row in group["scales"]:
            heldout = [interval(row["heldout"]["ams"])] if page.calibrated else []
            asked = interval(row["asked"]) if row["asked"] else ""
            scores = [interval(row["train"][score]) for score in ("ams", "ums", *(["ums_pictures"] * page.repeated))]
            rows.append([name, seen, f"{row['scale']:g}", *scores, *heldout, asked])
            name = seen = ""
    headings: list[str | Text] = ["method", "guide has seen", "λ", Text("AMS", "train"), Text("UMS", "train")]
    if page.repeated:
        headings.append(Text("different pictures", "train"))
    if page.calibrated:
        headings.append(Text("AMS, held-out", "heldout"))
    headings.append("nearest photo has the class asked for")
    return Table(headings, rows, f"Every method by λ, {band_range(page.metrics['bands'][-1])}", page.all_train)


def _best(group: Json) -> list[str | list[str]]:
    """The best λ of a method: its cells at equal numbers of images, then at equal compute."""
    found = group["against_random"]
    equal = found["equal_compute"] or {}
    results = (found["ams"], found["ums"], equal.get("hits"), equal.get("photos"))
    return [with_what_it_saw(group), *(_against_random(result) if result else "" for result in results)]


def _against_random(result: Json) -> list[str]:
    ratio = [times(result["ratio"])] if result["ratio"]["value"] is not None else []
    return [*ratio, f"{p_value(result['p'])}, λ = {result['scale']:g}"]


def _verdict(metrics: Json) -> list[str]:
    """The main method's best λ against Random, in the highest band."""
    band = metrics["bands"][-1][0]
    comparison = (metrics["guided_against_random"] or {}).get(band)
    return sentences(comparison, band, method_name(metrics["method"])) if comparison else []


def sentences(found: Json, band: str, method: str) -> list[str]:
    """One, or two if Random had enough images.

    Args:
      found: `compare_with_random`, with "equal_compute": `compare_at_equal_compute` and its "cost", or None.
      band: name of the band.
      method: name of the method.
    """
    differences = [
        _measured(
            f"{name} at λ = {result['scale']:g} differs by {interval(result['difference'])} points",
            result,
            result["difference"]["value"],
        )
        for name, result in (("AMS", found["ams"]), ("UMS", found["ums"]))
    ]
    same = (
        f"{method}, its best λ against Random, band {band}, chosen on the even-numbered images and measured on the"
        f" {found['num_images']} odd-numbered: {'; '.join(differences)}."
    )
    equal = found.get("equal_compute")
    if not equal:
        return [same]
    cost = equal["cost"]
    spent = cost["surrogate_flops"] + cost["num_images"] * cost["guided_flops_per_image"]
    counts = [
        _measured(
            f"at λ = {result['scale']:g}, {method} has {result['count']:,} {unit}"
            f" and Random {result['random_count']:,}",
            result,
            result["count"] - result["random_count"],
        )
        for unit, result in (("hits", equal["hits"]), ("different photos", equal["photos"]))
    ]
    paid = (
        f"At equal compute: the surrogate and {cost['num_images']:,} images of {method} take {operations(spent)} FLOP,"
        f" for which Random makes {cost['random_images']:,} images. In band {band}, in the odd-numbered half of both"
        f" ({equal['num_images']:,} and {equal['random_images']:,} images): {'; '.join(counts)}."
    )
    return [same, paid]


def _measured(text: str, result: Json, difference: float) -> str:
    """What was measured, its ratio to Random and what the difference from Random is worth."""
    ratio = result["ratio"]
    if ratio["value"] is not None:
        share = f"{times(ratio)} Random's"
    else:
        share = "where Random has none" if ratio["low"] else "where both have none"
    return f"{text}, {share} ({better(result['p'], difference)}, {p_value(result['p'])})"


SECTION = Section(
    "methods",
    "Methods by λ, in % with 95 % intervals",
    _blocks,
    needed=lambda page: any(group["against_random"] for group in page.metrics["methods"]),
    verdict=_verdict,
)
