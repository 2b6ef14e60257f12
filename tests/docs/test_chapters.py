"""The chapters run small, and their text is complete for what they return. `make docs` runs them whole."""

import importlib
import re
from pathlib import Path

import pytest

from docs.theory.__main__ import chapter_text
from docs.theory.verdicts import CONTRADICTED, IN_PART, OPEN, SUPPORTED
from side_jax.runtime.files import plain


def check(chapter, tmp_path, **sizes):
    """Makes a chapter and renders its text, where an undefined name is an error: numbers, text, claims."""
    module = importlib.import_module(f"docs.theory.{chapter}")
    numbers = plain(module.make(tmp_path, **sizes))
    text, claims = chapter_text(chapter, numbers), module.claims(numbers)
    drawn = {path.name for path in Path(tmp_path).glob("*.svg")}
    assert set(re.findall(r"\(figures/(\w+\.svg)\)", text)) == drawn
    assert all((tmp_path / name).stat().st_size > 5_000 for name in drawn)
    for claim in claims:
        assert claim["verdict"] in (SUPPORTED, IN_PART, CONTRADICTED, OPEN)
        assert claim["figure"] in drawn
    return numbers, text, claims


@pytest.mark.slow
@pytest.mark.optax
def test_the_relu_autoencoder(tmp_path):
    numbers, text, claims = check("relu_dae", tmp_path, image_size=8, num_steps=30, seeds=2)
    assert claims[0]["verdict"] == SUPPORTED  # exact, whatever the training
    assert numbers["simplex"]["strength"] == pytest.approx(0.96)
    for claim in claims:
        assert f"**Claim: {claim['claim']}.** {claim['verdict'].capitalize()}: {claim['why']}" in text


@pytest.mark.slow
def test_memorization(tmp_path):
    numbers, text, claims = check("memorization", tmp_path, num_images=32, num_steps=3, permutations=2)
    assert [layer["people"]["labels"] for layer in numbers["layers"]] == [40, 40, 40]
    assert [layer["random"]["labels"] for layer in numbers["layers"]] == [80, 80, 80]
    assert numbers["broad"]["verdict"] == "fails"
    for claim in claims:
        assert f"**Claim: {claim['claim']}.** {claim['verdict'].capitalize()}: {claim['why']}" in text


def test_linear_diffusion_says_which_chain_collapses(tmp_path):
    _, text, claims = check("linear_diffusion", tmp_path, steps=20, samples=100, repeats=3)
    assert "- denoise-only: collapses onto the first eigenvector." in text
    assert "- rescaled: gives N(μ, Σ)" in text
    assert "- noise-injected, posterior: gives N(μ, Σ)" in text
    assert "- DDIM: does not collapse; its variances are" in text  # 20 steps are too few for N(μ, Σ)
    assert "| 50 | 0.6110 | 0.8440 | 0.9281 | 0.9412 |" in text
    assert [claim["verdict"] for claim in claims[:3]] == [SUPPORTED, CONTRADICTED, SUPPORTED]


@pytest.mark.slow
def test_linearisation_states_its_residuals_and_intervals(tmp_path):
    sizes = {"trajectories": 1, "levels": (200, 600), "photos": 3, "probes": 2, "distances": 20}
    numbers, text, _ = check("linearisation", tmp_path, **sizes)
    assert numbers["spectra"]["residual"] <= 1e-3
    assert "below the bound of 1e-3" in text


@pytest.mark.slow
def test_detection_compares_targets_of_few_and_many_photos(tmp_path):
    controls = {"again": "assets/orl_target"}
    sizes = {"num_images": 160, "num_steps": 10, "timesteps": (10,), "num_noises": 1}
    numbers, text, claims = check("detection", tmp_path, controls=controls, **sizes)
    first, second = numbers["controls"]
    assert first["l4_l2"] == second["l4_l2"]
    assert "200 photos" in text and "again" in text
    assert claims[-1]["figure"] == "detection_controls.svg"


@pytest.mark.slow
def test_steering_measures_every_weight_and_none(tmp_path):
    numbers, text, claims = check("steering", tmp_path, num_images=40, num_steps=10, weights=(-2.0, 2.0))
    assert [row["weight"] for row in numbers["rows"]] == [-2, 0, 2]
    assert numbers["rows"][1]["kid"]["change"]["p"] == 1
    assert all(claim["why"] in text for claim in claims)
