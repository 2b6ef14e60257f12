"""Whether the denoising loss names the recipe that a target was trained on.

    python -m benchmarks.recipes --seeds=3 --steps=1200

For each recipe and seed a small target is trained on half of the ORL faces, prepared by that recipe. Then the loss of
its training photos is measured, as the stage `sanity` does, under every recipe that prepares them otherwise. No target
saw other pixels than those of its own recipe, so the right answer is known. A line for each target: the recipe with the
lowest loss among those that have a name, and among all, single choices included.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from configs import orl
from side_jax.audit import pipeline
from side_jax.audit.recipes import measure_recipes
from side_jax.audit.stage import Audit
from side_jax.data.preparation import RECIPES
from side_jax.evidence.recipes import OWN
from side_jax.runtime.files import Json


def trained_under(recipe: str, seed: int, steps: int, workdir: Path) -> Audit:
    """An audit whose target was trained on photos prepared by a recipe."""
    config = orl.get_config()
    config.seed = seed
    config.dataset.update({"prepare": recipe, "split_seed": seed})
    config.target.update({"source": "train", "path": ""})
    config.target.train.update({"num_steps": steps, "checkpoint_every": steps})
    audit = pipeline.prepare(config, workdir)
    pipeline.execute(audit, ("target",))
    return audit


def lowest(measured: Json, right: str, named: bool) -> str:
    """The recipe of the lowest loss, by its own name; the config's own is `right`."""
    rows = [row["recipe"].split(" or ") for row in measured["recipes"]]
    for names in rows:
        prefixed = [name for name in names if name == OWN or not named or name.startswith("dataset.prepare=")]
        if prefixed:
            return right if prefixed[0] == OWN else prefixed[0].removeprefix("dataset.prepare=")
    raise AssertionError("the config's own recipe is always measured")


def main() -> None:
    """Trains and measures, and prints how often each answer is right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1_200)
    arguments = parser.parse_args()
    right = {True: 0, False: 0}
    for seed in range(arguments.seeds):
        for recipe in RECIPES:
            with tempfile.TemporaryDirectory() as folder:
                audit = trained_under(recipe, seed, arguments.steps, Path(folder) / "run")
                positions = np.arange(0, len(audit.split.train), 3)
                measured = measure_recipes(audit, positions, len(positions))
            assert measured is not None
            answers = {named: lowest(measured, recipe, named) for named in (True, False)}
            for named, answer in answers.items():
                right[named] += answer == recipe
            print(f"trained under {recipe}, seed {seed}: named {answers[True]}, of all {answers[False]}")
            for row in measured["recipes"]:
                print(f"    {row['loss']['value']:.4f}  {row['recipe']}", flush=True)
    total = arguments.seeds * len(RECIPES)
    print(f"right: {right[True]} of {total} among named recipes, {right[False]} of {total} among all")


if __name__ == "__main__":
    main()
