"""Checkpoints as people have them: what is read, and what is said of it."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from side_jax import load_target
from side_jax.inside.probe import generation_classes
from side_jax.targets.diffusers import WEIGHTS, files
from side_jax.targets.state_dict import read_state_dict
from tests.golden.ours import GOLDEN, write_adm

PLAIN = GOLDEN / "plain"


@pytest.fixture
def model(tmp_path):
    """A pipeline whose network predicts v, so that a scheduler that is not read shows."""
    shutil.copytree(PLAIN, tmp_path / "model")
    edit(tmp_path / "model" / "scheduler" / "scheduler_config.json", prediction_type="v_prediction")
    return tmp_path / "model"


def edit(file, **change):
    file.write_text(json.dumps(json.loads(file.read_text()) | change))


def same_weights(target):
    ours, theirs = (jax.tree.leaves(one.params) for one in (target, load_target(PLAIN)))
    return all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.fixture
def checkpoint(model):
    """checkpoint-500 of diffusers' training example, in the folder of its pipeline: unet_ema has the good weights."""
    root = model / "checkpoint-500"
    shutil.copytree(model / "unet", root / "unet_ema")
    average = {"decay": 0.9999, "inv_gamma": 1.0, "min_decay": 0.0, "optimization_step": 500, "power": 0.75}
    edit(root / "unet_ema" / "config.json", **average, update_after_step=0, use_ema_warmup=True)
    shutil.copytree(model / "unet", root / "unet")
    zeros = {name: np.zeros_like(value) for name, value in load_file(root / "unet" / WEIGHTS).items()}
    save_file(zeros, root / "unet" / WEIGHTS)
    return root


def test_network_of_a_pipeline_has_the_pipelines_scheduler(model):
    """MODEL/unet was read with diffusers' defaults: v as ε."""
    target = load_target(model / "unet")
    assert target.schedule == load_target(model).schedule
    assert target.schedule.prediction_type == "v_prediction"
    assert any("../scheduler/scheduler_config.json" in note for note in target.notes)
    assert "../scheduler/scheduler_config.json" in files(model / "unet")


def test_training_checkpoint_gives_its_moving_average(checkpoint):
    for path in (checkpoint, checkpoint / "unet_ema"):
        target = load_target(path)
        assert same_weights(target)
        assert target.schedule.prediction_type == "v_prediction"
    assert any("unet_ema, the moving average, is read" in note for note in load_target(checkpoint).notes)


@pytest.mark.parametrize("name", ["PNDMScheduler", "DPMSolverMultistepScheduler"])
def test_other_schedulers_give_betas_and_prediction_type(model, name):
    edit(model / "scheduler" / "scheduler_config.json", _class_name=name, skip_prk_steps=True, solver_order=2)
    target = load_target(model)
    assert target.schedule.prediction_type == "v_prediction"
    assert any(f"of {name} the betas and the prediction type are taken" in note for note in target.notes)


def test_scheduler_without_betas_is_refused(model):
    flow = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 1.0}
    (model / "scheduler" / "scheduler_config.json").write_text(json.dumps(flow))
    with pytest.raises(ValueError, match="'FlowMatchEulerDiscreteScheduler' has no betas"):
        load_target(model)


