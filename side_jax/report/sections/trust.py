"""How far to trust this."""

from collections.abc import Iterator

from side_jax.report.blocks import Note
from side_jax.report.section import Page, Section


def _blocks(page: Page) -> Iterator[Note]:
    name, synthetic = page.metrics["descriptor"]["name"], page.facts["options"]["synthesize"]["num_images"]
    score = (
        "it finds near-identical copies of the whole image, and neither mirrored, shifted nor partial ones."
        if name == "pixel"
        else "it forgives cropping, blur and changes of colour, and scores unrelated photos of one kind high too: read"
        " it beside the held-out photos."
    )
    compute = (
        "at equal compute Random makes more images for that, counted in operations as the dry run counts them and not"
        " in hours; neither the target's training nor the λ that were tried beside the best are charged."
        if _at_equal_compute(page)
        else "the comparison with Random is at equal numbers of images, not equal compute."
    )
    uncalibrated = " Without held-out images a high score may mean only that real images of this kind look alike."
    yield Note(
        f"The score is a {name} cosine: {score} Guided images cost one classifier gradient per step more than unguided"
        f" ones, and the surrogate its {synthetic} synthetic images and two trainings; {compute} One target, one seed:"
        " intervals describe other images of this model, not other trainings of it."
        f"{'' if page.calibrated else uncalibrated}"
    )


def _at_equal_compute(page: Page) -> bool:
    """Whether Random had enough images for that."""
    compared = page.metrics["guided_against_random"] or {}
    return any(found.get("equal_compute") for found in compared.values())


SECTION = Section("trust", "How far to trust this", _blocks)
