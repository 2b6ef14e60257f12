"""Chapter: linear diffusion, power iteration, and what the standard sampler does instead. About a minute."""

from pathlib import Path
from typing import Any

import numpy as np

from configs import orl
from docs.theory.plotting import BLUE, GRAY, GREEN, ORANGE, RED, panels, save
from docs.theory.verdicts import CONTRADICTED, IN_PART, OPEN, SUPPORTED, interval
from side_jax.audit.dataset import load_split
from side_jax.audit.options import AuditOptions
from side_jax.diffusion.schedule import Schedule
from side_jax.evidence.intervals import mean
from side_jax.theory import linear_chains as chains
from side_jax.theory import spiked
from side_jax.theory.linear_diffusion import fit_wiener

_GAMMA = 0.5
_SPIKES = (0.5, 1.0, 2.0, 5.0, 20.0)
COLLAPSED = 0.99  # of the energy in one direction
CLOSE = 0.05  # p and n are finite, the formula is not


def make(figures: Path, steps: int = 50, samples: int = 800, repeats: int = 20) -> dict[str, Any]:
    """Draws the chapter's figures into `figures`, and returns its numbers.

    Args:
      figures: folder.
      steps: of every chain of the first figure.
      samples: n of the spiked covariance; p = n/2.
      repeats: simulations at each spike.
    """
    photos = load_split(AuditOptions.from_config(orl.get_config()).dataset).train.images
    variances = np.asarray(fit_wiener(photos).variances, np.float64)
    return {
        "photos": len(photos),
        "modes": len(variances),
        "chains": _chains(figures, variances, steps),
        "ddim": _ddim(figures, variances),
        "spiked": _spiked(figures, samples, repeats),
        "draws": _draws(figures, samples, repeats),
    }


def claims(n: dict[str, Any]) -> list[dict[str, str]]:
    """The paper's statements and its reviewers', by the numbers."""
    rows = {row["name"]: row for row in n["chains"]["rows"]}
    collapsed, ddim, last = rows["denoise-only"], rows["DDIM"], n["ddim"]["rows"][-1]
    worst = max(abs(row["value"] - row["theory"]) for row in n["spiked"]["rows"])
    draws = n["draws"]
    return [
        {
            "claim": "Repeated linear denoising ends at the first eigenvector of the data",
            "source": "seed 004, for the chain without rescaling",
            "verdict": SUPPORTED if collapsed["share"] > COLLAPSED else CONTRADICTED,
            "why": f"its share of energy is {collapsed['share']:.4f}, in the data {n['chains']['target_share']:.3f}",
            "figure": "linear_diffusion_chains.svg",
        },
        {
            "claim": "So do samples of a linear diffusion model",
            "source": "seed 004, read as a statement on DDIM",
            "verdict": SUPPORTED if ddim["share"] > COLLAPSED else CONTRADICTED,
            "why": f"with {n['chains']['steps']} DDIM steps the first eigenvector has {ddim['share']:.3f} of energy,"
            f" in the data {n['chains']['target_share']:.3f}",
            "figure": "linear_diffusion_chains.svg",
        },
        {
            "claim": "DDIM with the optimal linear denoiser gives N(μ, Σ) as steps grow",
            "source": "seed 004, a reviewer",
            "verdict": SUPPORTED if min(last["ratios"]) > 0.95 else IN_PART,
            "why": f"with {last['steps']} steps output variance over its limit is {min(last['ratios']):.4f} or more",
            "figure": "linear_diffusion_ddim.svg",
        },
        {
            "claim": "A sample's first eigenvector has cos² = (1 − γ/ℓ²)/(1 + γ/ℓ) with the population's",
            "source": "spiked covariance, used by seed 004",
            "verdict": SUPPORTED if worst < CLOSE else CONTRADICTED,
            "why": f"simulated, p = {n['spiked']['p']}: {worst:.3f} off at most",
            "figure": "linear_diffusion_spiked.svg",
        },
        {
            "claim": "With one draw of noise per sample, denoisers at different levels make the same mistake",
            "source": "seed 004, its assumption",
            "verdict": IN_PART if draws["one"]["low"] > draws["fresh"]["high"] else OPEN,
            "why": f"cos² between levels is {interval(draws['one'], 3)} with one draw,"
            f" {interval(draws['fresh'], 3)} with fresh noise",
            "figure": "linear_diffusion_draws.svg",
        },
    ]


def _path(steps: int) -> np.ndarray:
    """ᾱ at linspace(999, 0, S), then 1."""
    alpha_bar = Schedule().alpha_bar().astype(np.float64)
    return np.append(alpha_bar[np.linspace(999, 0, steps).round().astype(int)], 1.0)


