"""The guide: how often it gives an image its label, by noise level."""

from collections.abc import Iterator

from side_jax.evidence.weak_guide import weaknesses
from side_jax.report.blocks import Block, Figure, Note
from side_jax.report.figures import HELDOUT, REAL, TRAIN, new_axes, svg
from side_jax.report.section import Page, Section
from side_jax.report.wording import method_name
from side_jax.runtime.files import Json

_COLORS = (TRAIN, HELDOUT, "#1b7837")


def _blocks(page: Page) -> Iterator[Block]:
    distill = page.facts["stages"]["distill"]["facts"]
    made = "it was" if distill["agreement_trained_on"] else "no guide was"
    yield Note(
        f"Agreement with the labels of {distill['agreement_images']} images that {made} made from. The exact guide is"
        " the optimum of the student's loss (Eq. 11) on the same images: the ceiling. Near the right end no classifier"
        " could tell much; a fall well before it means a weak guide."
    )
    for sentence in _weak(page.metrics):
        yield Note(sentence)
    curve = agreement_curve(_agreement(page.metrics), distill["num_classes"])
    yield Figure(curve, "Agreement of the guide with its labels, by timestep")


def _weak(metrics: Json) -> list[str]:
    """Why a method's guide may not guide, a sentence each, with the method's name if there are several."""
    groups = [group for group in metrics["methods"] if group["distill"]]
    of = {group["method"]: f" of {method_name(group['method'])}" if len(groups) > 1 else "" for group in groups}
    return [
        f"The guide{of[group['method']]} may not guide: {sentence}."
        for group in groups
        for sentence in weaknesses(group["distill"], group["labels"])
    ]


def _agreement(metrics: Json) -> dict[str, dict[str, float]]:
    """Name -> t -> share, of every guide with the main method's labels; the exact one among them is the ceiling."""
    main = next(group for group in metrics["methods"] if group["method"] == metrics["method"])
    alike = [group for group in metrics["methods"] if group["distill"] and group["labels"] == main["labels"]]
    names = {group["method"]: "exact guide: the ceiling" for group in alike if group["guide"] == "exact"}
    curves = {names.get(g["method"], method_name(g["method"])): g["distill"]["agreement"] for g in alike}
    return curves if names else curves | {"exact guide: the ceiling": main["distill"]["ceiling"]}


def agreement_curve(curves: dict[str, dict[str, float]], num_classes: int) -> str:
    """Share of images that a guide gives their label, by noise level, and chance.

    Args:
      curves: name -> t -> share.
      num_classes: K.
    """
    figure, (axis,) = new_axes(1, columns=1)
    for (name, shares), color, style in zip(curves.items(), _COLORS, ("-", "--", "-."), strict=False):
        t = [int(timestep) for timestep in shares]
        axis.plot(t, [100 * share for share in shares.values()], style, marker="o", color=color, label=name)
    axis.axhline(100 / num_classes, color=REAL, linestyle=":", label="chance")
    axis.set(xlabel="timestep t (noise grows to the right)", ylabel="agreement with the labels, %", ylim=(0, 102))
    axis.legend(fontsize=8)
    return svg(figure)


SECTION = Section("guide", "The guide", _blocks, needed=lambda page: "distill" in page.facts["stages"])
