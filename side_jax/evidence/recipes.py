"""Which recipe made the pixels that a target was trained on: the one on whose pixels it denoises best.

A smoother photo is easier to denoise, whatever the training. So the loss of ε̂ counts relative to that of a Wiener
filter made for the same pixels, which takes out how smooth they are.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from side_jax.evidence.intervals import LEVEL, mean
from side_jax.runtime.files import Json

OWN = "as configured"


def wiener_loss(images: Float[np.ndarray, "n h w c"], alpha: float, sigma: float) -> float:
    """Mean squared error of ε̂ by the best linear, shift-invariant denoiser of α x₀ + σ ε for images like these.

    Of power S at a frequency it leaves α²S / (α²S + σ²) of the noise unknown, the mean over frequencies.
    """
    spectra = np.fft.fft2(images - images.mean(0), axes=(1, 2), norm="ortho")
    signal = alpha**2 * np.square(np.abs(spectra)).mean(0)
    return float((signal / (signal + sigma**2)).mean())


def compare_recipes(losses: Mapping[str, Float[np.ndarray, " n"]], differing: Mapping[str, int]) -> Json:
    """The same photos under several recipes, with the same noise: pair by pair against the config's own.

    Args:
      losses: recipe -> loss of ε̂ per photo, relative to `wiener_loss`; `OWN` among them.
      differing: recipe -> number of photos whose pixels are not those of `OWN`.

    Returns:
      {"recipes": rows, the lowest loss first, "lowest": the recipe that is recommended, or None if the config's own has
      the lowest loss, or that of the lowest is not lower beyond its interval, or not below 1: a network that denoises
      worse than a Wiener filter does not tell what it was trained on}. The intervals of the differences hold all
      together with 95 %: the lowest of several is not judged as if it were the only one.
    """
    rows: list[Json] = []
    level = 1 - (1 - LEVEL) / max(1, len(losses) - 1)  # of each, with which all hold together (Bonferroni)
    for recipe, values in losses.items():
        difference = None if recipe == OWN else mean(values - losses[OWN], level)._asdict()
        row = {"recipe": recipe, "photos": differing[recipe], "loss": mean(values)._asdict(), "difference": difference}
        rows.append(row)
    rows.sort(key=lambda row: row["loss"]["value"])
    first = rows[0]
    lower = first["difference"] is not None and first["difference"]["high"] < 0 and first["loss"]["high"] < 1
    return {"recipes": rows, "lowest": first["recipe"] if lower else None}


def advice(measured: Json) -> str | None:
    """What to change, in a sentence; None if no other recipe is recommended."""
    recipe = measured["lowest"]
    if recipe is None:
        return None
    own, other = (next(row for row in measured["recipes"] if row["recipe"] == name) for name in (OWN, recipe))
    return (
        f"The target denoises the training photos better with {recipe}: its loss is {other['loss']['value']:.3g} of a"
        f" Wiener filter's, and {own['loss']['value']:.3g} {OWN} (difference {_text(other['difference'])}). It was"
        " probably trained so; photos prepared otherwise hide copies. Audit it with that."
    )


def _text(estimate: Json) -> str:
    return f"{estimate['value']:.2g} [{estimate['low']:.2g}, {estimate['high']:.2g}]"
