"""The report's section "Seen from inside": what the detect stage found, in sentences and as a figure."""

import dataclasses
from typing import Any

import numpy as np

from side_jax.report.figures import HELDOUT, REAL, TRAIN, new_axes, svg
from side_jax.report.wording import SIGNIFICANT, decimals, p_value, percent

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


@dataclasses.dataclass(frozen=True)
class Ranked:
    """Scores of the images that a comparison reports on.

    Attributes:
      scores: detector -> float [N].
      positive: bool [N].
    """

    scores: dict[str, np.ndarray]
    positive: np.ndarray


def figure(generated: Ranked | None, members: Ranked | None) -> str:
    """The headline's score of memorized images and the others, and ROC curves of generated images and of photos."""
    drawn, shown = new_axes(2 * (generated is not None) + (members is not None), columns=3)
    if generated:
        _histogram(shown.pop(0), generated)
        _curves(shown.pop(0), generated, "generated images: memorized?")
    if members:
        _curves(shown.pop(0), members, "photos: trained on?")
    return svg(drawn)


def _histogram(axis: Any, ranked: Ranked) -> None:
    name, scores = next(iter(ranked.scores.items()))
    edges = np.histogram_bin_edges(scores, 30)
    axis.hist(scores[~ranked.positive], edges, density=True, color=REAL, alpha=0.4, label="others")
    axis.hist(
        scores[ranked.positive], edges, density=True, histtype="step", color=TRAIN, linewidth=1.6, label="memorized"
    )
    axis.set(title="generated images", xlabel=NAMES[name], yticks=[])
    axis.legend(fontsize=8)


def _curves(axis: Any, ranked: Ranked, title: str) -> None:
    from sklearn.metrics import roc_curve

    for name, scores in ranked.scores.items():
        false, true, _ = roc_curve(ranked.positive, scores)
        axis.plot(100 * false, 100 * true, color=_COLORS.get(name), label=NAMES[name], linewidth=1.4)
    axis.plot([0, 100], [0, 100], color="black", linewidth=0.6, linestyle=":")
    axis.set(title=title, xlabel="false positives, %", ylabel="true positives, %", xlim=(0, 100), ylim=(0, 100))
    axis.legend(fontsize=7, loc="lower right")


def sentences(found: dict[str, Any]) -> list[str]:
    """What the generated images say, then what the photos do; each with its interval, or why nothing can be said."""
    return [*_generated(found["generated"]), _members(found["members"])]


def _generated(found: dict[str, Any]) -> list[str]:
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


def _meaning(found: dict[str, Any]) -> str:
    row = found["rows"][0]
    if row["p"] >= SIGNIFICANT:
        return "not significant, memorized images do not look so from inside"
    if row["auroc"]["value"] < 0.5:
        return "the wrong way round, memorized images are the less spiky ones"
    if any(other["name"] == "contrast" and _than(other) != "better" for other in found["differences"]):
        return "memorized images are spikier, but that tells no more than their pixel contrast"
    return "memorized images look memorized from inside, too"


def _than(difference: dict[str, Any]) -> str:
    if difference["p"] >= SIGNIFICANT:
        return "not significant"
    return "better" if difference["difference"]["value"] > 0 else "worse"


def _members(found: dict[str, Any]) -> str:
    if found["too_few"]:
        return f"Nothing can be said of the photos: {found['too_few']}."
    row = found["rows"][0]
    strict = row["tpr"][0]
    share = f"{percent(strict['value'])} [{percent(strict['low'])}, {percent(strict['high'])}] %"
    return (
        f"Of {found['positives']} training and {found['negatives']} held-out photos, {NAMES[row['name']]},"
        f" {row['chosen']}, tells the ones from the others with AUROC {decimals(row['auroc'])} ({p_value(row['p'])}"
        f" against 0.5), and finds {share} of the training photos at {percent(strict['fpr'])} % false positives."
    )
