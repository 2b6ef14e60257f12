"""report.html: one file, no network, rendered from metrics.json and the match table."""

import dataclasses
from typing import Any

import jinja2
import numpy as np

from side_jax.report import against_random, figures, inside, steering
from side_jax.report.wording import SIGNIFICANT, decimals, interval, p_value, percent, times

Photo = tuple[np.ndarray, str, float]  # pixels uint8 [H, W, C], id, score


@dataclasses.dataclass(frozen=True)
class Pair:
    """A generated image with its nearest training photo and, if there are any, its nearest held-out photo."""

    index: int
    generated: np.ndarray
    train: Photo
    heldout: Photo | None


@dataclasses.dataclass(frozen=True)
class Sheet:
    """A titled contact sheet."""

    title: str
    pairs: list[Pair]


def render(
    metrics: dict[str, Any],
    facts: dict[str, Any],
    sheets: list[Sheet],
    best: dict[float, dict[str, np.ndarray]],
    ranked: tuple[inside.Ranked | None, inside.Ranked | None] | None = None,
    steered: np.ndarray | None = None,
) -> str:
    """The page as text.

    Args:
      metrics: metrics.json.
      facts: options, provenance and stage manifests.
      sheets: contact sheets, in the order shown.
      best: λ -> "training" / "held-out" -> best score of every generated image.
      ranked: of the detect stage, if it ran: the scores of generated images and of photos that it reports on.
      steered: a few images at every weight of the steer stage, uint8 [A, K, H, W, C].
    """
    distilled = facts["stages"].get("distill")
    agreement = figures.agreement_curve(_agreement(metrics), distilled["facts"]["num_classes"]) if distilled else None
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("side_jax.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters |= {"percent": percent, "interval": interval, "p_value": p_value, "png": figures.png_data}
    environment.filters |= {"times": times, "method_name": method_name, "scale_list": scale_list, "decimals": decimals}
    environment.filters |= {"steering": steering.sentences, "untested": untested}
    template = environment.get_template("page.html.j2")
    shown = figures.histogram_scales(metrics)
    return template.render(
        metrics=metrics,
        facts=facts,
        sheets=sheets,
        verdicts=verdicts(metrics),
        equal_compute=against_random.at_equal_compute(metrics),
        curves=figures.scale_curves(metrics),
        histogram_scales=shown,
        histograms=figures.score_histograms(metrics, {scale: best[scale] for scale in shown}),
        agreement=agreement,
        inside=_inside(metrics["detect"], ranked) if ranked else None,
        steered=steered,
    )


def _inside(found: dict[str, Any], ranked: tuple[inside.Ranked | None, inside.Ranked | None]) -> dict[str, Any]:
    """What the section on the detect stage shows."""
    drawn = inside.figure(*ranked) if any(ranked) else None
    return {"sentences": inside.sentences(found), "figure": drawn, "names": inside.NAMES}


def _agreement(metrics: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Name -> t -> share, of every guide with the main method's labels; the exact one among them is the ceiling."""
    main = next(group for group in metrics["methods"] if group["method"] == metrics["method"])
    alike = [group for group in metrics["methods"] if group["distill"] and group["labels"] == main["labels"]]
    names = {group["method"]: "exact guide: the ceiling" for group in alike if group["guide"] == "exact"}
    curves = {names.get(g["method"], method_name(g["method"])): g["distill"]["agreement"] for g in alike}
    return curves if names else curves | {"exact guide: the ceiling": main["distill"]["ceiling"]}


def scale_list(scales: list[float]) -> str:
    """The λ of a sweep in words: all of them if they are few."""
    if len(scales) <= 8:
        return ", ".join(f"{scale:g}" for scale in scales)
    return f"{len(scales)} from {min(scales):g} to {max(scales):g}"


def method_name(method: str) -> str:
    """A method as the paper calls it."""
    return _METHOD_NAMES.get(method, method)


_METHOD_NAMES = {
    "random": "Random",
    "ol_ti": "OL-TI",
    "side": "SIDE",
    "side_clusters": "SIDE, clusters",
    "side_exact": "SIDE, exact",
    "side_repeats": "SIDE, exact, repeats",
    "exact_train": "Exact, training photos (bound)",
    "exact_heldout": "Exact, held-out photos (control)",
    "random_labels": "Random labels",
}


def verdicts(metrics: dict[str, Any]) -> list[str]:
    """What the numbers say, in sentences; each with its interval, and said to be open where it is."""
    sentences = []
    band, low, _ = metrics["bands"][-1]
    for row in metrics["scales"]:
        if row["scale"] == 0:
            sentences += _copying(row, band, low, (metrics["null"] or {}).get("reason"))
    if metrics["heldout_photos"] is None:
        sentences.append("No held-out images were given: nothing calibrates these scores.")
    comparison = (metrics["guided_against_random"] or {}).get(band)
    if comparison:
        sentences += against_random.sentences(comparison, band, method_name(metrics["method"]))
    return sentences


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


def _copying(row: dict[str, Any], band: str, low: float, reason: str | None) -> list[str]:
    train = row["train"]["bands"][band]
    text = (
        f"Unguided (λ = 0), {interval(train['ams'])} % of {row['train']['num_images']} images score {low:g} or more"
        f" with a training photo (AMS, {band}); they are {interval(train['ums'])} % different training photos (UMS)."
    )
    if "heldout" not in row:
        return [text]
    excess, share = row["ams_excess"][band], row["train_share_excess"]
    paired, heldout = (row[name]["bands"][band]["ams"] for name in ("paired", "heldout"))
    why = untested(excess, reason)
    found = f"cannot be tested, because {why}" if why else f"has {p_value(excess['p'])}"
    text += (
        f" Against equally many of both it is {interval(paired)} % with training and {interval(heldout)} % with"
        f" held-out photos; the excess {found}."
    )
    nearest = f"The nearest photo is a training photo for {interval(row['train_share'])} % of them."
    if why := untested(share, reason, even_at_0=True):
        return [text, f"{nearest} Whether this target gives back training data cannot be tested, because {why}."]
    copies = share["p"] < SIGNIFICANT
    nearest += (
        f" A model that copies nothing gives 50 %, within {percent(0.5 + share['null_low'])} to"
        f" {percent(0.5 + share['null_high'])} %:"
        f" {'this target gives back training data' if copies else 'no sign of copying at this number of images'}"
        f" ({p_value(share['p'])})."
    )
    return [text, nearest]
