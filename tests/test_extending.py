"""Every example of docs/extending.md, as it stands there."""

import re
import types
from pathlib import Path

import jax
import numpy as np
import pytest
from etils import epath

import side_jax
from configs import smoke
from side_jax.audit import pipeline, status
from side_jax.audit.cost.dry_run import dry_run
from side_jax.audit.stages import STAGES
from side_jax.diffusion.prediction import from_x0
from side_jax.diffusion.sample import trajectory
from side_jax.diffusion.schedule import Schedule
from side_jax.diffusion.solvers import SOLVERS, Solver
from side_jax.diffusion.solvers.ddim import DDIM
from side_jax.matching.descriptors import DESCRIPTORS
from side_jax.report.sections import SECTIONS
from side_jax.runtime.files import read_json
from side_jax.targets import families
from side_jax.targets.target import abstract_target

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
EXAMPLES = dict(re.findall(r"```python (\w+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))


def example(name):
    """The file that the page shows, as a module."""
    module = types.ModuleType(name)
    exec(compile(EXAMPLES[name], f"{PAGE}: {name}", "exec"), module.__dict__)
    return module


@pytest.fixture
def extended(monkeypatch):
    """All examples in their registries."""
    solver = example("solver").DPMSolverPlusPlus2M
    monkeypatch.setitem(SOLVERS, "dpmpp_2m", lambda eta: solver())
    monkeypatch.setitem(DESCRIPTORS, "thumbnail", example("descriptor").THUMBNAIL)
    monkeypatch.setattr(families, "FAMILIES", {"npz": example("family")} | families.FAMILIES)
    at = next(place for place, stage in enumerate(STAGES) if stage.name == "detect")
    STAGES.insert(at, example("stage").BrightnessStage())
    SECTIONS.append(example("section").SECTION)
    yield
    del STAGES[at], SECTIONS[-1]


def write_model(path):
    """A model of the example's family, of random weights."""
    net = example("family").TwoConvolutions(16)
    rng = np.random.default_rng(0)
    params = abstract_target(net, Schedule()).params
    arrays = {
        f"{layer}.{leaf}": rng.normal(0, 0.1, value.shape) for layer in params for leaf, value in params[layer].items()
    }
    np.savez(path, size=16, **{name: array.astype(np.float32) for name, array in arrays.items()})


@pytest.mark.optax
def test_an_audit_with_a_solver_a_descriptor_a_family_and_a_stage_of_its_own(extended, tmp_path):
    write_model(tmp_path / "model.npz")
    config = smoke.get_config()
    config.target.update({"source": "load", "path": str(tmp_path / "model.npz")})
    config.dataset.heldout_fraction = 0.0
    config.sampler.solver, config.extract.descriptor = "dpmpp_2m", "thumbnail"
    config.labels.source, config.classifier.guide = "random", "exact"
    config.detect.num_images, config.steer.weights = 0, ()
    assert "thumbnail descriptor" in dry_run(config)
    workdir = side_jax.run(config, tmp_path / "run")
    assert read_json(workdir / "metrics.json")["descriptor"]["name"] == "thumbnail"
    levels = read_json(workdir / "brightness" / "manifest.json")["facts"]["brightness"]
    page = (workdir / "report.html").read_text()
    assert all(f"<td>{scale}</td><td>{level:.1f}</td>" in page for scale, level in levels.items())
    assert set(levels) == {"0", "2"} and all(0 < level < 255 for level in levels.values())
    assert re.search(r"^brightness +complete", status.describe(workdir), re.MULTILINE)
    assert all(step.complete for step in pipeline.plan(pipeline.prepare(config, workdir)))
    net = side_jax.load_target(tmp_path / "model.npz").net
    assert net == families.family_of(epath.Path("a.npz")).read_architecture(epath.Path(tmp_path / "model.npz"))


def test_solver_of_the_page_is_of_second_order_where_ddim_is_of_first():
    """Data of one Gaussian, whose x̂₀ and trajectory are known: twice the steps, a quarter of the error."""
    process, deviation = Schedule().process(), 0.5
    x_t = jax.random.normal(jax.random.key(0), (4, 2, 2, 1))

    def denoise(x_t, t):
        alpha, sigma = process.at(t)
        variance = alpha**2 * deviation**2 + sigma**2
        return from_x0(deviation**2 * alpha / variance * x_t, x_t, alpha, sigma)

    def error(solver, num_steps):
        steps = Schedule().steps(num_steps)
        alpha, sigma = process.at(steps.t.t[:1])
        exact = deviation / np.sqrt(alpha**2 * deviation**2 + sigma**2) * x_t
        return float(abs(trajectory(denoise, solver, x_t, steps)[-1] - exact).max())

    solver = example("solver").DPMSolverPlusPlus2M()
    assert isinstance(solver, Solver)
    assert error(solver, 200) < 0.3 * error(solver, 100)
    assert error(DDIM(), 200) > 0.4 * error(DDIM(), 100)
