"""The first screen: the answer to each question, pictures that show it, what to do next, and what is not said."""

import dataclasses
from collections.abc import Sequence

from side_jax.evidence.verdicts import NO, NOT_ENOUGH
from side_jax.evidence.whole_verdict import COPIES, NOTHING_FOUND
from side_jax.report.answers import Answer, answers
from side_jax.report.blocks import Pair
from side_jax.report.section import Page
from side_jax.report.wording import percent
from side_jax.runtime.files import Json

_PAIRS = 3


@dataclasses.dataclass(frozen=True)
class Head:
    """What stands above the sections.

    Attributes:
      answers: to each question; empty where verdicts are withheld.
      pairs: the images nearest to a training photo, each of another photo.
      todo: what to do next, a sentence each.
      unsaid: what the audit cannot say, a sentence each.
    """

    answers: Sequence[Answer]
    pairs: Sequence[Pair]
    todo: Sequence[str]
    unsaid: Sequence[str]


def head(page: Page, withheld: bool) -> Head:
    """The first screen of a page; `withheld` if no verdict can be trusted."""
    return Head(() if withheld else answers(page.metrics), _nearest(page), todo(page, withheld), _unsaid(page))


def _nearest(page: Page) -> list[Pair]:
    """The best pairs of all sheets, each of another training photo; of equal ones the lowest λ."""
    pairs = [pair for sheet in page.sheets for pair in sheet.pairs]
    pairs.sort(key=lambda pair: (-pair.train[2], pair.scale))
    first: dict[str, Pair] = {}
    for pair in pairs:
        first.setdefault(pair.train[1], pair)
    return list(first.values())[:_PAIRS]


def todo(page: Page, withheld: bool) -> list[str]:
    """What an owner does next, the most urgent first."""
    metrics = page.metrics
    if withheld:
        return ["Mend the target or its preparation first (see the sanity check), and audit again."]
    copies, photos = metrics["verdicts"]["copies"], metrics["verdicts"]["photos"]
    sentences = []
    if photos["photos"]:
        sentences.append(
            f"Remove {_counted(photos['photos'], 'training photo')} and train again: at_risk.csv names them, the surest"
            " first."
        )
    if repeated := (metrics["duplicates"] or {}).get("repeated"):
        sentences.append(f"Keep one photo of each of {_counted(len(repeated), 'repeated picture')}.")
    word = metrics["verdict"]["word"]
    if word == COPIES:
        sentences.append("Do not release the target as it is. Audit the next one with the same config and compare.")
    if not page.calibrated:
        sentences.append(
            "Name photos that the target has never seen (dataset.heldout_path): without them nothing tells copies from"
            " chance."
        )
    if more := [one["detectable"]["to_halve"] for one in copies if _lacks_images(one)]:
        sentences.append(f"Generate {max(more):,} images (extract.num_images) to halve the share that would be seen.")
    if word == NOTHING_FOUND:
        sentences.append("Keep this page with the model, and audit again after the next training.")
    return sentences or [
        "Hold out more photos, or ask for more images: this audit cannot tell (see the reasons above)."
    ]


def _lacks_images(answer: Json) -> bool:
    detectable = answer.get("detectable")
    return answer["answer"] == NOT_ENOUGH and bool(detectable and detectable["to_halve"])


def _unsaid(page: Page) -> list[str]:
    """What nobody should read into the page."""
    metrics, options = page.metrics, page.facts["options"]
    name, sentences = metrics["descriptor"]["name"], []
    if name.startswith("pixel"):
        mirrored = "" if options["extract"]["mirror"] else "mirrored, "
        sentences.append(f"Copies that are {mirrored}shifted or cropped: the descriptor compares whole images.")
    if not metrics["at_risk"]["decoys"]:
        sentences.append("Which high scores are chance: no photo was held out.")
    if any(one["answer"] == NO for one in metrics["verdicts"]["copies"]):
        shares = [one["detectable"]["share"] for one in metrics["verdicts"]["copies"] if one["answer"] == NO]
        sentences.append(f"Copies rarer than {percent(max(shares))} % of images.")
    attacks = "of images that were given" if metrics.get("samples") else "of these attacks at this size"
    sentences.append(f"What other attacks would find: the answers are {attacks}, and of this one training.")
    return sentences


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
