"""The sanity check of the target: images that it makes, and whether they are of the photos' kind."""

from collections.abc import Iterator

from side_jax.report.blocks import Block, Note, Picture, Table
from side_jax.report.section import Page, Section
from side_jax.report.wording import decimals
from side_jax.runtime.files import Json


def _blocks(page: Page) -> Iterator[Block]:
    facts = page.metrics["sanity"]
    loss, difference = facts["loss"], facts["kid_difference"]
    generated, photos = facts["variation"]
    yield Table(
        ("check", "measured", "needed"),
        [
            ("denoising loss on training photos", decimals(loss) if loss else "not finite", "below 1"),
            ("variation over images, in gray levels", f"{generated:.1f}", f"2 % of that of photos, {photos:.1f}"),
            (
                f"KID to {facts['photos']} photos, less that of the same pixels in a random order",
                decimals(difference) if difference else "not measured: too few photos",
                "below 0",
            ),
        ],
    )
    if page.preview is not None:
        pictures = [Picture(image, f"unguided image {i}") for i, image in enumerate(page.preview)]
        yield Table((), [pictures[start : start + _PER_ROW] for start in range(0, len(pictures), _PER_ROW)])
    yield Note(
        f"{facts['num_images']} unguided images. A network that predicts no noise has the loss 1. KID is in the"
        " descriptor's space. An image with its pixels in a random order has the same colours, and shows nothing."
    )


_PER_ROW = 8


def _withheld(metrics: Json) -> list[str]:
    failed = (metrics["sanity"] or {}).get("failed")
    if not failed:
        return []
    reasons = "; ".join(failed)
    return [
        f"No verdict: the target does not make images of this kind. {reasons[0].upper()}{reasons[1:]}.",
        "Check that the weights, the scheduler, the prediction type, the image size and the photos belong together.",
    ]


SECTION = Section(
    "sanity",
    "Sanity check of the target",
    _blocks,
    needed=lambda page: page.metrics["sanity"] is not None,
    withheld=_withheld,
)
