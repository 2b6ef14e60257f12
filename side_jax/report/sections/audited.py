"""What was audited: target, images, sampler, descriptor and guide."""

from collections.abc import Iterator

from side_jax.report.blocks import Table
from side_jax.report.section import Page, Section
from side_jax.runtime.files import Json

_SKIPPED = 5  # files that are named
_CHOICES = ("orientation", "background", "white", "resize", "filter")  # that replace the recipe's


def _blocks(page: Page) -> Iterator[Table]:
    options, metrics = page.facts["options"], page.metrics
    target, extract = options["target"], options["extract"]
    generated = (
        f"{extract['num_images']} images per λ, DDIM with {extract['num_steps']} steps, η = {extract['eta']},"
        f" seed {options['seed']}; x̂₀ clipped: {options['sampler']['clip'].replace('_', ' ')}"
    )
    if metrics.get("samples"):
        yield Table([], _samples(page))
        return
    rows = [
        ("Target", "trained here" if target["source"] == "train" else target["path"]),
        *(("Note on the target", note) for note in _notes(page)),
        ("Images", _images(options["dataset"], metrics["images"])),
        ("Prepared", _prepared(options["dataset"], metrics["traits"])),
        ("Skipped files", _skipped(metrics["skipped"], metrics["damaged_parts"])),
        ("Generated", generated),
        ("Descriptor", _descriptor(metrics["descriptor"])),
    ]
    if "distill" in page.facts["stages"]:
        rows.append(("Guide", _guide(page.facts["stages"]["label"]["facts"], options["classifier"])))
    yield Table([], rows)


def _samples(page: Page) -> list[tuple[str, str]]:
    """The rows of an audit of generated images alone."""
    dataset, metrics = page.facts["options"]["dataset"], page.metrics
    sets = [
        (
            f"Generated: {one['name']}",
            f"{one['num_images']} images of {one['path']}{_resized(one['traits'])}",
        )
        for one in metrics["samples"]
    ]
    skipped = [*metrics["skipped"], *(file for one in metrics["samples"] for file in one["skipped"])]
    return [
        ("Target", "none was given: generated images alone"),
        ("Left out, as there is no model", ", ".join(page.facts["provenance"]["left_out"])),
        *sets,
        ("Images", _images(dataset, metrics["images"])),
        ("Prepared", _prepared(dataset, metrics["traits"])),
        ("Skipped files", _skipped(skipped, metrics["damaged_parts"])),
        ("Descriptor", _descriptor(metrics["descriptor"])),
    ]


def _resized(traits: dict[str, int]) -> str:
    """What recipes would make otherwise of generated images, if anything: resizing among it."""
    return "".join(f"; {count} {trait}" for trait, count in traits.items())


def _notes(page: Page) -> list[str]:
    """What reading the target assumed or chose."""
    stages = page.facts["stages"]
    return list(stages["target"]["facts"].get("notes", ())) if "target" in stages else []


def _images(dataset: Json, images: dict[str, int]) -> str:
    return (
        f"{dataset['name']} {dataset['path']}".rstrip()
        + f", {dataset['image_size']} pixels, {dataset['channels']} channel(s): {images['train']} training,"
        f" {images['heldout']} held-out; compared one to one: {images['paired']}"
    )


def _prepared(dataset: Json, traits: dict[str, int]) -> str:
    """The recipe, and the photos that another recipe would make otherwise."""
    if dataset["name"] == "npz":
        return "by their owner: an npz file holds pixels"
    made = [dataset["prepare"], *(f"{name} {dataset[name]}" for name in _CHOICES if dataset[name])]
    found = "; ".join(f"{count} {trait}" for trait, count in traits.items()) or "none"
    return f"as {', '.join(made)}. Photos on which recipes differ: {found}"


def _skipped(skipped: list[tuple[str, str]], damaged: int) -> str:
    names = "".join(f"; {name} ({reason})" for name, reason in skipped[:_SKIPPED])
    parts = f"{damaged} damaged part{'' if damaged == 1 else 's'}"
    return f"{len(skipped)}{names}. {parts} of the sweep found and computed again."


def _descriptor(facts: Json) -> str:
    weights = ""
    if facts["weights"]:
        weights = f": {facts['weights']}, SHA-256 {facts['sha256'][:12]}, {facts['preprocessing']}"
    return f"{facts['name']}{weights}; score γ = cosine"


def _guide(labels: Json, classifier: Json) -> str:
    images = {"dataset": "training", "heldout": "held-out"}.get(labels["source"], "synthetic")
    kind = f"{classifier['arch']}, {classifier['guide'].replace('_', '-')}"
    if classifier["guide"] == "exact":
        kind = "exact: the minimiser of Eq. (11) in closed form"
    return (
        f"{labels['num_images']} {images} images, {labels['targets']} labels from {labels['source']},"
        f" {labels['num_classes']} classes, {kind}"
    )


SECTION = Section("audited", "What was audited", _blocks)
