"""Steering on the ORL target: how images move along the memorized direction, and what steering away buys (seed 003).

Takes 9 minutes of one core: 320 images, then 160 of them at six weights in two directions.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

import side_jax
from configs import orl
from docs.theory.plotting import BLUE, GRAY, ORANGE, RED, panels, save
from docs.theory.verdicts import CONTRADICTED, IN_PART, OPEN, SUPPORTED
from side_jax.audit.dataset import load_split
from side_jax.audit.options import AuditOptions
from side_jax.evidence.intervals import Estimate, mean, proportion
from side_jax.evidence.memorized import memorized
from side_jax.evidence.mitigation import Outcome, effect, effect_by_band
from side_jax.report.wording import SIGNIFICANT
from side_jax.runtime.files import plain
from side_jax.runtime.sharding import stage_key
from side_jax.targets.sampling import Sampler, Sampling
from side_jax.targets.steering import Steering

WEIGHTS = (-4.0, -2.0, -1.0, 1.0, 2.0, 4.0)  # fixed before any was tried
_DIRECTIONS = ("steering", "random")


def make(
    figures: Path, num_images: int = 320, num_steps: int = 50, weights: tuple[float, ...] = WEIGHTS
) -> dict[str, Any]:
    """Draws steering_moves.svg and steering_mitigation.svg; returns the curves and the table."""
    options = AuditOptions.from_config(orl.get_config())
    split, bands = load_split(options.dataset), options.extract.bands
    target, embed = side_jax.load_target("assets/orl_target"), side_jax.load_descriptor("pixel")
    train, heldout = embed(split.train.images), embed(split.heldout.images)
    images = side_jax.sample(target, num_images, num_steps=num_steps)
    everything = Outcome.of(embed(images), train, heldout)
    copies, threshold = memorized(everything.train.best, everything.heldout.best)

    # Directions from the images with an even index; what they do is measured on the others.
    made = side_jax.steering_vectors(target, images[::2][copies[::2]], images[::2][~copies[::2]], num_steps=num_steps)
    directions = dict(zip(_DIRECTIONS, (made, random_direction(made)), strict=True))
    odd = np.arange(1, num_images, 2)
    unsteered = Outcome.of(everything.descriptors[odd], train, heldout)

    def steered(direction: Steering, weight: float) -> Outcome:
        sampler = Sampler(target, stage_key(0, "extract"), Sampling(num_steps, batch_size=32), steering=direction)
        batches = [batch for _, batch in sampler(odd, 0.0, steering_weight=weight)]
        return Outcome.of(embed(np.concatenate(batches)), train, heldout)

    outcomes = {name: {weight: steered(found, weight) for weight in weights} for name, found in directions.items()}
    moves = {name: _moves(by_weight, unsteered, copies[odd]) for name, by_weight in outcomes.items()}
    _draw_moves(moves, figures / "steering_moves.svg")
    against_random = [
        {"weight": weight} | mean(_further(outcomes, unsteered, weight)[copies[odd]])._asdict() for weight in weights
    ]
    rows = [
        {"weight": weight, "bands": effect_by_band(outcome.nearest(), unsteered.nearest(), bands)}
        | effect(outcome, unsteered, heldout, threshold)
        for weight, outcome in sorted((outcomes["steering"] | {0.0: unsteered}).items())
    ]
    _draw_mitigation(rows, bands[-1], figures / "steering_mitigation.svg")
    return plain(
        {
            "num_images": num_images,
            "num_odd": len(odd),
            "num_memorized": int(copies[odd].sum()),
            "num_positive": int(copies[::2].sum()),
            "num_negative": int((~copies[::2]).sum()),
            "threshold": threshold,
            "moves": moves,
            "against_random": against_random,
            "rows": rows,
            "top_band": bands[-1],
        }
    )


def random_direction(steering: Steering, seed: int = 0) -> Steering:
    """One random direction per layer, at every step as long as the steering vector there."""
    rng = np.random.default_rng(seed)
    vectors = {}
    for layer, known in steering.vectors.items():
        direction = rng.normal(size=(1, known.shape[1]))
        lengths = np.linalg.norm(known, axis=1, keepdims=True)
        vectors[layer] = (lengths * direction / np.linalg.norm(direction)).astype(np.float32)
    return dataclasses.replace(steering, vectors=vectors)


def _moves(by_weight: dict[float, Outcome], unsteered: Outcome, copies: np.ndarray) -> list[dict[str, Any]]:
    """At each weight, 0 included: how far memorized and other images moved, and how many kept their nearest photo."""
    rows = []
    for weight, outcome in sorted((by_weight | {0.0: unsteered}).items()):
        moved = distances(outcome.descriptors, unsteered.descriptors)
        kept = outcome.train.winner == unsteered.train.winner
        groups = {"memorized": copies, "others": ~copies}
        test = stats.ttest_ind(moved[copies], moved[~copies], equal_var=False) if weight else None
        rows.append(
            {
                "weight": weight,
                "distance": {name: mean(moved[chosen])._asdict() for name, chosen in groups.items()},
                "kept": {name: proportion(kept[chosen])._asdict() for name, chosen in groups.items()},
                "difference": float(moved[copies].mean() - moved[~copies].mean()),
                "p": float(test.pvalue) if test else 1.0,
            }
        )
    return rows


def _further(outcomes: dict[str, dict[float, Outcome]], unsteered: Outcome, weight: float) -> np.ndarray:
    """How much further each image moves along the memorized direction than along the random one, [N]."""
    ours, theirs = (distances(outcomes[name][weight].descriptors, unsteered.descriptors) for name in _DIRECTIONS)
    return ours - theirs


def distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """1 − cosine of unit rows, [N]: of the pixel descriptor, one less the correlation of the pixels."""
    return 1 - np.einsum("nd,nd->n", first.astype(np.float64), second.astype(np.float64))


def _draw_moves(moves: dict[str, list[dict[str, Any]]], path: Path) -> None:
    figure, (left, right) = panels(2, columns=2, width=5)
    styles = {"steering": "-", "random": ":"}
    names = {"steering": "memorized direction", "random": "random direction"}
    for direction, rows in moves.items():
        weights = [row["weight"] for row in rows]
        for group, color in (("memorized", RED), ("others", BLUE)):
            for axis, quantity, factor in ((left, "distance", 1), (right, "kept", 100)):
                value, low, high = (
                    factor * np.array([row[quantity][group][key] for row in rows]) for key in Estimate._fields
                )
                errors = np.maximum([value - low, high - value], 0)
                label = f"{group}, {names[direction]}"
                style = {"linestyle": styles[direction], "marker": "o", "markersize": 4, "capsize": 3, "color": color}
                axis.errorbar(weights, value, errors, label=label, **style)
    for axis in (left, right):
        axis.axvline(0, color=GRAY, linewidth=0.6)
        axis.set_xlabel("α (below 0: away from memorized)")
    left.set(ylabel="1 − correlation with unsteered")
    right.set(ylabel="same nearest photo, %", ylim=(0, 103))
    figure.legend(*left.get_legend_handles_labels(), fontsize=8, loc="outside upper center", ncols=2)
    save(figure, path)


def _draw_mitigation(rows: list[dict[str, Any]], band: tuple[str, float, float], path: Path) -> None:
    figure, (left, right) = panels(2, columns=2, width=5)
    weights = [row["weight"] for row in rows]
    curves = [
        (left, 100, [row["memorized"] for row in rows], RED, "memorized"),
        (left, 100, [row["bands"][band[0]]["train"]["ums"] for row in rows], ORANGE, f"UMS, {band[0]}"),
        (right, 1, [row["kid"] for row in rows], BLUE, "KID to held-out photos"),
    ]
    for axis, factor, estimates, color, label in curves:
        value, low, high = (factor * np.array([estimate[key] for estimate in estimates]) for key in Estimate._fields)
        errors = np.maximum([value - low, high - value], 0)
        axis.errorbar(weights, value, errors, color=color, label=label, marker="o", markersize=4, capsize=3)
    for axis, text in ((left, "% of images"), (right, "KID, pixel descriptor")):
        axis.axvline(0, color=GRAY, linewidth=0.6)
        axis.set(xlabel="α (below 0: away from memorized)", ylabel=text)
        axis.legend(fontsize=8)
    save(figure, path)


def claims(n: dict[str, Any]) -> list[dict[str, str]]:
    """What the page's table says: each claim with its verdict by the numbers."""
    moves, against_random, rows = n["moves"]["steering"], n["against_random"], n["rows"]
    moved = [row for row in moves if row["weight"]]
    further = [row["weight"] for row in moved if row["p"] < SIGNIFICANT and row["difference"] > 0]
    less = [row["weight"] for row in moved if row["p"] < SIGNIFICANT and row["difference"] < 0]
    longer = [row["weight"] for row in against_random if row["low"] > 0]
    shorter = [row["weight"] for row in against_random if row["high"] < 0]
    away = [row for row in rows if row["weight"] < 0]
    fewer, more = _changed(away, "memorized")
    nearer, worse = _changed(away, "kid")
    return [
        {
            "claim": "Steered, memorized images are brittle, and others change smoothly",
            "source": "seed 003",
            "verdict": _verdict(further, less, moved),
            "why": f"memorized images move further than others at {_listed(further)}, less at {_listed(less)}",
            "figure": "steering_moves.svg",
        },
        {
            "claim": "It is the direction that moves memorized images, not its length",
            "source": "control",
            "verdict": _verdict(longer, shorter, against_random),
            "why": f"further than along a random direction at {_listed(longer)}, less far at {_listed(shorter)}",
            "figure": "steering_moves.svg",
        },
        {
            "claim": "Steering away makes fewer images memorized",
            "source": "seed 003",
            "verdict": _verdict(fewer, more, away),
            "why": f"fewer at {_listed(fewer)}, more at {_listed(more)}; the images are significantly further from"
            f" held-out photos (KID) at {_listed(worse)}, nearer at {_listed(nearer)}",
            "figure": "steering_mitigation.svg",
        },
    ]


def _changed(rows: list[dict[str, Any]], quantity: str) -> tuple[list[float], list[float]]:
    """The weights at which it is significantly lower, and higher, than at α = 0."""
    tested = [(row["weight"], row[quantity]["change"]) for row in rows]
    significant = [(weight, change["difference"]["value"]) for weight, change in tested if change["p"] < SIGNIFICANT]
    return [weight for weight, value in significant if value < 0], [
        weight for weight, value in significant if value > 0
    ]


def _verdict(for_it: list[float], against: list[float], tested: list[Any]) -> str:
    if len(for_it) == len(tested):
        return SUPPORTED
    if for_it:
        return IN_PART
    return CONTRADICTED if against else OPEN


def _listed(weights: list[float]) -> str:
    return "α = " + ", ".join(f"{weight:g}" for weight in weights) if weights else "no α"
