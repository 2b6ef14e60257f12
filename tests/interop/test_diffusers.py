import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from side_jax import load_target
from side_jax.diffusion.ddim import ddim_step
from side_jax.interop.diffusers import WEIGHTS, save_target

GOLDEN = Path(__file__).parents[1] / "golden"
MODELS = ["plain", "options", "padding"]


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
    steps = target.schedule.ddim_timesteps(10)
    np.testing.assert_array_equal(steps, golden["steps"])
    alpha_bar = target.schedule.alpha_bar()
    eps, x_t = jax.jit(target.eps), golden["x"]
    for i, t in enumerate(steps):
        a_prev = alpha_bar[steps[i + 1]] if i + 1 < len(steps) else np.float32(1)
        x_t = ddim_step(x_t, eps(x_t, np.full(2, t)), alpha_bar[t], a_prev)
        assert float(np.abs(x_t - golden["trajectory"][i]).max()) <= 1e-3


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
        assert len(shared) >= 12
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
        ("scheduler/scheduler_config.json", {"prediction_type": "sample"}, "prediction_type='sample' is not supported"),
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
    with pytest.raises(ValueError, match=r"scheduler/scheduler_config.json is missing"):
        load_target(broken)
