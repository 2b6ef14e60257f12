"""Training against held-out photos: whether the target copies."""

from collections.abc import Iterator

from side_jax.evidence.verdicts import NO, YES
from side_jax.report.answers import sensitivity
from side_jax.report.blocks import Block, Note, Table
from side_jax.report.section import Page, Section
from side_jax.report.wording import interval, p_value, percent, scale_heading, scale_name, untested
from side_jax.runtime.files import Json

_HEADINGS = ("nearest photo is a training photo, %", "if nothing is copied: 95 % of relabellings, %", "p")


def _blocks(page: Page) -> Iterator[Block]:
    rows = []
    for row in page.metrics["scales"]:
        excess, tested = row["train_share_excess"], ["–", "–"]
        if not untested(excess, page.untestable, even_at_0=True):
            low, high = (percent(0.5 + excess[name]) for name in ("null_low", "null_high"))
            tested = [f"{low} to {high}", p_value(excess["p"])]
        rows.append([scale_name(row), interval(row["train_share"]), *tested])
    yield Table([scale_heading(page.metrics["scales"]), *_HEADINGS], rows, against=page.paired)
    yield Note(f"{_origin(page)} {_test(page)}")


def _origin(page: Page) -> str:
    if page.facts["options"]["dataset"]["heldout_path"]:
        return (
            "The held-out photos were given separately: that the two folders come from one pool is the auditor's claim,"
            " and a difference between them would look like copying."
        )
    return "Both sets come from one pool, split at random within each class, near-duplicates on one side."


def _test(page: Page) -> str:
    """What p is; or why there is none."""
    if page.untestable:
        return f"Here and above p is left out: whether an excess is chance cannot be tested, because {page.untestable}."
    photos, null = 2 * page.metrics["images"]["paired"], page.metrics["null"]
    said = (
        f"Here and above p is the share of random relabellings of the {photos} photos with at least this excess"
        f" (one-sided; the smallest possible is {null['least_p']:.2g}): it counts photos, one for each picture"
        " and its near-duplicates, and not generated images, so a photo that many images resemble is no proof by"
        " itself."
    )
    if null["relabelled"] < photos:
        said += (
            f" Only {null['relabelled']} of the photos can change places: the others have none of the other kind in"
            " their class. An excess that they alone decide has no p (–)."
        )
    return said


def _verdict(metrics: Json) -> list[str]:
    """What unguided images say; and that nothing calibrates it, where nothing does."""
    sentences = []
    band, low, _ = metrics["bands"][-1]
    for row in metrics["scales"]:
        if row["scale"] == 0 or "name" in row:
            verdict = next(one for one in metrics["verdicts"]["copies"] if one["set"] == row.get("name", ""))
            sentences += _copying(row, verdict, band, low, (metrics["null"] or {}).get("reason"))
    if metrics["heldout_photos"] is None:
        sentences.append("No held-out images were given: nothing calibrates these scores.")
    return sentences


def _copying(row: Json, verdict: Json, band: str, low: float, reason: str | None) -> list[str]:
    train = row["train"]["bands"][band]
    by_picture = train.get("ums_pictures", train["ums"])
    pictures = f", {interval(by_picture)} % different pictures" if by_picture["value"] < train["ums"]["value"] else ""
    what = f"{row['name']}:" if "name" in row else "Unguided (λ = 0),"
    text = (
        f"{what} {interval(train['ams'])} % of {row['train']['num_images']} images score {low:g} or more"
        f" with a training photo (AMS, {band}); they are {interval(train['ums'])} % different training photos"
        f" (UMS){pictures}."
    )
    if "heldout" not in row:
        return [text]
    excess, share = row["ams_excess"][band], row["train_share_excess"]
    paired, heldout = (row[name]["bands"][band]["ams"] for name in ("paired", "heldout"))
    why = untested(excess, reason)
    worth = f"cannot be tested, because {why}" if why else f"has {p_value(excess['p'])}"
    text += (
        f" Against equally many of both it is {interval(paired)} % with training and {interval(heldout)} % with"
        f" held-out photos; the excess {worth}."
    )
    nearest = f"The nearest photo is a training photo for {interval(row['train_share'])} % of them."
    if not untested(share, reason, even_at_0=True):
        nearest += (
            f" A model that copies nothing gives 50 %, within {percent(0.5 + share['null_low'])} to"
            f" {percent(0.5 + share['null_high'])} % ({p_value(share['p'])})."
        )
    return [text, f"{nearest} {_answer(verdict)}"]


def _answer(found: Json) -> str:
    """The verdict on copying as a sentence."""
    made = "the model that made them" if found["set"] else "this target"
    if "p" not in found:
        return f"Whether {made} gives back training data {found['reason']}."
    p = p_value(found["p"])
    if found["answer"] == YES:
        said = f"{made} gives back training data ({p})"
    elif found["answer"] == NO:
        said = f"no sign of copying ({p}), and {sensitivity(found['detectable'])}"
    else:
        said = (
            f"not enough images to say ({p}). Copies matter from a share of {percent(found['relevant_share'])} %, and"
            f" {sensitivity(found['detectable'])}"
        )
    return f"Both tests together, at twice the smaller p: {said}."


SECTION = Section(
    "calibration",
    "Calibration: training against held-out photos",
    _blocks,
    needed=lambda page: page.calibrated,
    verdict=_verdict,
)
