import dataclasses
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from side_jax import load_target
from side_jax.diffusion.schedule import Schedule
from side_jax.targets import diffusers_files
from side_jax.targets.diffusers import UNET_OPTIONS, WEIGHTS, files, save_target, torch_name, unet_shapes
from side_jax.targets.state_dict import to_torch
from side_jax.targets.unet import UNet
from tests.golden.diffusers_models import NUM_STEPS, SCHEDULES, STEP_COUNTS, TRAINED, UNETS
from tests.golden.ours import ddim_states
from tests.golden.weights import make_weights

GOLDEN = Path(__file__).parents[1] / "golden"
MODELS = ["plain", "options", "padding"]


def make_directory(root, unet="classes", schedule="linear"):
    """A pipeline of golden configs (diffusers' own files), with the weights that the golden values were made with."""
    (root / "unet").mkdir()
    (root / "scheduler").mkdir()
    shutil.copy(GOLDEN / "unets" / unet / "config.json", root / "unet")
    shutil.copy(GOLDEN / "schedules" / schedule / "scheduler_config.json", root / "scheduler")
    shapes = unet_shapes(UNet(**UNETS[unet]))
    named = {torch_name(path): to_torch(path, np.zeros(shape, np.float32)).shape for path, shape in shapes.items()}
    save_file(make_weights(named), root / "unet" / WEIGHTS)
    return root


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
    for x_t, expected in zip(ddim_states(target, golden["x"], 10), golden["trajectory"], strict=True):
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
    shutil.copytree(TRAINED, tmp_path, dirs_exist_ok=True)
    shutil.copy(GOLDEN / "schedules" / name / "scheduler_config.json", tmp_path / "scheduler")
    target = load_target(tmp_path)
    golden = np.load(GOLDEN / "schedules" / name / "golden.npz")
    assert float(np.abs(target.schedule.alpha_bar() - golden["alpha_bar"]).max()) <= 1e-5
    for count in STEP_COUNTS:
        np.testing.assert_array_equal(target.schedule.ddim_timesteps(count), golden[f"steps_{count}"])
    states = ddim_states(target, golden["x"], NUM_STEPS)[9::10]
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


def test_what_is_saved_is_what_is_loaded(tmp_path):
    """Every schedule option and the classes; a learned variance is left out, the noise stays the same."""
    (tmp_path / "model").mkdir()
    target = load_target(make_directory(tmp_path / "model", "classes", "cosine_zero_snr_trailing_v"))
    save_target(target, tmp_path / "saved")
    saved = load_target(tmp_path / "saved")
    assert (saved.schedule, saved.clip_x0) == (target.schedule, target.clip_x0)
    assert saved.net == dataclasses.replace(target.net, out_channels=1)
    golden = np.load(GOLDEN / "unets" / "classes" / "golden.npz")
    inputs = golden["x"], golden["t"].astype(np.int32), golden["classes"].astype(np.int32)
    np.testing.assert_allclose(saved.eps(*inputs), target.eps(*inputs), atol=1e-5)


@pytest.mark.parametrize("name", SCHEDULES)
def test_saved_schedule_is_the_one_that_diffusers_wrote(name, tmp_path):
    model = shutil.copytree(GOLDEN / "plain", tmp_path / "model")
    shutil.copy(GOLDEN / "schedules" / name / "scheduler_config.json", model / "scheduler")
    save_target(load_target(model), tmp_path / "saved")
    file = "scheduler/scheduler_config.json"
    ours, theirs = (json.loads((root / file).read_text()) for root in (tmp_path / "saved", model))
    if theirs["_class_name"] == "DDIMScheduler":
        theirs = {key: value for key, value in theirs.items() if key in ours}
        assert ours == theirs
        assert len(ours) == 14
    else:
        assert (ours["_class_name"], ours["set_alpha_to_one"]) == ("DDIMScheduler", True)


def flat(root):
    """google/ddpm-*: everything in the root, a DDPM pipeline of diffusers 0.1."""
    shutil.copytree(GOLDEN / "plain" / "unet", root)
    old = {"_class_name": "DDPMScheduler", "variance_type": "fixed_large", "trained_betas": None, "tensor_format": "pt"}
    (root / "scheduler_config.json").write_text(json.dumps(old))
    (root / "model_index.json").write_text(json.dumps({"_class_name": "DDPMPipeline"}))
    return root


def test_flat_layout_is_read(tmp_path, caplog):
    target, plain = load_target(flat(tmp_path / "flat")), load_target(GOLDEN / "plain")
    assert (target.net, target.schedule, target.clip_x0) == (plain.net, plain.schedule, 1.0)
    assert list(files(tmp_path / "flat")) == ["config.json", WEIGHTS, "scheduler_config.json"]
    assert not caplog.records


