"""Point-wise memorization and informative labels (seed 002, §3 and Appendices A and B) on the ORL target.

Two minutes on one core, most of them for the sweep's images.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import side_jax
from configs import orl
from docs.theory.plotting import BLUE, GRAY, ORANGE, RED, panels, save
from docs.theory.verdicts import CONTRADICTED, IN_PART, OPEN, SUPPORTED
from side_jax.audit.dataset import load_split
from side_jax.audit.options import AuditOptions
from side_jax.data.images import ImageSet
from side_jax.diffusion.sample import to_float
from side_jax.evidence.forecast import expected_umem, extrapolated, rarefied
from side_jax.evidence.intervals import Finds
from side_jax.targets.activations import check_layers, tap
from side_jax.targets.target import Target
from side_jax.theory.informative_labels import FAILS, HOLDS, Proposition1, proposition_1
from side_jax.theory.memorization import fit_gaussian, limit_ratio, memorization_ratio, principal_components

TARGET = "assets/orl_target"
TIMESTEP = 10
LAYERS = ("mid_block", "up_blocks.0", "up_blocks.3")  # the bottleneck, the first and the last block after it
DIMENSIONS = 3  # of 5 photos a covariance has rank 4 at most
EPSILONS = np.logspace(-6, -1, 26)
FOUND = 0.96  # the mid and high bands of configs/orl.py
WORST_Z = 4.0  # standard errors; among some twenty comparisons chance exceeds it once in 800 runs


def make(figures: Path, num_images: int = 256, num_steps: int = 20, permutations: int = 20) -> dict[str, Any]:
    """Computes, draws and measures; num_images is the size of the sweep, half of which forecasts the whole."""
    options = AuditOptions.from_config(orl.get_config())
    target, photos = side_jax.load_target(TARGET), load_split(options.dataset).train
    people, features = np.asarray(photos.labels), unet_features(target, photos.images, LAYERS, TIMESTEP)
    numbers = {
        "photos": len(photos),
        "people": len(np.unique(people)),
        "timestep": TIMESTEP,
        "layer": LAYERS[0],
        "ratio": _ratio(figures, features[LAYERS[0]], people),
        "layers": [_layer(name, z, people, permutations) for name, z in features.items()],
        "broad": _broad_label(),
        "forecast": _forecast(figures, target, photos, num_images, num_steps),
    }
    _draw_proposition(figures, features[LAYERS[0]], people)
    return numbers


def claims(n: dict[str, Any]) -> list[dict[str, str]]:
    """What the paper says, and what was found."""
    ratio, layers, forecast = n["ratio"], n["layers"], n["forecast"]
    by_person, at_random = ([layer[kind] for layer in layers] for kind in ("people", "random"))
    drawings = sum(layer["permutations"] for layer in layers)
    held, failed = (sum(layer[f"random_mean_{verdict}"] for layer in layers) for verdict in (HOLDS, FAILS))
    return [
        {
            "claim": "As ε → 0 the ratio of Eq. (6) tends to Σ(‖z_i − μ_c‖² + Tr Σ_c) / Σ(‖z_i − μ‖² + Tr Σ)",
            "source": "SIDE, Theorem 1 and Eq. (50)",
            "verdict": SUPPORTED if ratio["gap"] < 1e-3 else CONTRADICTED,
            "why": f"at ε = {ratio['eps']:.0e} the largest difference over people is {ratio['gap']:.1e}",
            "figure": "memorization_ratio.svg",
        },
        {
            "claim": "That limit is at most 1 for the people in the photos",
            "source": "SIDE, Theorem 1",
            "verdict": CONTRADICTED if ratio["above_one"] else SUPPORTED,
            "why": f"it lies between {ratio['lowest']:.2f} and {ratio['highest']:.2f}",
            "figure": "memorization_ratio.svg",
        },
        {
            "claim": "Latents of one person are less spread than all latents",
            "source": "SIDE, Proposition 1, Eq. (4)",
            "verdict": _over_layers([each["verdict"] for each in by_person]),
            "why": f"left over right side is {' and '.join(_interval(each['eq4']) for each in by_person)} on average,"
            f" by layer; of {sum(each['labels'] for each in by_person)} cases one by one"
            f" {sum(each['holds'] for each in by_person)} hold and {sum(each['fails'] for each in by_person)} fail"
            " significantly",
            "figure": "memorization_proposition.svg",
        },
        {
            "claim": "Latents with one random label are less spread than all latents",
            "source": "SIDE, Proposition 1, Eq. (4), for random labels",
            "verdict": SUPPORTED if held > drawings / 2 else CONTRADICTED if failed > drawings / 2 else OPEN,
            "why": f"the mean over labels is significantly below 1 in {held} and above 1 in {failed} of {drawings}"
            f" drawings; {sum(each['broader'] for each in at_random)} of {sum(each['labels'] for each in at_random)}"
            " random labels are broader than all photos",
            "figure": "memorization_proposition.svg",
        },
        {
            "claim": "E[N_umem] = Σ_j 1 − (1 − p_j)^N_G",
            "source": "SIDE, Appendix B, Eq. (56)",
            "verdict": SUPPORTED if forecast["worst_z"] < WORST_Z else CONTRADICTED,
            "why": "for p uniform and Zipf and N_G from 10 to 10⁶ the largest difference from simulation is"
            f" {forecast['worst_z']:.1f} standard errors, of {forecast['comparisons']} comparisons",
            "figure": "memorization_forecast.svg",
        },
    ]


def _over_layers(verdicts: list[str]) -> str:
    """One verdict for all layers, in the page's words."""
    if HOLDS in verdicts:
        return SUPPORTED if set(verdicts) == {HOLDS} else IN_PART
    return CONTRADICTED if FAILS in verdicts else OPEN


