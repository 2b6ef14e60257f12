"""The ReLU denoising autoencoder of seed 003 on ORL faces: the same network, trained on 5 photos and on 400.

Two minutes on one core: ten networks of 2,000 steps.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy import stats

import side_jax
from docs.theory.plotting import BLUE, GRAY, RED, panels, save
from docs.theory.verdicts import CONTRADICTED, IN_PART, OPEN, SUPPORTED, above, interval
from side_jax.evidence.intervals import LEVEL
from side_jax.inside.spikiness import measures
from side_jax.theory.relu_dae import DAE, denoise, hidden_codes, monte_carlo_loss, train
from side_jax.theory.relu_dae_solutions import blocks, generalizing, memorizing, separability, separated_loss

SIGMA, LAM, HIDDEN = 0.5, 0.1, 100  # above 5 photos and below 400
ALIGNED = 0.9
FEW, MANY = 5, 400


class Faces(NamedTuple):
    """Photos less the mean photo, and their mirror images, [400, D]; the person of each."""

    x: np.ndarray
    mirrored: np.ndarray
    labels: np.ndarray


class Trained(NamedTuple):
    """One network, and what is said of it."""

    dae: DAE
    own: np.ndarray  # its photos, [n, D]
    new: np.ndarray  # photos it has not seen
    numbers: dict[str, float]


def make(figures: Path, image_size: int = 24, num_steps: int = 2_000, seeds: int = 5) -> dict[str, Any]:
    """Trains, draws and measures; intervals are over `seeds` (2 or more), which choose photos, weights and noise."""
    faces = _load(image_size)
    runs = {n: [_train_on(faces, n, num_steps, seed) for seed in range(seeds)] for n in (FEW, MANY)}
    _draw_codes(figures, runs)
    _draw_spikiness(figures, runs)
    _draw_weights(figures, {n: found[0] for n, found in runs.items()}, image_size)
    few, many = (
        {name: _over_seeds([run.numbers[name] for run in runs[n]]) for name in runs[n][0].numbers} for n in (FEW, MANY)
    )
    spikier = [a.numbers["l4_train"] - b.numbers["l4_train"] for a, b in zip(runs[FEW], runs[MANY], strict=True)]
    return {
        "few_photos": FEW,
        "many_photos": MANY,
        "sigma": SIGMA,
        "lam": LAM,
        "hidden": HIDDEN,
        "image_size": image_size,
        "seeds": seeds,
        "aligned": ALIGNED,
        "few": few,
        "many": many,
        "simplex": _simplex_numbers(),
        "people": _people(faces),
        "spikier": _over_seeds(spikier),
        "mixing": _mixing(figures),
    }


def claims(n: dict[str, Any]) -> list[dict[str, str]]:
    """What the paper says, and what was found."""
    few, many, mixing = n["few"], n["many"], n["mixing"]
    stored = few["aligned"]["low"] > many["aligned"]["high"]
    exact = abs(mixing["threshold"] - 1 / 3) < 2e-3 and mixing["nonlinearity"] < 1e-3
    return [
        {
            "claim": "On x_a + α x_b a memorizing network's neuron of x_b fires only above a threshold of α, and a"
            " generalizing block is linear in α",
            "source": "seed 003, closed forms",
            "verdict": SUPPORTED if exact else CONTRADICTED,
            "why": f"on four vectors with cosines −1/3 the neuron fires from α = {mixing['threshold']:.3f} on;"
            f" the block is linear to {mixing['nonlinearity']:.0e}",
            "figure": "relu_dae_threshold.svg",
        },
        {
            "claim": f"Trained on {FEW} photos the network stores photos in its weights, trained on {MANY} it does not",
            "source": "seed 003",
            "verdict": (SUPPORTED if few["aligned"]["low"] > 0.9 else IN_PART) if stored else OPEN,
            "why": f"{_percent(few['aligned'])} and {_percent(many['aligned'])} of the live neurons have a cosine above"
            f" {ALIGNED} to a training photo",
            "figure": "relu_dae_weights.svg",
        },
        {
            "claim": "Codes of memorized photos are spikier than codes of generalised ones",
            "source": "seed 003",
            "verdict": above(n["spikier"], 0),
            "why": f"L4/L2 of training photos is {few['l4_train']['value']:.3f} after {FEW} photos and"
            f" {many['l4_train']['value']:.3f} after {MANY}, a difference of {interval(n['spikier'], 3)};"
            " a one-hot code has 1",
            "figure": "relu_dae_codes.svg",
        },
        {
            "claim": "Inside one network, spikiness tells memorized photos from new ones",
            "source": "seed 003",
            "verdict": above(few["auroc_std"], 0.5),
            "why": f"after {FEW} photos the AUROC is {interval(few['auroc_std'])} by standard deviation and"
            f" {interval(few['auroc_l4'])} by L4/L2",
            "figure": "relu_dae_spikiness.svg",
        },
    ]


def _percent(estimate: dict[str, float]) -> str:
    return interval({name: 100 * value for name, value in estimate.items()}, 0) + " %"


def _load(image_size: int) -> Faces:
    images = side_jax.load_images("orl", None, image_size=image_size, channels=1)
    pixels, mirrored = (
        array.reshape(len(images), -1) / 127.5 - 1 for array in (images.images, images.images[:, :, ::-1])
    )
    mean = pixels.mean(0)
    return Faces(pixels - mean, mirrored - mean, np.asarray(images.labels))


def _train_on(faces: Faces, n: int, num_steps: int, seed: int) -> Trained:
    """All photos, or one photo each of n people; new are the other photos, or the mirror images."""
    if n == len(faces.x):
        own, new = faces.x, faces.mirrored
    else:
        rng = np.random.default_rng(seed)
        people = rng.choice(np.unique(faces.labels), n, replace=False)
        chosen = np.array([rng.choice(np.flatnonzero(faces.labels == person)) for person in people])
        own, new = faces.x[chosen], np.delete(faces.x, chosen, 0)
    dae, _ = train(own, HIDDEN, SIGMA, LAM, num_steps=num_steps, seed=seed)
    loss, _ = monte_carlo_loss(dae, own, SIGMA, LAM, draws=20)
    closed = separated_loss(blocks(own, np.arange(n), SIGMA, LAM), SIGMA, LAM)
    energy = np.square(np.asarray(dae.w1)).sum(0)
    live = energy > 1e-3 * energy.max()
    nearest = _cosines(dae, own).max(1)
    codes = [_codes(dae, images) for images in (own, new)]
    (std, l4), (new_std, new_l4) = map(_spikiness, codes)
    apart = separability(own, np.arange(n), SIGMA)
    numbers = {
        "loss": loss,
        "loss_if_memorized": closed,
        "live": float(live.mean()),
        "aligned": float((nearest[live] > ALIGNED).mean()),
        "aligned_energy": float(energy[live & (nearest > ALIGNED)].sum() / energy.sum()),
        "highest_cosine": float(nearest[live].max()),
        "l4_train": float(l4.mean()),
        "l4_new": float(new_l4.mean()),
        "std_train": float(std.mean()),
        "std_new": float(new_std.mean()),
        "active_train": float((codes[0] > 0).mean()),
        "active_new": float((codes[1] > 0).mean()),
        "auroc_std": _auroc(std, new_std),
        "auroc_l4": _auroc(l4, new_l4),
        "highest_across": apart.worst_across[2],
        "highest_leak": apart.worst_leak[2],
    }
    return Trained(dae, own, new, numbers)


def _codes(dae: DAE, x: np.ndarray) -> np.ndarray:
    return np.asarray(hidden_codes(dae, jnp.asarray(x, jnp.float32)))


def _spikiness(codes: np.ndarray) -> np.ndarray:
    """Standard deviation over neurons, and L4/L2, of codes [N, p]: [2, N]."""
    return np.asarray(measures(jnp.asarray(codes, jnp.float32)), np.float64).T[:2]


def _cosines(dae: DAE, x: np.ndarray) -> np.ndarray:
    """Of every neuron's w₁ with every photo, [p, n]."""
    w = np.asarray(dae.w1, np.float64)
    lengths = np.maximum(np.linalg.norm(w, axis=0), 1e-12)[:, None] * np.linalg.norm(x, axis=1)
    cosines: np.ndarray = w.T @ x.T / lengths
    return cosines


