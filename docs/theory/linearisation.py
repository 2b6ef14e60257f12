"""Chapter: a trained denoiser as a linear map around an image, and how far it is from linear. About 4 minutes."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import side_jax
from configs import orl
from docs.theory.plotting import BLUE, GRAY, RED, panels, save
from docs.theory.verdicts import CONTRADICTED, IN_PART, OPEN, SUPPORTED, interval
from side_jax.audit.dataset import load_split
from side_jax.audit.options import AuditOptions
from side_jax.diffusion.sample import to_float, trajectory
from side_jax.diffusion.solvers.ddim import DDIM
from side_jax.diffusion.transforms import CLIP_ORDERS, fold
from side_jax.evidence.intervals import mean
from side_jax.targets.target import Target
from side_jax.theory.linear_diffusion import Wiener, denoise, fit_wiener, wiener_distance
from side_jax.theory.linearisation import Linearisation, subspace_angles

_SPANS = (1, 2, 4, 8)
_LEVELS = (25, 50, 100, 200, 400, 600, 800, 950)


def make(
    figures: Path,
    trajectories: int = 3,
    levels: tuple[int, ...] = (20, 60, 100, 200, 400, 600, 800),
    photos: int = 12,
    probes: int = 12,
    distances: int = 200,
) -> dict[str, Any]:
    """Draws the chapter's figures into `figures`, and returns its numbers.

    Args:
      figures: folder.
      trajectories: generated images whose Jacobians are looked at.
      levels: timesteps of 50-step DDIM at which they are, cleanest first; angles are against the first.
      photos: training photos, and as many held-out photos, for participation ratio and asymmetry.
      probes: random directions for each of them.
      distances: photos of each kind for the distance from the Wiener denoiser.
    """
    target = side_jax.load_target("assets/orl_target")
    split = load_split(AuditOptions.from_config(orl.get_config()).dataset)
    sets = {"training": split.train.images, "held-out": split.heldout.images}
    linearisation = Linearisation(target.denoise, target.schedule.num_train_timesteps)
    return {
        "spectra": _spectra(figures, target, linearisation, trajectories, levels),
        "moments": _moments(figures, target, linearisation, {k: v[:photos] for k, v in sets.items()}, probes),
        "wiener": _wiener(figures, target, fit_wiener(split.train.images), {k: v[:distances] for k, v in sets.items()}),
    }


def claims(n: dict[str, Any]) -> list[dict[str, str]]:
    """What is said of the network's Jacobian, by the numbers."""
    near, far = n["spectra"]["near"], n["spectra"]["far"]
    first, second = n["moments"][:2]
    lower = [row["t"] for row in n["moments"] if _apart(row["training"], row["held-out"])]
    asymmetry = max(row["training"]["asymmetry"]["value"] for row in n["moments"])
    nearer = n["wiener"]["nearer"]
    return [
        {
            "claim": "Along a trajectory leading eigenvectors of the Jacobian turn less than the span of more of them",
            "source": "seed 004, section 5",
            "verdict": SUPPORTED
            if near["ordered"] == near["compared"] and far["ordered"] == far["compared"]
            else IN_PART
            if 2 * near["ordered"] > near["compared"]
            else CONTRADICTED,
            "why": f"in {near['ordered']} of {near['compared']} cases with σ < 1, and {far['ordered']} of"
            f" {far['compared']} with σ ≥ 1",
            "figure": "linearisation_spectra.svg",
        },
        {
            "claim": "The network's Jacobian is a covariance, and so symmetric",
            "source": "Tweedie, of the exact denoiser",
            "verdict": CONTRADICTED if asymmetry > 0.3 else SUPPORTED,
            "why": f"for this network ‖J − Jᵀ‖/‖J‖ reaches {asymmetry:.2f} at training photos",
            "figure": "linearisation_moments.svg",
        },
        {
            "claim": "At a training photo the denoiser has fewer directions left than at a new one",
            "source": "of a network that memorizes",
            "verdict": SUPPORTED if first["t"] in lower and second["t"] in lower else IN_PART if lower else OPEN,
            "why": f"participation ratio at t = {first['t']}: {interval(first['training']['participation'], 0)} against"
            f" {interval(first['held-out']['participation'], 0)}; apart at t = {_listed(lower)}",
            "figure": "linearisation_moments.svg",
        },
        {
            "claim": "At training photos the denoiser is further from the linear one of its training set",
            "source": "our covariate",
            "verdict": SUPPORTED if n["wiener"]["further"] else CONTRADICTED if nearer else OPEN,
            "why": f"further at t = {_listed(n['wiener']['further'])}, nearer at t = {_listed(nearer)}",
            "figure": "linearisation_wiener.svg",
        },
    ]


