import hashlib
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest

import side_jax
from configs import smoke
from side_jax import load_target
from side_jax.targets.adm_flags import Flags
from side_jax.targets.diffusers import save_target
from side_jax.targets.guided_diffusion import files, read_architecture, state_dict_name, variable_shapes
from side_jax.targets.state_dict import to_torch
from tests.golden.ours import GOLDEN, adm_noise, difference, write_adm

MODELS = ["legacy", pytest.param("updown", marks=pytest.mark.slow), "new_order"]


@pytest.mark.parametrize("name", MODELS)
def test_outputs_equal_adm(name, tmp_path):
    golden = np.load(GOLDEN / "adm" / f"{name}.npz")
    assert difference(adm_noise(write_adm(tmp_path, name), golden), golden["output"][..., :3]) <= 1e-4


def test_the_order_of_query_key_and_value_is_heeded(tmp_path):
    golden = np.load(GOLDEN / "adm" / "new_order.npz")
    file = write_adm(tmp_path, "new_order", flags={"use_new_attention_order": False})
    assert difference(adm_noise(file, golden), golden["output"][..., :3]) > 1e-2


# The README's flags without what has no effect, as the command line has them; the number of parameters and a hash of
# all keys and shapes, both of OpenAI's own UNetModel, with 1x1 kernels of attention as matrices.
RESBLOCKS = {"attention_resolutions": "32,16,8", "resblock_updown": "True", "learn_sigma": "True"}
OFFICIAL = {
    "64": (
        {
            "num_channels": "192",
            "num_head_channels": "64",
            "num_res_blocks": "3",
            "noise_schedule": "cosine",
            "use_new_attention_order": "True",
        },
        295_904_454,
        "b0c9ac8f0761aee2",
    ),
    "128": ({"num_channels": "256", "num_heads": "4", "num_res_blocks": "2"}, 421_529_606, "e71d3ebf4c376307"),
    "256": ({"num_channels": "256", "num_head_channels": "64", "num_res_blocks": "2"}, 552_814_086, "e3e5efdc3bdc56eb"),
    "512": ({"num_channels": "256", "num_head_channels": "64", "num_res_blocks": "2"}, 558_997_638, "27cfd3296c6528cd"),
}


@pytest.mark.parametrize("size", OFFICIAL)
def test_official_models_have_the_originals_keys_and_shapes(size, tmp_path):
    given, parameters, digest = OFFICIAL[size]
    flags = {"image_size": size, "class_cond": str(size != "256"), **RESBLOCKS, **given}
    (tmp_path / "flags.json").write_text(json.dumps(flags))
    unet = Flags.read(tmp_path / "flags.json").unet()
    shapes = variable_shapes(unet)
    assert sum(map(math.prod, shapes.values())) == parameters
    lines = []
    for path, shape in shapes.items():
        stored = to_torch(path, np.broadcast_to(np.float32(0), shape)).shape
        lines.append(f"{state_dict_name(path, unet)} {list(stored)}")
    assert hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16] == digest


def test_missing_extra_and_misshapen_weights_are_listed_under_the_files_own_names(tmp_path):
    def damage(tensors):
        del tensors["middle_block.1.qkv.bias"]
        tensors["label_emb.weight"] = np.zeros((1000, 128), np.float32)
        tensors["out.2.bias"] = np.zeros(6, np.float32)

    file = write_adm(tmp_path, "legacy", damage)
    with pytest.raises(
        ValueError,
        match="flags in model.json, does not fit .* 3 keys .1 missing, .*: missing middle_block.1.qkv.bias;"
        r" extra label_emb.weight; misshapen out.2.bias: \(6,\), not \(3,\)",
    ):
        load_target(file)


def test_architecture_is_read_without_the_weights_or_torch(tmp_path):
    """For a dry run: three channels and 1,000 classes, where the weights cannot say otherwise."""
    write_adm(tmp_path, "updown").unlink()
    assert read_architecture(tmp_path / "model.pt").num_classes == 1000
    (tmp_path / "model.pt").write_bytes(b"not for this machine")
    assert read_architecture(tmp_path / "model.pt").image_shape == (16, 16, 3)
    (tmp_path / "model.json").unlink()
    assert read_architecture(tmp_path / "model.pt") is None