def test_bare_unet_gets_the_defaults_of_diffusers_with_a_warning(tmp_path, caplog):
    root = shutil.copytree(GOLDEN / "plain" / "unet", tmp_path / "unet")
    target = load_target(root)
    assert (target.schedule, target.clip_x0) == (Schedule(), 1.0)
    assert "no scheduler_config.json is there: diffusers' DDPM defaults are taken" in caplog.text
    assert list(files(root)) == ["config.json", WEIGHTS]


def test_files_of_a_pipeline_are_those_that_define_it():
    names = list(files(GOLDEN / "plain"))
    assert names == ["unet/config.json", f"unet/{WEIGHTS}", "scheduler/scheduler_config.json"]


@pytest.fixture
def broken(tmp_path):
    shutil.copytree(GOLDEN / "plain", tmp_path / "model")
    return tmp_path / "model"


def edit(file, change):
    file.write_text(json.dumps(json.loads(file.read_text()) | change))


def test_attention_names_of_old_files_are_read(broken):
    file = broken / "unet" / WEIGHTS
    tensors = load_file(file)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {}
    for name, tensor in tensors.items():
        new_name = name
        for now, before in old.items():
            new_name = new_name.replace(now, before)
        renamed[new_name] = tensor
    assert len(renamed.keys() - tensors.keys()) == 8 * 4  # weights and biases of four attention layers
    save_file(renamed, file)
    loaded, original = (jax.tree.leaves(load_target(root).params) for root in (broken, GOLDEN / "plain"))
    for ours, theirs in zip(loaded, original, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16])
def test_half_precision_weights_become_float32(broken, dtype):
    file = broken / "unet" / WEIGHTS
    save_file({name: tensor.astype(dtype) for name, tensor in load_file(file).items()}, file)
    loaded, original = (jax.tree.leaves(load_target(root).params) for root in (broken, GOLDEN / "plain"))
    for ours, theirs in zip(loaded, original, strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, rtol=2**-8, atol=1e-7)


def test_torch_weights_are_read_where_there_are_no_safetensors(broken, monkeypatch):
    """Through `read_state_dict`, whose own tests open torch files."""
    (broken / "unet" / WEIGHTS).unlink()
    (broken / "unet" / "diffusion_pytorch_model.bin").touch()
    asked = []

    def read(file):
        asked.append(file.name)
        return load_file(GOLDEN / "plain" / "unet" / WEIGHTS)

    monkeypatch.setattr(diffusers_files, "read_state_dict", read)
    load_target(broken)
    assert asked == ["diffusion_pytorch_model.bin"]
    assert "diffusion_pytorch_model.bin" in {file.name for file in files(broken).values()}


