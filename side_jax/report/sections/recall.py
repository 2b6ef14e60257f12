"""The recall stage: training and held-out photos asked for one by one."""

from collections.abc import Iterator

from side_jax.report.blocks import Block, Note, Sentences, Table, Text
from side_jax.report.section import Page, Section
from side_jax.report.wording import SIGNIFICANT, decimals, interval, p_value, percent, untested
from side_jax.runtime.files import Json


def _blocks(page: Page) -> Iterator[Block]:
    found, options = page.metrics["recall"], page.facts["options"]["recall"]
    low = page.metrics["bands"][-1][1]
    yield Sentences(sentences(page.metrics))
    if not found["too_few"]:
        chosen = [f"{found['chosen']['scale']:g}, chosen", str(found["chosen"]["images"])]
        rows = [[*chosen, *_cells(found["measured"], found["null"]["reason"])]]
        rows += [
            [f"{row['scale']:g}", str(row["images"]), *_cells(row, found["null"]["reason"])] for row in found["scales"]
        ]
        asked = [f"{100 * rate['asked']:g}" for rate in found["measured"]["tpr"]]
        headings: list[str | Text] = [
            *("λ", "images per photo", Text("training photos drawn out", "train"), Text("held-out photos", "heldout")),
            *("p", "AUROC", *(f"TPR at {rate} % FPR, % (FPR)" for rate in asked)),
        ]
        measured = found["measured"]
        against = {name: measured[name]["photos"] for name in ("train", "heldout")}
        yield Table(headings, rows, f"Photos that come out with a score of {low:g} or more, in %", against)
    window = (
        ""
        if tuple(options["window"]) == (0.0, 1.0)
        else f", in the steps from {options['window'][0]:.0%} to {options['window'][1]:.0%} of all"
    )
    yield Note(
        "Every photo, training and held-out alike, is asked for by the exact posterior over all of them together, which"
        f" does not know which is which{window}; its score is the best one of its images with the photo itself. If"
        " nothing was learnt of one photo alone, both kinds are exchangeable, so the difference has an exact test by"
        " relabelling, whatever the guide paints by itself. λ and the number of images are chosen on one half of the"
        " photos and measured on the other. This is what can be extracted of a photo that someone has. Which photos"
        " were trained on, the loss tells better: see the detect section."
    )


def _cells(row: Json, reason: str | None) -> list[str]:
    excess = row["excess"]
    tested = "–" if untested(excess, reason) else p_value(excess["p"])
    rates = [f"{interval(rate)} ({percent(rate['fpr'])})" for rate in row["tpr"]]
    return [interval(row["train"]), interval(row["heldout"]), tested, decimals(row["auroc"]), *rates]


def sentences(metrics: Json) -> list[str]:
    """What asking for the photos says."""
    found = metrics["recall"]
    if found["too_few"]:
        return [f"Nothing can be said of single photos: {found['too_few']}."]
    row, chosen = found["measured"], found["chosen"]
    excess, one = row["excess"], chosen["images"] == 1
    tested = untested(excess, found["null"]["reason"])
    if tested:
        worth = f"the difference cannot be tested, because {tested}"
    elif excess["p"] < SIGNIFICANT:
        worth = f"more than chance ({p_value(excess['p'])}): these photos were learnt one by one"
    else:
        worth = f"no more than chance ({p_value(excess['p'])})"
    strict = row["tpr"][-1]
    said = (
        f"Asked for by name, {interval(row['train'])} % of {row['train']['photos']} training photos and"
        f" {interval(row['heldout'])} % of {row['heldout']['photos']} held-out photos are drawn out in"
        f" {chosen['images']} image{'' if one else 's'} each at λ = {chosen['scale']:g}, {worth}. The best score ranks"
        f" training above held-out photos with AUROC {decimals(row['auroc'])}, and finds {interval(strict)} % of the"
        f" training photos at {percent(strict['fpr'])} % false positives."
    )
    return [said]


def _verdict(metrics: Json) -> list[str]:
    return sentences(metrics) if metrics["recall"] else []


SECTION = Section(
    "recall",
    "Recall: photos asked for one by one",
    _blocks,
    needed=lambda page: bool(page.metrics["recall"]),
    verdict=_verdict,
)