def _chains(figures: Path, lam: np.ndarray, steps: int) -> dict[str, Any]:
    a = _path(steps)
    sigma = np.sqrt((1 - a[:-1]) / a[:-1])  # of x_t / √ᾱ: the same noise levels without the factor √ᾱ
    white = np.full(len(lam), sigma[0] ** 2)
    run = {
        "denoise-only": chains.energies(chains.denoise_only(lam, sigma), white),
        "rescaled": chains.energies(chains.rescaled(lam, sigma), white),
        "noise-injected, posterior": chains.energies(chains.noise_injected(lam, sigma), white),
        "noise-injected, white": chains.energies(chains.noise_injected(lam, sigma, posterior=False), white),
        "DDIM": chains.energies(chains.ddim(lam, a), np.ones(len(lam))),
    }
    looks = dict(zip(run, ((RED, "-"), (BLUE, "-"), (GREEN, "--"), (ORANGE, "-"), (GRAY, ":")), strict=True))
    figure, (first, last) = panels(2, width=5.2, height=3.8)
    for name, energy in run.items():
        color, style = looks[name]
        first.plot(chains.shares(energy)[:, 0], style, color=color, label=name)
        last.semilogx(np.arange(1, len(lam) + 1), energy[-1] / lam, style, color=color)
    first.axhline(lam[0] / lam.sum(), color="k", linewidth=0.6, label="the photos")
    last.axhline(1, color="k", linewidth=0.6)
    first.set(xlabel="step", ylabel="share of energy on the first eigenvector")
    last.set(xlabel="eigenvector", ylabel="output variance / λ", ylim=(-0.02, 1.1))
    first.legend(fontsize=8)
    save(figure, figures / "linear_diffusion_chains.svg")
    # Over modes that matter: those that together hold 99 % of the photos' variance.
    main = np.cumsum(lam) / lam.sum() <= 0.99
    return {
        "steps": steps,
        "target_share": float(lam[0] / lam.sum()),
        "main_modes": int(main.sum()),
        "rows": [
            {
                "name": name,
                "share": float(chains.shares(energy[-1])[0]),
                "low": float((energy[-1] / lam)[main].min()),
                "high": float((energy[-1] / lam)[main].max()),
            }
            for name, energy in run.items()
        ],
    }


def _ddim(figures: Path, variances: np.ndarray) -> dict[str, Any]:
    lam, counts = np.geomspace(1e-3, 1e3, 121), (10, 20, 50, 250, 1000)
    figure, (axis,) = panels(1, width=5.6, height=3.8)
    for shade, count in zip(np.linspace(0.25, 1, len(counts)), counts, strict=True):
        ratio = chains.ddim_variance_ratio(lam, _path(count))
        axis.semilogx(lam, ratio, color=BLUE, alpha=shade, label=f"{count} steps")
    axis.axvspan(variances.min(), variances.max(), color=GRAY, alpha=0.15, label="the photos' eigenvalues")
    axis.axhline(1, color="k", linewidth=0.6)
    axis.set(xlabel="eigenvalue λ of the data", ylabel="output variance / limit", ylim=(0, 1.05))
    axis.legend(fontsize=8)
    save(figure, figures / "linear_diffusion_ddim.svg")
    table = np.array([0.01, 0.1, 1, 10])
    return {
        "lambdas": table.tolist(),
        "rows": [{"steps": c, "ratios": chains.ddim_variance_ratio(table, _path(c)).tolist()} for c in counts],
    }


def _spiked(figures: Path, samples: int, repeats: int) -> dict[str, Any]:
    rows = []
    for spike in _SPIKES:
        found = mean(spiked.simulate(samples // 2, samples, spike, repeats, seed=0))
        rows.append({"spike": spike, "theory": spiked.cosine_squared(_GAMMA, spike), **found._asdict()})
    figure, (axis,) = panels(1, width=5.2, height=3.6)
    grid = np.geomspace(0.3, 30, 200)
    axis.semilogx(grid, [spiked.cosine_squared(_GAMMA, spike) for spike in grid], color=BLUE, label="n → ∞")
    values = np.array([row["value"] for row in rows])
    bars = np.array([[row["value"] - row["low"], row["high"] - row["value"]] for row in rows]).T
    axis.errorbar(_SPIKES, values, bars, fmt="o", color=RED, label=f"p = {samples // 2}, n = {samples}")
    axis.axvline(np.sqrt(_GAMMA), color=GRAY, linestyle=":", label="ℓ = √γ")
    axis.set(xlabel="spike over noise ℓ", ylabel="cos² of sample and population eigenvector")
    axis.legend(fontsize=8)
    save(figure, figures / "linear_diffusion_spiked.svg")
    return {"p": samples // 2, "n": samples, "repeats": repeats, "rows": rows}


def _draws(figures: Path, samples: int, repeats: int) -> dict[str, Any]:
    """cos² between the direction found at each level and the one found at the lowest, by kind of noise."""
    sigmas, spike = np.geomspace(0.5, 2.5, 9), 4.0
    figure, (axis,) = panels(1, width=5.2, height=3.6)
    answer: dict[str, Any] = {"spike": spike, "low": float(sigmas[0]), "high": float(sigmas[5])}
    for name, fresh, color in (("one draw", False, RED), ("fresh noise", True, BLUE)):
        found = np.stack(
            [spiked.estimated_directions(samples // 2, samples, spike, sigmas, fresh, seed) for seed in range(repeats)]
        )
        between = np.square((found * found[:, :1]).sum(-1))  # [repeats, levels]
        estimates = [mean(column) for column in between.T]
        axis.semilogx(sigmas, [e.value for e in estimates], "o-", markersize=3, color=color, label=f"{name}: levels")
        axis.semilogx(sigmas, (found[..., 0] ** 2).mean(0), "--", color=color, label=f"{name}: with the population")
        answer["one" if not fresh else "fresh"] = estimates[5]._asdict()
    cos2 = [spiked.cosine_squared(_GAMMA, spike / sigma**2) for sigma in sigmas]
    angle = np.arccos(np.sqrt(cos2))
    answer["one_theory"], answer["fresh_theory"] = float(np.cos(angle[5] - angle[0]) ** 2), cos2[5] * cos2[0]
    axis.set(xlabel="noise level σ (log)", ylabel="cos²")
    axis.legend(fontsize=7)
    save(figure, figures / "linear_diffusion_draws.svg")
    return answer
