"""Training photos as other recipes would prepare them, and the target's denoising loss on each."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from side_jax.audit.dataset import DatasetOptions
from side_jax.audit.stage import Audit
from side_jax.data.images import decode
from side_jax.data.load import encoded_images
from side_jax.data.preparation import BACKGROUNDS, ORIENTATIONS, RECIPES, Recipe
from side_jax.diffusion.sample import to_float
from side_jax.evidence.recipes import OWN, compare_recipes, wiener_loss
from side_jax.inside.membership import Attack
from side_jax.inside.probe import IndexedImages, Probe, photo_classes
from side_jax.runtime.files import Json
from side_jax.runtime.sharding import stage_key

LEVELS = (1 / 50, 1 / 20, 1 / 10)  # noise levels, in T: low, where a photo's pixels decide and not what it shows
# Not `resize` and `filter` alone: some are too alike to be told apart (benchmarks/recipes.py).
_CHOICES = {
    "prepare": tuple(RECIPES),
    "orientation": ORIENTATIONS,
    "background": BACKGROUNDS,
    "white": (255, 4095, 65535),
}


def other_recipes(dataset: DatasetOptions) -> dict[str, Recipe]:
    """The config with one field changed, as the command line has it -> recipe. Those equal to its own are left out.

    Nothing for an npz file, which has pixels already.
    """
    if dataset.name == "npz":
        return {}
    changes: list[dict[str, Any]] = [{name: value} for name, values in _CHOICES.items() for value in values]
    recipes = {_field(change): dataclasses.replace(dataset, **change).recipe() for change in changes}
    return {name: recipe for name, recipe in recipes.items() if recipe != dataset.recipe()}


def _field(change: dict[str, Any]) -> str:
    ((name, value),) = change.items()
    return f"dataset.{name}={value}"


def measure_recipes(audit: Audit, positions: np.ndarray, batch_size: int, recipes: Mapping[str, Recipe]) -> Json | None:
    """`compare_recipes` of training photos at these positions; None where no recipe makes other pixels of them."""
    dataset, split = audit.options.dataset, audit.split
    own = split.train[positions]
    prepared = {OWN: own.images, **_merged(_other_pixels(dataset, own.ids, own.images, recipes))}
    if len(prepared) == 1 or _alike(own.images):
        return None
    target, key, indices = audit.target(), stage_key(audit.options.seed, "sanity"), np.arange(len(own))
    count, process = target.schedule.num_train_timesteps, target.schedule.process()
    probe = Probe(target, Attack("loss", count), key, batch_size, precision=audit.options.precision)
    classes = photo_classes(target, own.labels, key, indices)[0]

    def loss(pixels: np.ndarray) -> np.ndarray:
        images, x0, relative = IndexedImages(pixels, indices, classes), np.asarray(to_float(jnp.asarray(pixels))), []
        for t in (int(level * count) for level in LEVELS):
            alpha, sigma = (float(value.squeeze()) for value in process.at(jnp.full(1, t)))
            relative.append(-probe(images, t)["score"] / wiener_loss(x0, alpha, sigma))
        return np.mean(relative, axis=0)

    losses = {name: loss(pixels) for name, pixels in prepared.items()}
    differing = {name: int((pixels != own.images).any((1, 2, 3)).sum()) for name, pixels in prepared.items()}
    return compare_recipes(losses, differing)


def _other_pixels(
    dataset: DatasetOptions, ids: tuple[str, ...], own: np.ndarray, recipes: Mapping[str, Recipe]
) -> Iterator[tuple[str, np.ndarray]]:
    """Each recipe that can prepare all of these photos, and makes other pixels of some."""
    encoded = encoded_images(dataset.name, dataset.path, dataset.data_dir, set(ids))
    for name, recipe in recipes.items():
        try:
            photos = [decode(encoded[one], dataset.image_size, dataset.channels, recipe) for one in ids]
        except ValueError:  # as where white is set far above their values: all would be black
            continue
        pixels = np.stack(photos)
        if (pixels != own).any() and not _alike(pixels):
            yield name, pixels


def _alike(images: np.ndarray) -> bool:
    """True if no two differ: nothing is left to denoise."""
    return not (images != images[:1]).any()


def _merged(recipes: Iterator[tuple[str, np.ndarray]]) -> Mapping[str, np.ndarray]:
    """Recipes that make the same pixels as one, under all their names."""
    merged: dict[bytes, tuple[list[str], np.ndarray]] = {}
    for name, pixels in recipes:
        merged.setdefault(pixels.tobytes(), ([], pixels))[0].append(name)
    return {" or ".join(names): pixels for names, pixels in merged.values()}
