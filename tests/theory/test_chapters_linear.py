"""The chapters on linear diffusion, made small: numbers, figures and text."""

import json

import jinja2
import pytest

from docs.theory import linear_diffusion, linearisation


def render(name, numbers):
    loader = jinja2.FileSystemLoader("docs/theory")
    environment = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, autoescape=False)
    return environment.get_template(f"{name}.md.j2").render(n=json.loads(json.dumps(numbers)))


def test_the_chapter_on_linear_diffusion_says_which_chain_collapses(tmp_path):
    numbers = linear_diffusion.make(tmp_path, steps=20, samples=100, repeats=3)
    text = render("linear_diffusion", numbers)
    assert "- denoise-only: collapses onto the first eigenvector." in text
    assert "- rescaled: gives N(μ, Σ)" in text
    assert "- noise-injected, posterior: gives N(μ, Σ)" in text
    assert "- DDIM: does not collapse; its variances are" in text  # 20 steps are too few for N(μ, Σ)
    assert "| 50 | 0.6110 | 0.8440 | 0.9281 | 0.9412 |" in text
    for figure in ("chains", "ddim", "spiked", "draws"):
        assert f"figures/linear_diffusion_{figure}.svg" in text
        assert (tmp_path / f"linear_diffusion_{figure}.svg").stat().st_size > 5_000


@pytest.mark.slow
def test_the_chapter_on_linearisation_states_its_residuals_and_intervals(tmp_path):
    sizes = {"trajectories": 1, "levels": (200, 600), "photos": 3, "probes": 2, "distances": 20}
    numbers = linearisation.make(tmp_path, **sizes)
    text = render("linearisation", numbers)
    assert numbers["spectra"]["residual"] <= 1e-3
    assert "within the thousandth asked for" in text
    for figure in ("spectra", "moments", "wiener"):
        assert f"figures/linearisation_{figure}.svg" in text
        assert (tmp_path / f"linearisation_{figure}.svg").stat().st_size > 5_000