def _interval(estimate: dict[str, float]) -> str:
    return f"{estimate['value']:.2f} [{estimate['low']:.2f}, {estimate['high']:.2f}]"


def unet_features(
    target: Target, images: np.ndarray, layers: tuple[str, ...], timestep: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """The target's activations on noised photos, averaged over space.

    Args:
      target: unconditional.
      images: uint8 [N, H, W, C].
      layers: names of layers.
      timestep: t of the noise, one draw for each photo.
      seed: of the noise.

    Returns:
      name -> float32 [N, channels].

    Raises:
      ValueError: for an unknown layer.
    """
    check_layers(target, layers)
    x0, t = to_float(jnp.asarray(images)), jnp.full(len(images), timestep, jnp.int32)
    noise = jax.random.normal(jax.random.key(seed), x0.shape)
    x_t = target.schedule.process().add_noise(x0, noise, t)
    _, found = jax.jit(tap(target.denoise, layers))(x_t, t)
    return {name: np.asarray(found[name].mean((1, 2))) for name in layers}


def _ratio(figures: Path, features: np.ndarray, people: np.ndarray) -> dict[str, float]:
    """Eq. (6) against ε for every person, latents scaled to Tr Σ = 1."""
    z = principal_components(features, DIMENSIONS)
    kept = float(z.var(0).sum() / features.var(0, dtype=np.float64).sum())
    z /= np.sqrt(z.var(0, ddof=1).sum())
    everyone = fit_gaussian(z)
    figure, (axis, gap_axis) = panels(2, columns=2)
    limits, gaps, largest = [], [], []
    for person in np.unique(people):
        own = z[people == person]
        conditional = fit_gaussian(own, name=f"person {person}")
        limits.append(limit_ratio(conditional, everyone, own))
        ratios = np.array([memorization_ratio(conditional, everyone, own, eps) for eps in EPSILONS])
        gaps.append(np.abs(ratios - limits[-1]))
        largest.append(float(ratios[-1]))
        axis.semilogx(EPSILONS, ratios, color=BLUE, linewidth=0.7)
    axis.plot(np.full(len(limits), EPSILONS[0] / 2), limits, "_", color=RED, label="limit, in closed form")
    axis.axhline(1, color=GRAY, linestyle=":")
    axis.set(xlabel="ε (Tr Σ = 1)", ylabel="ratio of Eq. (6)", title="one line a person")
    axis.legend(frameon=False)
    gap_axis.loglog(EPSILONS, np.max(gaps, 0), color=BLUE, label="largest over people")
    gap_axis.loglog(EPSILONS, EPSILONS * np.log(1 / EPSILONS), color=GRAY, linestyle=":", label="ε log(1/ε)")
    gap_axis.set(xlabel="ε", ylabel="|ratio − limit|")
    gap_axis.legend(frameon=False)
    save(figure, figures / "memorization_ratio.svg")
    return {
        "dimensions": DIMENSIONS,
        "kept": kept,
        "lowest": min(limits),
        "highest": max(limits),
        "above_one": sum(limit > 1 for limit in limits),
        "gap": float(np.max(gaps, 0)[0]),
        "eps": float(EPSILONS[0]),
        "largest_eps": float(EPSILONS[-1]),
        "above_one_there": sum(ratio > 1 for ratio in largest),
    }


def _layer(name: str, z: np.ndarray, people: np.ndarray, permutations: int) -> dict[str, Any]:
    """Proposition 1 at one layer, by person and by labels put on photos at random, many times."""
    rng = np.random.default_rng(0)
    shuffled = [proposition_1(z, rng.permutation(people), seed=i) for i in range(permutations)]
    return {
        "name": name,
        "channels": z.shape[1],
        "people": _summary([proposition_1(z, people)]),
        "random": _summary(shuffled),
        "random_mean_holds": sum(measured.verdict == HOLDS for measured in shuffled),
        "random_mean_fails": sum(measured.verdict == FAILS for measured in shuffled),
        "permutations": permutations,
    }


def _summary(measured: list[Proposition1]) -> dict[str, Any]:
    """Means and verdicts of the first; shares of labels over all."""
    first, labels = measured[0], [label for each in measured for label in each.labels]
    return {
        **{name: getattr(first, name)._asdict() for name in ("eq4", "eq5", "eq31")},
        "verdict": first.verdict,
        "holds": sum(label.verdict == HOLDS for label in labels),
        "fails": sum(label.verdict == FAILS for label in labels),
        "labels": len(labels),
        "broader": sum(label.eq4.value > 1 for label in labels),
        "highest_eq31": max(label.eq31.value for label in labels),
        "limit_above_one": sum(label.limit_ratio > 1 for label in labels),
    }


def _draw_proposition(figures: Path, z: np.ndarray, people: np.ndarray) -> None:
    """Left side over right side of Eq. (4), label by label."""
    shuffled = np.random.default_rng(0).permutation(people)
    figure, axes = panels(2, columns=2)
    for axis, labels, title, colour in zip(
        axes, (people, shuffled), ("labels: persons", "labels: random"), (RED, BLUE), strict=True
    ):
        ratios = sorted(label.eq4 for label in proposition_1(z, labels).labels)
        value, low, high = np.array(ratios).T
        axis.errorbar(np.arange(len(value)), value, [value - low, high - value], fmt=".", color=colour, linewidth=0.8)
        axis.axhline(1, color=GRAY, linestyle=":")
        axis.set(yscale="log", xlabel="label, by ratio", ylabel="‖Σ_c‖ / ‖Σ‖, nuclear norms", title=title)
    limits = min(axis.get_ylim()[0] for axis in axes), max(axis.get_ylim()[1] for axis in axes)
    for axis in axes:
        axis.set_ylim(limits)
    save(figure, figures / "memorization_proposition.svg")


def _broad_label() -> dict[str, Any]:
    """A case in which it fails: four labels with one centre, one of them four times as wide."""
    labels = np.repeat(np.arange(4), 30)
    width = np.where(labels == 3, 4.0, 1.0)[:, None]
    measured = proposition_1(width * np.random.default_rng(0).normal(size=(120, 8)), labels).labels[3]
    return {"eq4": measured.eq4._asdict(), "limit_ratio": measured.limit_ratio, "verdict": measured.verdict}


def _forecast(figures: Path, target: Target, photos: ImageSet, num_images: int, num_steps: int) -> dict[str, Any]:
    """E[N_umem] against simulation, and the second half of a sweep forecast from the first."""
    figure, (axis, sweep_axis) = panels(2, columns=2)
    deviations = _simulate(axis, "uniform", BLUE) + _simulate(axis, "Zipf", ORANGE)
    axis.set(
        xscale="log", yscale="log", xlabel="N_G", ylabel="distinct photos found", title="Eq. (56), lines; simulated"
    )
    axis.legend(frameon=False)

    images = side_jax.sample(target, num_images=num_images, seed=0, num_steps=num_steps)
    embed = side_jax.load_descriptor("pixel")
    winners = side_jax.match(embed(images), embed(photos.images), k=1)
    hits = np.where(winners.scores[:, 0] >= FOUND, winners.indices[:, 0], -1)
    half = num_images // 2
    first, whole = Finds.of(hits[:half]), Finds.of(hits)
    steps = np.unique(np.linspace(0, num_images, 33).astype(int))
    before, after = steps[steps <= half], steps[steps >= half]
    forecast = [extrapolated(first, int(n)) for n in after]
    sweep_axis.plot(before, [rarefied(first, int(n)) for n in before], color=BLUE, label="first half, rarefied")
    sweep_axis.plot(after, [each.value for each in forecast], color=ORANGE, label="forecast from it, 95 %")
    sweep_axis.fill_between(
        after, [each.low for each in forecast], [each.high for each in forecast], color=ORANGE, alpha=0.25, linewidth=0
    )
    sweep_axis.plot(steps, [Finds.of(hits[:n]).distinct() for n in steps], ".", color=GRAY, label="the sweep")
    sweep_axis.set(xlabel="generated images", ylabel="distinct photos found", title="ORL target, λ = 0")
    sweep_axis.legend(frameon=False)
    save(figure, figures / "memorization_forecast.svg")
    return {
        "worst_z": max(abs(z) for z in deviations),
        "comparisons": len(deviations),
        "half": half,
        "num_images": num_images,
        "threshold": FOUND,
        "seen": first.distinct(),
        "forecast": forecast[-1]._asdict(),
        "came": whole.distinct(),
        "covered": forecast[-1].low <= whole.distinct() <= forecast[-1].high,
        "curve_covered": sum(
            each.low <= Finds.of(hits[:n]).distinct() <= each.high for n, each in zip(after, forecast, strict=True)
        ),
        "curve": len(after),
    }


def _simulate(axis: Any, kind: str, colour: str, count: int = 1_000, sweeps: int = 50) -> list[float]:
    """Draws E[N_umem] and its simulation; the differences in standard errors."""
    weights = np.ones(count) if kind == "uniform" else 1 / np.arange(1, count + 1)
    p = 0.1 * weights / weights.sum()  # one image in ten finds a photo
    rng, deviations = np.random.default_rng(0), []
    sizes = np.logspace(1, 6, 11).astype(int)
    axis.plot(sizes, [expected_umem(p, int(n)) for n in sizes], color=colour, label=f"p {kind}")
    for n in sizes:
        found = (rng.multinomial(n, [*p, 1 - p.sum()], sweeps)[:, :-1] > 0).sum(1)
        axis.plot(n, found.mean(), "o", color=colour, markersize=4)
        if found.std():  # else every sweep found all photos
            error = found.std(ddof=1) / sweeps**0.5
            deviations.append(float(found.mean() - expected_umem(p, int(n))) / float(error))
    return deviations