def _auroc(train_scores: np.ndarray, new_scores: np.ndarray) -> float:
    return float(stats.mannwhitneyu(train_scores, new_scores).statistic / (len(train_scores) * len(new_scores)))


def _over_seeds(values: list[float]) -> dict[str, float]:
    """Mean with its 95 % t interval."""
    value = float(np.mean(values))
    half = float(stats.t.ppf(0.5 + LEVEL / 2, len(values) - 1) * np.std(values, ddof=1)) / len(values) ** 0.5
    return {"value": value, "low": value - half, "high": value + half}


def _simplex() -> np.ndarray:
    """n = 4 vectors in D = 16, ‖x‖² = 16, cosines −1/3."""
    corners = np.eye(4, 16)
    corners[:, :4] -= 0.25
    return 4 * corners / np.linalg.norm(corners, axis=1, keepdims=True)


def _simplex_numbers() -> dict[str, float]:
    x, each = _simplex(), np.arange(4)
    solution = blocks(x, each, SIGMA, LAM)
    simulated, error = monte_carlo_loss(memorizing(x, SIGMA, LAM, 8), x, SIGMA, LAM, draws=100_000)
    return {
        "strength": float(solution[0].strengths[0]),
        "leak": separability(x, each, SIGMA).worst_leak[2],
        "closed": separated_loss(solution, SIGMA, LAM),
        "simulated": simulated,
        "error": error,
    }


def _people(faces: Faces) -> dict[str, Any]:
    """Whether the 40 people are clusters as the theory wants them."""
    apart = separability(faces.x, faces.labels, SIGMA)
    same = faces.labels[:, None] == faces.labels[None]
    other = np.eye(len(faces.x)) == 0
    return {
        "separable": bool(apart.separable),
        "inside": apart.worst_inside[2],
        "across": apart.worst_across[2],
        "positive_inside": float((apart.cosines[same & other] > 0).mean()),
        "negative_across": float((apart.cosines[~same] < 0).mean()),
    }


