"""How far to trust this."""

from collections.abc import Iterator

from side_jax.report.blocks import Note
from side_jax.report.section import Page, Section
from side_jax.runtime.files import Json


def _blocks(page: Page) -> Iterator[Note]:
    name, synthetic = page.metrics["descriptor"]["name"], page.facts["options"]["synthesize"]["num_images"]
    options = page.facts["options"]
    mirrored = options["extract"]["mirror"]
    score = (
        f"it finds near-identical copies of the whole image{', mirrored ones too' if mirrored else ''}, and neither"
        f" {'' if mirrored else 'mirrored, '}shifted nor partial ones."
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
    cost = (
        f"Guided images cost one classifier gradient per step more than unguided ones, and the surrogate its"
        f" {synthetic} synthetic images and two trainings; {compute} One target, one seed: intervals describe other"
        " images of this model, not other trainings of it."
    )
    if page.metrics.get("samples"):
        cost = (
            "The images were given, and nothing here knows how they were made or chosen: intervals describe other"
            " images drawn as these were. Whether they are images of this kind at all was not checked."
        )
    uncalibrated = " Without held-out images a high score may mean only that real images of this kind look alike."
    yield Note(
        f"The score is a {name} cosine: {score} {cost}{'' if page.calibrated else uncalibrated}{_flips(options)}"
    )


def _flips(options: Json) -> str:
    """A warning where mirrored copies are to be expected and are not looked for."""
    target, extract = options["target"], options["extract"]
    if extract["mirror"] or target["source"] != "train" or not target["train"]["flip"]:
        return ""
    return (
        " The target was trained with flips (target.train.flip), so half of its copies may be mirrored. extract.mirror"
        " matches these too."
    )


def _at_equal_compute(page: Page) -> bool:
    """Whether Random had enough images for that."""
    compared = page.metrics["guided_against_random"] or {}
    return any(found.get("equal_compute") for found in compared.values())


SECTION = Section("trust", "How far to trust this", _blocks)