def _apart(training: dict[str, Any], heldout: dict[str, Any]) -> bool:
    return bool(training["participation"]["high"] < heldout["participation"]["low"])


def _listed(levels: list[int]) -> str:
    return ", ".join(map(str, levels)) or "none"


def _noise_to_signal(target: Target, t: Any) -> np.ndarray:
    """σ = √((1−ᾱ)/ᾱ): the noise in x_t beside an image of full size."""
    a = target.schedule.alpha_bar().astype(np.float64)[np.asarray(t)]
    return np.sqrt((1 - a) / a)


def _spectra(
    figures: Path, target: Target, linearisation: Linearisation, count: int, levels: tuple[int, ...]
) -> dict[str, Any]:
    steps, process = target.schedule.steps(50), target.schedule.process()
    noise = jax.random.normal(jax.random.key(0), (count, *target.image_shape))
    clipped = fold(target.denoise, CLIP_ORDERS[0], target.clip_x0, process, lambda denoise: denoise)
    path = jax.jit(lambda noise, steps: trajectory(clipped, DDIM(), noise, steps))(noise, steps)
    found, block = [], None
    for t in levels:  # the span at one level is a good start for the next
        x_t = path[int(np.flatnonzero(steps.t.t == t)[0])]
        found.append(linearisation.eigenpairs(x_t, t, k=max(_SPANS), start=block))
        block = found[-1].block
    values = np.stack([np.abs(pairs.values) for pairs in found])  # [levels, images, 8]
    angles = np.array(
        [
            [
                [np.degrees(subspace_angles(here.vectors[i, :, :k], found[0].vectors[i, :, :k])[0]) for k in _SPANS]
                for i in range(count)
            ]
            for here in found
        ]
    )
    sigma = _noise_to_signal(target, levels)
    figure, (first, second) = panels(2, width=5.2, height=3.8)
    for i in range(values.shape[-1]):
        first.loglog(
            sigma, values[..., i].mean(1), "o-", markersize=3, color=BLUE, alpha=1 - 0.1 * i, label=f"λ{i + 1}"
        )
    for i, k in enumerate(_SPANS):
        second.semilogx(
            sigma, angles[..., i].mean(1), "o-", markersize=3, alpha=1 - 0.2 * i, color=RED, label=f"k = {k}"
        )
    first.set(xlabel="noise level σ = √((1−ᾱ)/ᾱ) (log)", ylabel="|eigenvalue| of J")
    second.set(xlabel="noise level σ (log)", ylabel="largest angle to the span at the end (°)")
    first.legend(fontsize=7, ncols=2)
    second.legend(fontsize=8)
    save(figure, figures / "linearisation_spectra.svg")
    residuals = np.stack([pairs.residuals for pairs in found])
    gaps = 1 - values[:, :, 1:] / values[:, :, :-1]
    rows = [
        {
            "t": t,
            "sigma": float(sigma[i]),
            "iterations": found[i].iterations,
            "values": values[i].mean(0).tolist(),
            "residuals": residuals[i].max(0).tolist(),
            "imaginary": float(np.abs(found[i].values.imag / values[i]).max()),
            "angles": angles[i].mean(0).tolist(),
            "gap": float(np.median(gaps[i])),
        }
        for i, t in enumerate(levels)
    ]
    # What the paper claims: the first eigenvector has turned less than the span of all. [levels − 1, images]
    ordered, near = angles[1:, :, 0] < angles[1:, :, -1], sigma[1:] < 1
    return {
        "images": count,
        "spans": list(_SPANS),
        "rows": rows,
        "residual": float(residuals.max()),
        "near": {"ordered": int(ordered[near].sum()), "compared": int(ordered[near].size)},
        "far": {"ordered": int(ordered[~near].sum()), "compared": int(ordered[~near].size)},
    }


