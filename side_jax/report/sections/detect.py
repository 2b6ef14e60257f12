"""The detect stage: what memorized images and training photos look like inside the target."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from side_jax.report.blocks import Block, Figure, Note, Sentences, Table
from side_jax.report.figures import HELDOUT, REAL, TRAIN, new_axes, svg
from side_jax.report.section import Page, Ranked, Section
from side_jax.report.wording import SIGNIFICANT, better, decimals, interval, p_value, percent
from side_jax.runtime.files import Json

if TYPE_CHECKING:  # matplotlib is slow to import
    from matplotlib.axes import Axes

NAMES = {
    "std": "spikiness (std over channels)",
    "l4_l2": "spikiness (L4 / L2)",
    "l2": "L2 norm",
    "loss": "denoising loss, low",
    "contrast": "pixel contrast",
    "wiener": "distance from the linear denoiser",
    "secmi": "SecMI, t-error, low",
    "pia": "PIA, low",
}
_COLORS = {"std": TRAIN, "loss": HELDOUT, "contrast": REAL, "secmi": "#1b7837", "pia": "#e08214"}


def _blocks(page: Page) -> Iterator[Block]:
    detect, options = page.metrics["detect"], page.facts["options"]["detect"]
    generated, members = detect["generated"], detect["members"]
    yield Sentences(sentences(detect))
    if page.ranked and any(page.ranked):
        yield Figure(figure(*page.ranked), "How well scores tell memorized images and training photos")
    if not generated["too_few"]:
        counts = f"{generated['positives']} memorized, {generated['negatives']} others"
        yield _scores(generated, f"Generated images, λ = {generated['scale']:g}: {counts}")
        yield Note(_how_generated(detect, options))
        yield _by_scale(generated["scales"])
        yield Note(
            "The same layer and t at every λ. In the row of all λ an index counts as one draw; there λ itself makes"
            " images differ in more than memorization."
        )
    if not members["too_few"]:
        yield _scores(members, f"Photos: {members['positives']} trained on, {members['negatives']} held out")
        yield Note(_how_members(detect))


def _scores(found: Json, caption: str) -> Table:
    """A row for each score, with its AUROC and its TPR at every FPR asked for."""
    rows = []
    for row in found["rows"]:
        rates = [text for rate in row["tpr"] for text in (interval(rate), percent(rate["fpr"]))]
        rows.append([NAMES[row["name"]], row["chosen"], decimals(row["auroc"]), p_value(row["p"]), *rates])
    asked = [f"{100 * rate['asked']:g}" for rate in found["rows"][0]["tpr"]]
    rates = [heading for rate in asked for heading in (f"TPR at {rate} % FPR, %", "FPR, %")]
    return Table(["score", "chosen", "AUROC", "p", *rates], rows, caption)


def _by_scale(scales: list[Json]) -> Table:
    rows = []
    for row in scales:
        measured = [row["too_few"]] if row["too_few"] else [decimals(row["auroc"]), interval(row["tpr"][0])]
        scale = "all" if row["scale"] is None else f"{row['scale']:g}"
        rows.append([scale, str(row["positives"]), str(row["negatives"]), *measured])
    headings = ["λ", "memorized", "others", "AUROC of spikiness", "TPR at 1 % FPR, %"]
    return Table(headings, rows, "Spikiness by λ")


def _how_generated(detect: Json, options: Json) -> str:
    generated = detect["generated"]
    linear = " and of the distance from the linear (Wiener) denoiser of the training images"
    said = (
        "One forward pass at low noise; the spatial maximum of each channel of the decoder's hidden layers; layer, t"
        f" and the direction of contrast{linear if options['wiener'] else ''} are chosen on the even-numbered images,"
        " everything is measured on the odd-numbered ones. That higher means memorized is fixed beforehand, as the"
        f" method's authors have it. {len(detect['layers'])} layers, t = {', '.join(map(str, detect['timesteps']))}."
    )
    if len(generated["draws"]) > 1:
        draws = ", ".join(f"{value:.3f}" for value in generated["draws"])
        said += f" AUROC of each draw of the noise alone: {draws}."
    if options["num_images"] < generated["images"]:
        said += (
            f" Of the {generated['images']} images of this λ {generated['memorized']} are memorized; the first of them"
            f" and of the others were taken, {options['num_images']} in all, which changes neither AUROC nor TPR at an"
            " FPR."
        )
    if generated["ambiguous"]:
        said += f" {generated['ambiguous']} images resemble training photos outside the paired ones, and are left out."
    return said


def _how_members(detect: Json) -> str:
    drawn = " The target is class-conditional and has not the photos' labels: classes are drawn at random."
    return (
        "Is a photo a training photo? t (of spikiness the layer too) is chosen on every other photo of both sets, and"
        f" measured on the rest.{drawn if detect['classes_of_photos'] == 'drawn' else ''} TPR at an FPR below one photo"
        " is that without any false positive. Intervals: DeLong's for AUROC; for TPR, what bootstrap and"
        " Clopper–Pearson's cover."
    )


def figure(generated: Ranked | None, members: Ranked | None) -> str:
    """The headline's score of memorized images and the others, and ROC curves of generated images and of photos."""
    drawn, shown = new_axes(2 * (generated is not None) + (members is not None), columns=3)
    if generated:
        _histogram(shown.pop(0), generated)
        _curves(shown.pop(0), generated, "generated images: memorized?")
    if members:
        _curves(shown.pop(0), members, "photos: trained on?")
    return svg(drawn)