def test_variant_is_read_and_several_are_refused(model):
    (model / "unet" / WEIGHTS).rename(model / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    target = load_target(model)
    assert same_weights(target)
    assert any("diffusion_pytorch_model.fp16.safetensors" in note for note in target.notes)
    shutil.copy(PLAIN / "unet" / WEIGHTS, model / "unet" / "diffusion_pytorch_model.non_ema.safetensors")
    with pytest.raises(ValueError, match=r"several variants: diffusion_pytorch_model.fp16.*non_ema.*; keep one"):
        load_target(model)


def test_sharded_weights_are_joined_and_a_missing_shard_is_named(model):
    tensors = load_file(model / "unet" / WEIGHTS)
    (model / "unet" / WEIGHTS).unlink()
    where = {name: f"diffusion_pytorch_model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(tensors)}
    for shard in set(where.values()):
        save_file({name: tensors[name] for name in tensors if where[name] == shard}, model / "unet" / shard)
    index = model / "unet" / f"{WEIGHTS}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    assert same_weights(load_target(model))
    assert {f"unet/{shard}" for shard in where.values()} < set(files(model))
    (model / "unet" / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ValueError, match="its file diffusion_pytorch_model-00002-of-00002.safetensors is missing"):
        load_target(model)


def test_pipeline_of_ones_own_is_read_and_one_with_other_parts_refused(model):
    edit(model / "model_index.json", _class_name="MyPipeline")
    assert any("the steps of the pipeline 'MyPipeline' are not known" in note for note in load_target(model).notes)
    edit(model / "model_index.json", _class_name="LDMPipeline", vqvae=["diffusers", "VQModel"])
    with pytest.raises(ValueError, match="pipeline 'LDMPipeline' has vqvae; a model of pixels has"):
        load_target(model)


def test_two_equal_sizes_are_one(model):
    size = load_target(PLAIN).net.sample_size
    edit(model / "unet" / "config.json", sample_size=[size, size])
    assert load_target(model).net.sample_size == size
    edit(model / "unet" / "config.json", sample_size=[size, 2 * size])
    with pytest.raises(ValueError, match="sample_size must be one number"):
        load_target(model)


def test_names_of_a_parallel_module_are_read(model):
    file = model / "unet" / WEIGHTS
    save_file({f"module.{name}": value for name, value in load_file(file).items()}, file)
    assert same_weights(load_target(model))


def test_checkpoint_of_several_state_dicts_names_what_to_take(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"model": {"w": torch.zeros(1)}, "ema": {"w": torch.ones(1)}, "step": 5}, tmp_path / "both.pt")
    with pytest.raises(ValueError, match=r"holds several things: model, ema, step. Take one, such as 'ema'"):
        read_state_dict(tmp_path / "both.pt")


def gray(tensors):
    tensors["input_blocks.0.0.weight"] = tensors["input_blocks.0.0.weight"][:, :1]
    for name in ("out.2.weight", "out.2.bias"):
        tensors[name] = tensors[name][: len(tensors[name]) // 3]


def test_gray_adm_is_read(tmp_path):
    assert load_target(write_adm(tmp_path, "legacy", gray)).image_shape[-1] == 1


def test_number_of_classes_is_that_of_the_weights(tmp_path):
    def change(tensors):
        tensors["label_emb.weight"] = tensors["label_emb.weight"][:8]

    assert load_target(write_adm(tmp_path, "updown", change)).net.num_classes == 8


def test_improved_diffusions_4000_steps_are_scaled_to_what_the_network_saw(tmp_path):
    """t went up to 3,999 where training showed the network 0 … 1,000."""
    plain = load_target(write_adm(tmp_path, "legacy"))
    improved = load_target(write_adm(tmp_path, "legacy", flags={"diffusion_steps": 4000, "sigma_small": False}))
    assert improved.schedule.num_train_timesteps == 4000
    assert any("t · 1000 / 4000" in note for note in improved.notes)
    shape = (1, *plain.image_shape)
    x = jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)
    classes = None if plain.net.num_classes is None else jnp.zeros(1, jnp.int32)
    outputs = [
        target.net.apply({"params": target.params}, x, jnp.full(1, t, jnp.int32), classes)
        for target, t in ((plain, 300), (improved, 1200))
    ]
    np.testing.assert_allclose(*outputs, atol=1e-5)
    with pytest.raises(ValueError, match="diffusion_steps is 4000; write rescale_timesteps too"):
        load_target(write_adm(tmp_path, "legacy", flags={"diffusion_steps": 4000}))


def test_heads_that_weights_cannot_confirm_are_noted(tmp_path):
    notes = load_target(write_adm(tmp_path, "legacy", flags={"num_head_channels": -1, "num_heads": 2})).notes
    assert any("num_heads=2" in note for note in notes)


def test_only_the_classes_that_were_trained_are_generated(tmp_path):
    target = load_target(write_adm(tmp_path, "updown"))
    drawn = generation_classes(target.replace(classes=(3, 700, 999)), jax.random.key(0), np.arange(64))
    assert set(drawn.tolist()) == {3, 700, 999}
