"""Whether the denoising loss names the recipe that a target was trained on.

    python -m benchmarks.recipes --seeds=2 --steps=800

For each recipe and seed a target is trained on half of the ORL faces at 16×16, prepared by that recipe. Then the loss
of its training photos, relative to that of a Wiener filter, is measured as the stage `sanity` does: under the recipes
that have a name, and with another resize or filter alone. No target saw other pixels than those of its own recipe, so
the right answer is known. A line for each target: the recipe with the lowest loss among those that have a name, and
among all.
"""

import argparse
import dataclasses
import tempfile
from pathlib import Path

import numpy as np

from configs import orl
from side_jax.audit import pipeline
from side_jax.audit.recipes import measure_recipes, other_recipes
from side_jax.audit.stage import Audit
from side_jax.data.preparation import FILTERS, RECIPES, RESIZES, Recipe
from side_jax.evidence.recipes import OWN
from side_jax.runtime.files import Json


def trained_under(recipe: str, seed: int, steps: int, workdir: Path) -> Audit:
    """An audit whose target was trained on photos prepared by a recipe."""
    config = orl.get_config()
    config.seed = seed
    config.dataset.update({"prepare": recipe, "split_seed": seed, "image_size": 16})
    config.target.update({"source": "train", "path": ""})
    config.target.train.update({"num_steps": steps, "checkpoint_every": steps})
    audit = pipeline.prepare(config, workdir)
    pipeline.execute(audit, ("target",))
    return audit


def single_choices(own: Recipe) -> dict[str, Recipe]:
    """Another resize or filter alone: what the audit does not compare."""
    resizes = {f"resize={name}": dataclasses.replace(own, resize=name) for name in RESIZES if name != own.resize}
    filters = {f"filter={name}": dataclasses.replace(own, filter=name) for name in FILTERS if name != own.filter}
    return resizes | filters


def answer(measured: Json, right: str, named: bool) -> str:
    """The recipe of the lowest loss; the config's own is `right`."""
    for row in measured["recipes"]:
        name = row["recipe"].split(" or ")[0]
        if name == OWN or not named or name.startswith("dataset.prepare="):
            return right if name == OWN else name.removeprefix("dataset.prepare=")
    raise AssertionError("the config's own recipe is always measured")


def main() -> None:
    """Trains and measures, and prints how often each answer is right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--folder", default="", help="keeps the targets; those that are there are not trained again")
    arguments = parser.parse_args()
    right = {True: 0, False: 0}
    with tempfile.TemporaryDirectory() as temporary:
        for seed in range(arguments.seeds):
            for recipe in RECIPES:
                workdir = Path(arguments.folder or temporary) / f"{recipe}_{seed}"
                audit = trained_under(recipe, seed, arguments.steps, workdir)
                dataset, positions = audit.options.dataset, np.arange(0, len(audit.split.train), 3)
                recipes = other_recipes(dataset) | single_choices(dataset.recipe())
                measured = measure_recipes(audit, positions, len(positions), recipes)
                assert measured is not None
                answers = {named: answer(measured, recipe, named) for named in (True, False)}
                for named, name in answers.items():
                    right[named] += name == recipe
                print(f"trained under {recipe}, seed {seed}: named {answers[True]}, of all {answers[False]}")
                for row in measured["recipes"]:
                    print(f"    {row['loss']['value']:.4f}  {row['recipe']}", flush=True)
    total = arguments.seeds * len(RECIPES)
    print(f"right: {right[True]} of {total} among named recipes, {right[False]} of {total} with single choices too")


if __name__ == "__main__":
    main()