@pytest.mark.parametrize("predicts_epsilon", [True, False])
def test_predict_epsilon_of_old_files_is_understood(broken, predicts_epsilon):
    config = {"_class_name": "DDPMScheduler", "predict_epsilon": predicts_epsilon}
    (broken / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    assert load_target(broken).schedule.prediction_type == ("epsilon" if predicts_epsilon else "sample")


def test_missing_extra_and_misshapen_weights_are_listed(broken):
    file = broken / "unet" / WEIGHTS
    tensors = load_file(file)
    del tensors["conv_in.bias"]
    tensors["conv_out.extra"] = np.zeros(1, np.float32)
    tensors["conv_out.bias"] = np.zeros(2, np.float32)
    save_file(tensors, file)
    with pytest.raises(
        ValueError,
        match="in 3 keys .1 missing, 1 extra, 1 misshapen.: missing conv_in.bias; extra conv_out.extra;"
        " misshapen conv_out.bias: .2,., not .1,.",
    ):
        load_target(broken)


def test_truncated_weights_are_refused(broken):
    file = broken / "unet" / WEIGHTS
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        load_target(broken)


UNET, SCHEDULER, INDEX = "unet/config.json", "scheduler/scheduler_config.json", "model_index.json"


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (UNET, {"act_fn": "gelu"}, "act_fn='gelu' is not supported"),
        (UNET, {"class_embed_type": "timestep"}, "class_embed_type='timestep' is not supported; only None is"),
        (UNET, {"time_embedding_type": "fourier"}, "time_embedding_type='fourier' is not supported"),
        (UNET, {"mid_block_type": None}, "mid_block_type=None is not supported"),
        (UNET, {"cross_attention_dim": 768}, "cross_attention_dim=768 is not supported: no option of this name"),
        (UNET, {"down_block_types": ["DownBlock2D", "SkipDownBlock2D"]}, "'SkipDownBlock2D' is not supported"),
        (UNET, {"sample_size": [16, 24]}, r"sample_size must be one number, got \(16, 24\); set it to the pixels"),
        (UNET, {"sample_size": None}, "sample_size must be one number, got None; set it to the pixels a side"),
        (UNET, {"norm_num_groups": None}, "norm_num_groups=None is not of type"),
        (UNET, {"layers_per_block": "2"}, "layers_per_block='2' is not of type"),
        (UNET, {"block_out_channels": []}, "unet.block_out_channels must give at least 1"),
        (UNET, {"num_class_embeds": 0}, "unet.num_class_embeds must give at least 1, got 0"),
        (UNET, {"out_channels": 3}, "maps 1 to 3 channels, the images have 1"),
        (UNET, {"_class_name": "UNet2DConditionModel"}, "class 'UNet2DConditionModel' is not supported"),
        (UNET, {"_class_name": "AutoencoderKL"}, "class 'AutoencoderKL' is not supported; known: UNet2DModel"),
        (INDEX, {"vqvae": ["diffusers", "VQModel"]}, "pipeline 'DDIMPipeline' has vqvae; a model of pixels has"),
        (
            SCHEDULER,
            {"_class_name": "IPNDMScheduler", "beta_start": None},
            "class 'IPNDMScheduler' is not supported without",
        ),
        (SCHEDULER, {"prediction_type": "flow"}, "prediction_type 'flow' is not supported"),
        (SCHEDULER, {"beta_schedule": "sigmoid"}, "beta_schedule 'sigmoid' is not supported"),
        (SCHEDULER, {"timestep_spacing": "karras"}, "timestep_spacing 'karras' is not supported"),
        (SCHEDULER, {"thresholding": True}, "thresholding=True is not supported; only False is"),
        (SCHEDULER, {"use_karras_sigmas": True}, "use_karras_sigmas=True is not supported: no option of this name"),
        (SCHEDULER, {"clip_sample_range": 0}, "clip_sample_range must be above 0, got 0"),
        (SCHEDULER, {"beta_start": 0}, "needs 0 < beta_start <= beta_end < 1, got 0.0 and 0.02"),
        (SCHEDULER, {"trained_betas": [0.1]}, "trained_betas has 1 entries, num_train_timesteps is 1000"),
        (SCHEDULER, {"trained_betas": "linear"}, "trained_betas='linear' is not of type"),
        (SCHEDULER, {"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr with prediction_type 'epsilon'"),
    ],
)
def test_unsupported_options_are_refused_by_name_and_file(broken, file, change, message):
    edit(broken / file, change)
    with pytest.raises(ValueError, match=f"{file}: .*{message}"):
        load_target(broken)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        (UNET, {"some_switch": False, "something_else": None, "num_train_timesteps": 1000, "_note": "x"}),
        (SCHEDULER, {"variance_type": "learned_range", "sample_max_value": 3.0, "dynamic_thresholding_ratio": 0.9}),
    ],
)
def test_options_that_change_nothing_are_accepted(broken, file, change):
    edit(broken / file, change)
    assert load_target(broken).schedule == Schedule()


def test_config_that_is_no_object_is_named(broken):
    (broken / UNET).write_text("[]")
    with pytest.raises(ValueError, match=f"{UNET} holds a list, not the JSON object"):
        load_target(broken)


@pytest.mark.parametrize("file", [UNET, f"unet/{WEIGHTS}", SCHEDULER])
def test_missing_files_are_named(broken, file):
    (broken / file).unlink()
    for read in (load_target, files):
        with pytest.raises(ValueError, match=f"is not a diffusers model directory: it has no {file}"):
            read(broken)


def test_missing_paths_are_named(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        load_target(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=rf"it has no config.json, no {WEIGHTS} or diffusion_pytorch_model.bin$"):
        load_target(tmp_path)


def test_option_that_diffusers_has_not_cannot_be_saved(tmp_path):
    """A field of UNet that UNet2DModel lacks must not be dropped from the file in silence."""

    class WiderUNet(UNet):
        kernel_size: int = 3

    target = load_target(GOLDEN / "plain")
    options = {name: getattr(target.net, name) for name in UNET_OPTIONS}
    save_target(dataclasses.replace(target, net=WiderUNet(**options)), tmp_path)
    with pytest.raises(ValueError, match="unet.kernel_size=5: diffusers' UNet2DModel has no such option"):
        save_target(dataclasses.replace(target, net=WiderUNet(**options, kernel_size=5)), tmp_path)