def _noisy(images: np.ndarray, target: Target, t: int) -> jax.Array:
    x0 = to_float(jnp.asarray(images))
    noise = jax.random.normal(jax.random.key(t), x0.shape)  # the same for training and held-out photos
    return target.schedule.process().add_noise(x0, noise, jnp.full(len(x0), t))


def _moments(
    figures: Path, target: Target, linearisation: Linearisation, sets: dict[str, np.ndarray], probes: int
) -> list[dict[str, Any]]:
    figure, axes = panels(2, width=4.6, height=3.4)
    rows: list[dict[str, Any]] = [{"t": t} for t in _LEVELS]
    for (name, images), color in zip(sets.items(), (RED, BLUE), strict=True):
        for row in rows:
            found = linearisation.moments(_noisy(images, target, row["t"]), row["t"], probes)
            row[name] = {
                "participation": mean(found.symmetric_participation)._asdict(),
                "asymmetry": mean(found.asymmetry)._asdict(),
            }
        for axis, quantity in zip(axes, ("participation", "asymmetry"), strict=True):
            _band(axis, _noise_to_signal(target, _LEVELS), [row[name][quantity] for row in rows], color, name)
    axes[0].set(xlabel="noise level σ (log)", ylabel="participation ratio", yscale="log")
    axes[1].set(xlabel="noise level σ (log)", ylabel="‖J − Jᵀ‖ / ‖J‖")
    axes[0].legend(fontsize=8)
    save(figure, figures / "linearisation_moments.svg")
    return rows


def _band(axis: Any, x: np.ndarray, estimates: list[dict[str, float]], color: str, label: str) -> None:
    low, value, high = ([e[name] for e in estimates] for name in ("low", "value", "high"))
    axis.plot(x, value, "o-", markersize=3, color=color, label=label)
    axis.fill_between(x, low, high, color=color, alpha=0.2)
    axis.set_xscale("log")


def _wiener(figures: Path, target: Target, wiener: Wiener, sets: dict[str, np.ndarray]) -> dict[str, Any]:
    process = target.schedule.process()
    alpha_bar = jnp.asarray(process.alpha_bar)

    @jax.jit
    def measure(x0: jax.Array, x_t: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        own = jnp.sqrt(jnp.square(denoise(wiener, x_t, alpha_bar[t]) - x0).mean((1, 2, 3)))
        return wiener_distance(target.denoise, wiener, x_t, t, process), own

    figure, (axis, ratio) = panels(2, width=4.6, height=3.4)
    rows: list[dict[str, Any]] = [{"t": t} for t in _LEVELS]
    values: dict[tuple[str, int], np.ndarray] = {}
    for (name, images), color in zip(sets.items(), (RED, BLUE), strict=True):
        for row in rows:
            t = row["t"]
            x_t, times = _noisy(images, target, t), jnp.full(len(images), t, jnp.int32)
            distance, own = (np.asarray(v, np.float64) for v in measure(to_float(jnp.asarray(images)), x_t, times))
            values[name, t] = distance
            row[name] = {"distance": mean(distance)._asdict(), "relative": mean(distance / own)._asdict()}
        sigma = _noise_to_signal(target, _LEVELS)
        _band(axis, sigma, [row[name]["distance"] for row in rows], color, name)
        _band(ratio, sigma, [row[name]["relative"] for row in rows], color, name)
    axis.axhline(0, color=GRAY, linewidth=0.6)
    axis.set(xlabel="noise level σ (log)", ylabel="distance from the Wiener denoiser")
    ratio.set(xlabel="noise level σ (log)", ylabel="distance / error of the Wiener denoiser")
    axis.legend(fontsize=8)
    save(figure, figures / "linearisation_wiener.svg")
    train, heldout = sets
    for row in rows:
        a, b = values[train, row["t"]], values[heldout, row["t"]]
        difference, spread = a.mean() - b.mean(), 1.96 * np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
        row["difference"] = {"value": difference, "low": difference - spread, "high": difference + spread}
    further = [row["t"] for row in rows if row["difference"]["low"] > 0]
    nearer = [row["t"] for row in rows if row["difference"]["high"] < 0]
    return {"rows": rows, "photos": len(sets[train]), "further": further, "nearer": nearer}
