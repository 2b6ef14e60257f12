"""How training prepared the photos: the target's denoising loss under each recipe."""

from collections.abc import Iterator

from side_jax.evidence.recipes import OWN, advice
from side_jax.report.blocks import Block, Note, Table
from side_jax.report.section import Page, Section
from side_jax.report.wording import decimals
from side_jax.runtime.files import Json


def _measured(metrics: Json) -> Json:
    found: Json = (metrics["sanity"] or {}).get("recipes") or {}
    return found


def _blocks(page: Page) -> Iterator[Block]:
    rows = _measured(page.metrics)["recipes"]
    yield Table(
        ("photos prepared", "photos that differ", "loss, of a Wiener filter's", f"less that {OWN}"),
        [
            [
                row["recipe"],
                str(row["photos"]),
                decimals(row["loss"]),
                "" if row["difference"] is None else decimals(row["difference"]),
            ]
            for row in rows
        ],
        against={"train": page.metrics["images"]["train"]},
    )
    yield Note(
        f"At most {page.metrics['sanity']['num_images']} training photos, with the same noise under each recipe. A"
        " target denoises best what it was trained on, so the lowest loss names the recipe of its training. It is"
        " relative to the loss of a Wiener filter for the same pixels, as smoother photos are easier to denoise."
        " The intervals of the differences hold all together with 95 %."
        " Recipes that make the same pixels of these photos share a row, and have none if these are the config's own."
        " docs/photos.md says what a recipe is."
    )


def _verdict(metrics: Json) -> list[str]:
    measured = _measured(metrics)
    sentence = advice(measured) if measured else None
    return [sentence] if sentence else []


def _withheld(metrics: Json) -> list[str]:
    """The advice again where the sanity check fails: photos prepared otherwise may be why."""
    return _verdict(metrics) if (metrics["sanity"] or {}).get("failed") else []


SECTION = Section(
    "recipes",
    "How training prepared the photos",
    _blocks,
    needed=lambda page: bool(_measured(page.metrics)),
    verdict=_verdict,
    withheld=_withheld,
)
