import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from side_jax import load_target
from side_jax.diffusion.ddim import ddim_step
from side_jax.interop.diffusers import WEIGHTS, save_target, torch_name, unet_shapes
from side_jax.interop.state_dict import to_torch
from side_jax.models.unet import UNet
from tests.golden.diffusers_models import NUM_STEPS, SCHEDULES, STEP_COUNTS, UNETS
from tests.golden.weights import make_weights

GOLDEN = Path(__file__).parents[1] / "golden"
MODELS = ["plain", "options", "padding"]


def make_directory(root, unet="small", schedule=None, bare=False):
    """A directory of a golden config (diffusers' own file) and the weights that its golden values were made with."""
    folder = root if bare else root / "unet"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(GOLDEN / "unets" / unet / "config.json", folder)
    shapes = unet_shapes(UNet(**UNETS[unet]))
    named = {torch_name(path): to_torch(path, np.zeros(shape, np.float32)).shape for path, shape in shapes.items()}
    save_file(make_weights(named), folder / WEIGHTS)
    if schedule is not None:
        folder = root if bare else root / "scheduler"
        folder.mkdir(exist_ok=True)
        shutil.copy(GOLDEN / "schedules" / schedule / "scheduler_config.json", folder)
    return root


def trajectory(target, x_t, num_steps):
    @jax.jit
    def step(x_t, t, a_t, a_prev):
        return ddim_step(x_t, target.eps(x_t, jax.numpy.full(2, t)), a_t, a_prev, clip_x0=target.clip_x0)

    states = []
    for now in zip(*target.schedule.ddim_steps(num_steps), strict=True):
        x_t = step(x_t, *now)
        states.append(x_t)
    return states


@pytest.mark.parametrize("name", MODELS)
def test_outputs_equal_diffusers(name):
    target = load_target(GOLDEN / name)
    golden = np.load(GOLDEN / name / "golden.npz")
    eps = jax.jit(target.eps)(golden["x"], golden["t"].astype(np.int32))
    assert float(np.abs(eps - golden["eps"]).max()) <= 1e-4


@pytest.mark.parametrize("name", MODELS)
def test_ddim_trajectory_equals_diffusers_scheduler(name):
    target = load_target(GOLDEN / name)
    golden = np.load(GOLDEN / name / "golden.npz")
    np.testing.assert_array_equal(target.schedule.ddim_timesteps(10), golden["steps"])
    for x_t, expected in zip(trajectory(target, golden["x"], 10), golden["trajectory"], strict=True):
        assert float(np.abs(x_t - expected).max()) <= 1e-3


@pytest.mark.parametrize("name", UNETS)
def test_public_architectures_give_the_outputs_of_diffusers(name, tmp_path):
    target = load_target(make_directory(tmp_path, name))
    golden = np.load(GOLDEN / "unets" / name / "golden.npz")
    classes = golden["classes"].astype(np.int32) if "classes" in golden else None
    eps = jax.jit(target.eps)(golden["x"], golden["t"].astype(np.int32), classes)
    assert float(np.abs(eps - golden["output"][..., : eps.shape[-1]]).max()) <= 1e-4


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_timesteps_and_trajectory_equal_diffusers(name, tmp_path):
    target = load_target(make_directory(tmp_path, "small", name))
    golden = np.load(GOLDEN / "schedules" / name / "golden.npz")
    assert float(np.abs(target.schedule.alpha_bar() - golden["alpha_bar"]).max()) <= 1e-5
    for count in STEP_COUNTS:
        np.testing.assert_array_equal(target.schedule.ddim_timesteps(count), golden[f"steps_{count}"])
    states = trajectory(target, golden["x"], NUM_STEPS)[9::10]
    for x_t, expected in zip(states, golden["trajectory"], strict=True):
        assert float(np.abs(x_t - expected).max()) <= 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_saved_directory_is_the_one_that_diffusers_wrote(name, tmp_path):
    save_target(load_target(GOLDEN / name), tmp_path)
    written, original = (load_file(root / "unet" / WEIGHTS) for root in (tmp_path, GOLDEN / name))
    assert written.keys() == original.keys()
    for key in written:
        np.testing.assert_array_equal(written[key], original[key])
    for file in ("unet/config.json", "scheduler/scheduler_config.json"):
        ours, theirs = (json.loads((root / file).read_text()) for root in (tmp_path, GOLDEN / name))
        shared = [key for key in theirs if not key.startswith("_") and key in ours]
        assert len(shared) >= 13
        assert all(ours[key] == theirs[key] for key in shared)


@pytest.fixture
def broken(tmp_path):
    shutil.copytree(GOLDEN / "plain", tmp_path / "model")
    return tmp_path / "model"


def test_missing_extra_and_misshapen_weights_are_listed(broken):
    file = broken / "unet" / WEIGHTS
    tensors = load_file(file)
    del tensors["conv_in.bias"]
    tensors["conv_out.extra"] = np.zeros(1, np.float32)
    tensors["conv_out.bias"] = np.zeros(2, np.float32)
    save_file(tensors, file)
    with pytest.raises(
        ValueError,
        match="in 3 keys: missing conv_in.bias; extra conv_out.extra; misshapen conv_out.bias: .2,., not .1,.",
    ):
        load_target(broken)


def test_truncated_weights_are_refused(broken):
    file = broken / "unet" / WEIGHTS
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        load_target(broken)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("unet/config.json", {"act_fn": "gelu"}, "act_fn='gelu' is not supported"),
        ("unet/config.json", {"_class_name": "UNet2DConditionModel"}, "'UNet2DConditionModel' is not supported"),
        ("scheduler/scheduler_config.json", {"prediction_type": "flow"}, "prediction_type 'flow' is not supported"),
        ("scheduler/scheduler_config.json", {"beta_schedule": "sigmoid"}, "beta_schedule 'sigmoid' is not supported"),
    ],
)
def test_unsupported_options_are_refused_by_name(broken, file, change, message):
    config = json.loads((broken / file).read_text())
    (broken / file).write_text(json.dumps(config | change))
    with pytest.raises(ValueError, match=message):
        load_target(broken)


def test_missing_files_and_paths_are_named(broken, tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        load_target(tmp_path / "nowhere")
    (broken / "scheduler" / "scheduler_config.json").unlink()
    with pytest.raises(ValueError, match=r"it has no scheduler/scheduler_config.json"):
        load_target(broken)
