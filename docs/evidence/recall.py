"""Recall on ORL: what a photo's own name draws out, against SIDE and Random at equal compute, and against the loss.

    python -m docs.evidence.recall --workdir=FOLDER     writes docs/evidence/recall.json; 25 minutes on 2 quiet cores

Every choice is made on one half of the photos and measured on the other. Seeds are those of configs/orl.py.
"""

import argparse
import dataclasses
from typing import Any

import numpy as np
from etils import epath

import side_jax
from configs import orl
from side_jax.audit.pipeline import prepare
from side_jax.audit.stage import Audit, photo_pool
from side_jax.audit.stages.detect import DetectStage
from side_jax.audit.stages.recall import Recalled, read_recall
from side_jax.audit.sweep import read_scale
from side_jax.evidence.at_risk import q_values
from side_jax.evidence.recall import Asked, recall
from side_jax.evidence.scores import Nearest
from side_jax.runtime.files import write_json

NUMBERS = epath.Path(__file__).parent / "recall.json"
_STAGES = ("target", "extract", "recall")  # no guide but recall's own
_ALL = ("target", "synthesize", "label", "distill", "extract", "recall", "detect")
_IMAGES = 4  # for each photo, at most
_SPLITS = 1_000  # of the held-out photos, for the true share of false finds
_RATES = (0.05, 0.1, 0.2)

# Name -> options of recall and of the sampler that differ.
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "all steps": {"recall": {"scales": (2.0, 4.0), "num_images": _IMAGES, "window": (0.0, 1.0)}},
    "consistent order": {"recall": {"scales": (4.0,), "window": (0.0, 1.0)}, "sampler": {"clip": "consistent"}},
    "first half of the steps": {"recall": {"scales": (4.0,), "window": (0.0, 0.5)}},
    "last half of the steps": {"recall": {"scales": (4.0,), "window": (0.5, 1.0)}},
}


def config(variant: str) -> Any:
    """The audit of a variant; the first one has a sweep and membership attacks too."""
    made = orl.get_config()
    first = variant == next(iter(VARIANTS))
    made.extract.update({"scales": (0.0, 2.0) if first else (0.0,), "num_images": 1_100 if first else 64})
    made.extract.update({"equal_compute": False, "save_images": "none"})
    made.steer.weights = ()
    made.detect.update({"num_images": 64 if first else 0, "attacks": ("loss", "secmi", "pia"), "wiener": False})
    for group, values in VARIANTS[variant].items():
        made[group].update(values)
    return made


def measure(workdir: epath.Path) -> dict[str, Any]:
    """Everything that the page says of recall."""
    audits: dict[str, Audit] = {}
    for variant in VARIANTS:
        options, folder = config(variant), workdir / variant.replace(" ", "_")
        side_jax.run(options, folder, stages=_ALL if variant == next(iter(VARIANTS)) else _STAGES)
        audits[variant] = prepare(options, folder)
    first = next(iter(audits))
    recalled = {variant: read_recall(audit) for variant, audit in audits.items()}
    band, seed = audits[first].bands()[-1], audits[first].options.dataset.split_seed
    return {
        "variants": {variant: recall(found.asked, band, seed) for variant, found in recalled.items()},
        "by_images": _by_images(recalled[first].asked, band, seed),
        "found": _found(audits[first], recalled[first]),
        "membership": DetectStage().complete(audits[first])["facts"]["members"],  # type: ignore[index]
        "false_discoveries": false_discoveries(recalled[first].asked),
    }


def _by_images(asked: Asked, band: tuple[str, float, float], seed: int) -> list[dict[str, Any]]:
    """λ = 4 with one image per photo, with two, and so on, on the half that reports."""
    rows = []
    for images in range(1, 1 + _IMAGES):
        fewer = dataclasses.replace(asked, scores={4.0: asked.scores[4.0][:images]})
        found: dict[str, Any] = recall(fewer, band, seed)
        rows.append({"images": images} | found["scales"][0])
    return rows


def _found(audit: Audit, recalled: Recalled) -> list[dict[str, Any]]:
    """Different photos of either kind that each way finds, among all: by recall, by SIDE and by Random."""
    band, main = audit.bands()[-1], audit.main()
    train, heldout = (photo_pool(main).members(prefix) for prefix in ("paired_", "heldout_"))
    asked = recalled.asked
    rows: list[dict[str, Any]] = []
    for images in (1, 2, _IMAGES):
        drawn = asked.best((4.0, images)) >= band[1]
        row = {"way": "recall", "scale": 4.0, "images": images * len(asked.member)}
        shares = {"train": int(drawn[asked.member].sum()), "heldout": int(drawn[~asked.member].sum())}
        rows.append(row | shares | {"photos": int(asked.member.sum())})
    for scale in main.options.extract.scales:
        table = read_scale(main, scale)
        found = {
            name: Nearest.from_table(table, prefix, members).unique(band).distinct()
            for name, prefix, members in (("train", "paired_", train), ("heldout", "heldout_", heldout))
        }
        way = "SIDE, exact" if scale else "Random"
        rows.append({"way": way, "scale": scale, "images": len(table)} | found | {"photos": len(train)})
    return rows


def false_discoveries(asked: Asked, scale: float = 4.0, images: int = 2) -> list[dict[str, Any]]:
    """The nominal false-discovery rate against the true share of false finds, where the truth is known.

    Half of the held-out photos, drawn at random, join the list of photos that an owner suspects. They were not trained
    on, so that they are false finds; the other half are the decoys.
    """
    best = asked.best((scale, images))
    trained, untrained = best[asked.member], best[~asked.member]
    rng, rows = np.random.default_rng(14), []
    found: dict[float, list[tuple[int, int]]] = {rate: [] for rate in _RATES}
    for _ in range(_SPLITS):
        suspects, decoys = np.array_split(rng.permutation(untrained), 2)
        scores = np.concatenate([trained, suspects, decoys])
        member = np.arange(len(scores)) < len(trained) + len(suspects)
        q = q_values(scores, member)
        for rate in _RATES:
            listed = (q <= rate) & member
            found[rate].append((int(listed.sum()), int(listed[len(trained) :].sum())))
    for rate, pairs in found.items():
        listed, false = np.array(pairs, float).T
        shares = false / np.maximum(listed, 1)
        rows.append(
            {
                "nominal": rate,
                "true": float(shares.mean()),
                "error": float(shares.std(ddof=1) / np.sqrt(_SPLITS)),
                "listed": float(listed.mean()),
                "trained": float((listed - false).mean()),
            }
        )
    return rows


def main() -> None:
    """Runs what is not there yet, and writes the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", required=True)
    folder = epath.Path(parser.parse_args().workdir)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(NUMBERS, measure(folder))


if __name__ == "__main__":
    main()