def test_missing_flags_are_asked_for_with_an_example(tmp_path):
    file = write_adm(tmp_path, "legacy")
    (tmp_path / "model.json").unlink()
    with pytest.raises(ValueError, match=r'model.json is missing: write .* such as \{"image_size": 256,') as caught:
        load_target(file)
    example = str(caught.value).partition("such as ")[2]
    (tmp_path / "model.json").write_text(example)
    assert Flags.read(files(file)["model.json"]).unet().out_channels == 6


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"large_size": 256}, "unknown flag 'large_size'; known: image_size, num_channels"),
        ({"resblock_updown": "maybe"}, "resblock_updown must be true or false, got 'maybe'"),
        ({"num_channels": 32.5}, "num_channels must be a whole number, got 32.5"),
        ({"num_channels": True}, "num_channels must be a whole number, got True"),
        ({"num_res_blocks": 0}, "num_res_blocks must be at least 1, got 0"),
        ({"channel_mult": "1;2"}, "channel_mult must be numbers above 0 with commas between, such as '4,8', got '1;2'"),
        ({"channel_mult": ""}, "image_size 16 needs a channel_mult; only 32, 64, 128, 256, 512 have a default"),
        ({"attention_resolutions": "0"}, "attention_resolutions must be numbers above 0"),
        ({"num_heads": 5}, r"num_attention_heads 5 does not divide attention blocks of \[64, 32, 64"),
        ({"num_head_channels": 48}, r"num_head_channels 48 does not divide attention layers of \[32, 64\]"),
        ({"num_heads_upsample": 2}, "num_heads_upsample 2 beside num_heads 4 is not supported"),
        ({"noise_schedule": "sqrt"}, "noise_schedule 'sqrt' is not supported; known: linear, cosine"),
        ({"diffusion_steps": 4000}, "diffusion_steps is 4000; write rescale_timesteps too, true as improved-diffusion"),
        ({"num_channels": 48}, "norm_num_groups 32 does not divide block_out_channels 48"),
        ({"image_size": 17}, "image_size 17 is not divisible by the UNet's stride 2"),
    ],
)
def test_unusable_flags_are_refused_by_name(tmp_path, flags, message):
    with pytest.raises(ValueError, match=message) as caught:
        load_target(write_adm(tmp_path, "legacy", flags=flags))
    assert str(tmp_path / "model.json") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["[1]", "{"])
def test_flags_that_are_no_json_object_are_refused(tmp_path, content):
    file = write_adm(tmp_path, "legacy")
    (tmp_path / "model.json").write_text(content)
    with pytest.raises(ValueError, match="model.json (must hold an object|is not readable as JSON)"):
        load_target(file)


def test_flags_read_alike_as_json_values_and_as_the_command_lines_strings(tmp_path):
    values = {"image_size": 64, "channel_mult": [1, 2], "attention_resolutions": 16, "resblock_updown": True}
    strings = {"image_size": "64", "channel_mult": "1,2", "attention_resolutions": "16", "resblock_updown": "yes"}
    without_effect = {"use_fp16": "True", "dropout": 0.1, "timestep_respacing": "ddim25", "use_kl": False}
    flags = []
    for content in (values, strings, strings | without_effect):
        (tmp_path / "flags.json").write_text(json.dumps(content))
        flags.append(Flags.read(tmp_path / "flags.json"))
    assert flags[0] == flags[1] == flags[2]


def test_cosine_schedule_and_clean_images_as_prediction_are_read():
    schedule = Flags(noise_schedule="cosine", predict_xstart=True).schedule()
    assert (schedule.beta_schedule, schedule.prediction_type) == ("squaredcos_cap_v2", "sample")


def test_linear_schedule_is_scaled_to_the_number_of_steps():
    schedule = Flags(diffusion_steps=4000).schedule()
    assert (schedule.num_train_timesteps, schedule.beta_start, schedule.beta_end) == (4000, 2.5e-5, 5e-3)


def test_heads_that_diffusers_cannot_express_are_refused_on_saving(tmp_path):
    with pytest.raises(ValueError, match="num_attention_heads=4"):
        save_target(load_target(write_adm(tmp_path, "legacy")), tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_a_half_wide_first_level_is_refused_on_saving(tmp_path):
    with pytest.raises(ValueError, match="time_proj_dim=64"):
        save_target(load_target(write_adm(tmp_path, "new_order")), tmp_path / "saved")


def test_a_pickle_is_not_executed(tmp_path):
    class Touch:
        def __reduce__(self):
            return Path.touch, (tmp_path / "executed",)

    write_adm(tmp_path, "legacy")
    (tmp_path / "model.pt").write_bytes(pickle.dumps({"out.2.bias": Touch()}))
    with pytest.raises(ValueError, match=r"model.pt is (refused|a torch file; reading it needs torch)"):
        load_target(tmp_path / "model.pt")
    assert not (tmp_path / "executed").exists()


def test_an_audit_takes_the_file_and_knows_it_by_its_weights_and_flags(tmp_path):
    file, config = write_adm(tmp_path, "legacy"), smoke.get_config()
    config.dataset.channels, config.target.source, config.target.path = 3, "load", str(file)
    config.dataset.heldout_fraction = 0.0  # the file does not say what the model was trained on
    workdir = side_jax.run(config, tmp_path / "run", stages=("target",))
    assert load_target(workdir).image_shape == (16, 16, 3)
    assert json.loads((workdir / "target" / "spec.json").read_text())["files"].keys() == {
        "model.safetensors",
        "model.json",
    }