def _histogram(axis: "Axes", ranked: Ranked) -> None:
    name, scores = next(iter(ranked.scores.items()))
    edges = np.histogram_bin_edges(scores, 30).tolist()
    axis.hist(scores[~ranked.positive], edges, density=True, color=REAL, alpha=0.4, label="others")
    axis.hist(
        scores[ranked.positive], edges, density=True, histtype="step", color=TRAIN, linewidth=1.6, label="memorized"
    )
    axis.set(title="generated images", xlabel=NAMES[name], yticks=[])
    axis.legend(fontsize=8)


def _curves(axis: "Axes", ranked: Ranked, title: str) -> None:
    from sklearn.metrics import roc_curve

    for name, scores in ranked.scores.items():
        false, true, _ = roc_curve(ranked.positive, scores)
        axis.plot(100 * false, 100 * true, color=_COLORS.get(name), label=NAMES[name], linewidth=1.4)
    axis.plot([0, 100], [0, 100], color="black", linewidth=0.6, linestyle=":")
    axis.set(title=title, xlabel="false positives, %", ylabel="true positives, %", xlim=(0, 100), ylim=(0, 100))
    axis.legend(fontsize=7, loc="lower right")


def sentences(found: Json) -> list[str]:
    """What the generated images say, then what the photos do; each with its interval, or why nothing can be said."""
    return [*_generated(found["generated"]), _members(found["members"])]


def _generated(found: Json) -> list[str]:
    rule = (
        f"a score above {found['threshold']:.3f} with a training photo, which at most the highest 0.1 % of the scores"
        " with held-out photos reach"
        if found["calibrated"]
        else f"a score of {found['threshold']:g} or more with a training photo, which no held-out photo calibrates"
    )
    if found["too_few"]:
        return [f"Nothing can be said of the images at λ = {found['scale']:g}: {found['too_few']} (memorized: {rule})."]
    row = found["rows"][0]
    text = (
        f"Of the {found['positives'] + found['negatives']} odd-numbered images at λ = {found['scale']:g},"
        f" {found['positives']} are memorized: {rule}. The spikiness of {row['chosen']}, chosen on the even-numbered"
        f" images, tells them from the others with AUROC {decimals(row['auroc'])} ({p_value(row['p'])} against 0.5):"
        f" {_meaning(found)}."
    )
    compared = [
        f"{decimals(other['difference'])} ({_than(other)}, {p_value(other['p'])}) against {NAMES[other['name']]}"
        for other in found["differences"]
        if other["name"] in ("loss", "contrast")
    ]
    return [text, f"Difference in AUROC on the same images: {'; '.join(compared)}."]


def _meaning(found: Json) -> str:
    row = found["rows"][0]
    if row["p"] >= SIGNIFICANT:
        return "not significant, memorized images do not look so from inside"
    if row["auroc"]["value"] < 0.5:
        return "the wrong way round, memorized images are the less spiky ones"
    if any(other["name"] == "contrast" and _than(other) != "better" for other in found["differences"]):
        return "memorized images are spikier, but that tells no more than their pixel contrast"
    return "memorized images look memorized from inside, too"


def _than(difference: Json) -> str:
    return better(difference["p"], difference["difference"]["value"])


def _members(found: Json) -> str:
    if found["too_few"]:
        return f"Nothing can be said of the photos: {found['too_few']}."
    row = found["rows"][0]
    strict = row["tpr"][0]
    return (
        f"Of {found['positives']} training and {found['negatives']} held-out photos, {NAMES[row['name']]},"
        f" {row['chosen']}, tells the ones from the others with AUROC {decimals(row['auroc'])} ({p_value(row['p'])}"
        f" against 0.5), and finds {interval(strict)} % of the training photos at {percent(strict['fpr'])} % false"
        " positives."
    )


SECTION = Section(
    "detect",
    "Detect: memorized images and training photos seen from inside the target",
    _blocks,
    needed=lambda page: page.ranked is not None,
)