def _draw_codes(figures: Path, runs: dict[int, list[Trained]]) -> None:
    """Hidden codes of one training photo and one new photo, at unit energy, neurons by height."""
    figure, axes = panels(4, columns=2, height=2.4)
    for row, (n, found) in enumerate(runs.items()):
        run = found[0]
        for axis, images, name, colour in zip(
            axes[2 * row : 2 * row + 2], (run.own, run.new), ("training photo", "new photo"), (RED, BLUE), strict=True
        ):
            code = _codes(run.dae, images[:1])[0]
            axis.bar(np.arange(HIDDEN), np.sort(code)[::-1] / np.linalg.norm(code), color=colour, width=1.0)
            axis.set(title=f"{n} photos: {name}", xlabel="neuron, by activation", xlim=(-1, 60), ylim=(0, 0.6))
        axes[2 * row].set_ylabel("activation / norm")
    save(figure, figures / "relu_dae_codes.svg")


def _draw_spikiness(figures: Path, runs: dict[int, list[Trained]]) -> None:
    """Standard deviation and L4/L2 of codes, all seeds together."""
    figure, axes = panels(4, columns=2, height=2.4)
    bins = np.linspace(0, 1.2, 49), np.linspace(0.4, 0.8, 41)
    for row, (n, found) in enumerate(runs.items()):
        for images, colour in (("new", BLUE), ("own", RED)):
            scores = [_spikiness(_codes(run.dae, getattr(run, images))) for run in found]
            for measure, axis in enumerate(axes[2 * row : 2 * row + 2]):
                values = np.concatenate([score[measure] for score in scores])
                label = "training photos" if images == "own" else "new photos"
                axis.hist(values, bins=bins[measure], density=True, color=colour, alpha=0.6, label=label)
                axis.set(xlabel=("standard deviation", "L4/L2")[measure], title=f"trained on {n} photos")
        axes[2 * row].set_ylabel("density")
    axes[0].legend(frameon=False)
    save(figure, figures / "relu_dae_spikiness.svg")


def _draw_weights(figures: Path, runs: dict[int, Trained], image_size: int, count: int = 8) -> None:
    """The strongest columns of W₁, each above the training photo that it is nearest to."""
    figure, axes = panels(4 * count, columns=count, width=1.1, height=1.3)
    for row, (n, run) in enumerate(runs.items()):
        cosines = _cosines(run.dae, run.own)
        strongest = np.argsort(-np.square(np.asarray(run.dae.w1)).sum(0))[:count]
        for k, neuron in enumerate(strongest):
            photo = int(cosines[neuron].argmax())
            pictures = (np.asarray(run.dae.w1)[:, neuron], run.own[photo])
            for axis, picture in zip(axes[2 * row * count + k :: count], pictures, strict=False):
                reach = np.abs(picture).max()
                axis.imshow(picture.reshape(image_size, image_size), cmap="gray", vmin=-reach, vmax=reach)
                axis.set(xticks=[], yticks=[])
            axes[2 * row * count + k].set_title(f"cos {cosines[neuron, photo]:.2f}", fontsize=8)
        axes[2 * row * count].set_ylabel(f"n = {n}\nweights", fontsize=8)
        axes[(2 * row + 1) * count].set_ylabel("nearest\nphoto", fontsize=8)
    save(figure, figures / "relu_dae_weights.svg")


def _mixing(figures: Path) -> dict[str, float]:
    """x_a + α x_b: how the output changes with α, of the memorizing solution and of one generalizing block."""
    figure, (axis,) = panels(1)
    alphas = np.linspace(0, 1, 1001)
    x = _simplex()
    # The generalizing block needs cosines above 0: the same corners, moved to one side.
    near = x + 8 * np.eye(16)[15]
    memorized, block = memorizing(x, SIGMA, LAM, 4), generalizing(near, np.zeros(4, int), SIGMA, LAM, 8)
    change = {}
    for name, colour, points, dae in (("memorizing", RED, x, memorized), ("generalizing block", BLUE, near, block)):
        mixed = jnp.asarray(points[0] + alphas[:, None] * points[1], jnp.float32)
        output = np.asarray(denoise(dae, mixed))
        change[name] = np.linalg.norm(output - output[0], axis=1) / np.linalg.norm(points[1])
        axis.plot(alphas, change[name], color=colour, label=name)
    axis.axvline(1 / 3, color=GRAY, linestyle=":", label="α = 1/3")
    axis.set(xlabel="α", ylabel="‖f(x_a + α x_b) − f(x_a)‖ / ‖x_b‖")
    axis.legend(frameon=False)
    save(figure, figures / "relu_dae_threshold.svg")
    fires = _codes(memorized, x[0] + alphas[:, None] * x[1])[:, 1] > 0
    linear = alphas * change["generalizing block"][-1]
    return {
        "threshold": float(alphas[fires.argmax()]),
        "nonlinearity": float(np.abs(change["generalizing block"] - linear).max()),
    }
