"""Checkpoints as people have them: what is read, and what is said of it."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from side_jax import load_target
from side_jax.diffusion.schedule import Schedule
from side_jax.inside.probe import generation_classes, photo_classes
from side_jax.targets.adm_flags import Flags
from side_jax.targets.diffusers import WEIGHTS, files
from side_jax.targets.target import Facts
from tests.golden.ours import GOLDEN, write_adm
from tests.targets.test_diffusers import make_directory

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


@pytest.mark.given(
    kind=3,
    input="`target.path=MODEL/unet`",
    before="ignores `../scheduler` (v read as ε)",
    now="`../scheduler` is read, and a note says so",
)
def test_network_of_a_pipeline_has_the_pipelines_scheduler(model):
    """MODEL/unet was read with diffusers' defaults: v as ε."""
    target = load_target(model / "unet")
    assert target.schedule == load_target(model).schedule
    assert target.schedule.prediction_type == "v_prediction"
    assert any("../scheduler/scheduler_config.json" in note for note in target.notes)
    assert "../scheduler/scheduler_config.json" in files(model / "unet")


@pytest.mark.given(
    kind=7,
    input="`checkpoint-500/unet_ema` of diffusers' training example (its config also holds decay, power, …)",
    before="refused",
    now="its weights, with the scheduler of the pipeline",
)
@pytest.mark.given(
    kind=7, input="`checkpoint-500` itself", before="refused", now="unet_ema is read, and a note says so"
)
def test_training_checkpoint_gives_its_moving_average(checkpoint):
    for path in (checkpoint, checkpoint / "unet_ema"):
        target = load_target(path)
        assert same_weights(target)
        assert target.schedule.prediction_type == "v_prediction"
    assert any("unet_ema, the moving average, is read" in note for note in load_target(checkpoint).notes)


def test_moving_average_that_is_not_read_is_named(checkpoint, tmp_path):
    assert "unet is read, and unet_ema beside it, the moving average, is not" in load_target(checkpoint / "unet").notes
    file = write_adm(tmp_path, "legacy").rename(tmp_path / "model500000.safetensors")
    (tmp_path / "model.json").rename(tmp_path / "model500000.json")
    shutil.copy(file, tmp_path / "ema_0.9999_500000.safetensors")
    said = "model500000.safetensors is read, and ema_0.9999_500000.safetensors beside it, the moving average, is not"
    assert said in load_target(file).notes


def test_output_folder_without_a_model_names_its_checkpoints(checkpoint):
    (checkpoint.parent / "model_index.json").unlink()
    shutil.rmtree(checkpoint.parent / "unet")
    with pytest.raises(ValueError, match="it has no config.json, .*; it has checkpoint-500: name one"):
        load_target(checkpoint.parent)


@pytest.mark.given(
    kind=7,
    input="`checkpoint-500` without a moving average",
    before="",
    now="unet is read, with the scheduler of the output folder",
)
def test_training_checkpoint_without_an_average_has_the_scheduler_of_its_output_folder(checkpoint):
    shutil.rmtree(checkpoint / "unet")
    (checkpoint / "unet_ema").rename(checkpoint / "unet")
    target = load_target(checkpoint)
    assert same_weights(target)
    assert target.schedule.prediction_type == "v_prediction"
    assert "../scheduler/scheduler_config.json" in files(checkpoint)


def test_network_of_a_saved_target_still_says_what_it_was_trained_on(model):
    (model / "manifest.json").write_text(json.dumps({"training_hashes": ["a", "b"]}))
    for path in (model, model / "unet"):
        assert load_target(path).facts["training_hashes"] == ["a", "b"]


@pytest.mark.given(
    kind=7,
    input="PNDMScheduler, or DPMSolverMultistepScheduler",
    before="refused",
    now="betas and prediction type are taken, and a note says that the steps are DDIM's",
)
@pytest.mark.parametrize("name", ["PNDMScheduler", "DPMSolverMultistepScheduler"])
def test_other_schedulers_give_betas_and_prediction_type(model, name):
    edit(model / "scheduler" / "scheduler_config.json", _class_name=name, skip_prk_steps=True, solver_order=2)
    target = load_target(model)
    assert target.schedule.prediction_type == "v_prediction"
    said = f"of {name} the noise schedule is taken, and the steps are DDIM's: 1000 timesteps, linear betas 0.0001 to"
    assert any(said in note and "0.02, v_prediction, clipping to ±1" in note for note in target.notes)


@pytest.mark.given(
    kind=7,
    input="a PNDMScheduler without prediction_type and clip_sample",
    before="refused",
    now='read, with the note "as DDIM has by default"',
)
def test_what_the_file_of_another_scheduler_does_not_say_is_named(model):
    """PNDM has no clip_sample, and did not always have a prediction type."""
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "trained_betas": None}
    scheduler = {"_class_name": "PNDMScheduler", "num_train_timesteps": 500, "skip_prk_steps": True, **betas}
    (model / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    target = load_target(model)
    assert target.schedule == Schedule(500, 0.00085, 0.012, "scaled_linear")
    assert any(
        "500 timesteps, scaled_linear betas 0.00085 to 0.012, epsilon, clipping to ±1; prediction_type, clip_sample as"
        " DDIM has by default" in note
        for note in target.notes
    )


@pytest.mark.given(
    kind=7,
    input="a scheduler without betas",
    before="",
    now="refused: \"'FlowMatchEulerDiscreteScheduler' is not supported without beta_start\"",
)
def test_scheduler_without_betas_is_refused(model):
    flow = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 1.0}
    (model / "scheduler" / "scheduler_config.json").write_text(json.dumps(flow))
    with pytest.raises(ValueError, match="'FlowMatchEulerDiscreteScheduler' is not supported without beta_start"):
        load_target(model)


@pytest.mark.given(
    kind=7,
    input='`variant="fp16"`',
    before="refused",
    now="read, and a note says so; of several variants one must be kept",
)
def test_variant_is_read_and_several_are_refused(model):
    (model / "unet" / WEIGHTS).rename(model / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    target = load_target(model)
    assert same_weights(target)
    assert any("diffusion_pytorch_model.fp16.safetensors" in note for note in target.notes)
    shutil.copy(PLAIN / "unet" / WEIGHTS, model / "unet" / "diffusion_pytorch_model.non_ema.safetensors")
    with pytest.raises(ValueError, match=r"several variants: diffusion_pytorch_model.fp16.*non_ema.*; keep one"):
        load_target(model)


@pytest.mark.given(
    kind=7, input="sharded safetensors with an index", before="refused", now="read; a missing shard is named"
)
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
    variant = model / "unet" / f"{WEIGHTS}.index.fp16.json"
    index.rename(variant)
    target = load_target(model)
    assert same_weights(target)
    assert any(variant.name in note for note in target.notes)
    (model / "unet" / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ValueError, match="its file diffusion_pytorch_model-00002-of-00002.safetensors is missing"):
        load_target(model)


@pytest.mark.given(
    kind=7,
    input="a pipeline class of one's own around a plain UNet2DModel",
    before="refused",
    now="read, with a note; a pipeline with a VQ model is refused",
)
def test_pipeline_of_ones_own_is_read_and_one_with_other_parts_refused(model):
    edit(model / "model_index.json", _class_name="MyPipeline")
    assert any("the steps of the pipeline 'MyPipeline' are not known" in note for note in load_target(model).notes)
    edit(model / "model_index.json", _class_name="LDMPipeline", vqvae=["diffusers", "VQModel"])
    with pytest.raises(ValueError, match="pipeline 'LDMPipeline' has vqvae; a model of pixels has"):
        load_target(model)


@pytest.mark.given(
    kind=7,
    input="`sample_size` of two numbers, such as `[32, 32]`",
    before="refused",
    now="equal ones are read, others refused",
)
def test_two_equal_sizes_are_one(model):
    size = load_target(PLAIN).net.sample_size
    edit(model / "unet" / "config.json", sample_size=[size, size])
    assert load_target(model).net.sample_size == size
    edit(model / "unet" / "config.json", sample_size=[size, 2 * size])
    with pytest.raises(ValueError, match="sample_size must be one number"):
        load_target(model)


@pytest.mark.given(
    kind=10,
    input="a diffusers weights file without its directory",
    before="the program's own exception",
    now="`name this folder, not a file in it`",
)
def test_weights_of_a_diffusers_folder_name_the_folder(model):
    with pytest.raises(
        ValueError, match=r"unet is the model, with its config.json: name this folder, not a file in it"
    ):
        load_target(model / "unet" / WEIGHTS)


@pytest.mark.given(
    kind=7, input="keys prefixed `module.` or `_orig_mod.`", before="refused", now="read without the prefix"
)
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module."])
def test_names_of_a_wrapped_module_are_read(model, prefix):
    file = model / "unet" / WEIGHTS
    save_file({f"{prefix}{name}": value for name, value in load_file(file).items()}, file)
    assert same_weights(load_target(model))


def gray(tensors):
    tensors["input_blocks.0.0.weight"] = tensors["input_blocks.0.0.weight"][:, :1]
    for name in ("out.2.weight", "out.2.bias"):
        tensors[name] = tensors[name][: len(tensors[name]) // 3]


@pytest.mark.given(kind=7, input="gray ADM (first conv [C, 1, 3, 3])", before="refused", now="read, with one channel")
def test_gray_adm_is_read(tmp_path):
    assert load_target(write_adm(tmp_path, "legacy", gray)).image_shape[-1] == 1


@pytest.mark.given(
    kind=4,
    input="a diffusers model of 5 classes whose config says 1,000, or none",
    before="",
    now='5, with the note "num_class_embeds=1000 in config.json, but the weights embed 5 classes, which are taken"',
)
def test_diffusers_number_of_classes_is_that_of_the_weights(tmp_path):
    """Its config says 1,000 or nothing, its weights 5."""
    make_directory(tmp_path, "classes")
    assert load_target(tmp_path).notes == ()
    for said in (1000, None):
        edit(tmp_path / "unet" / "config.json", num_class_embeds=said)
        target = load_target(tmp_path)
        assert target.net.num_classes == 5
        assert target.notes == (
            f"num_class_embeds={said} in config.json, but the weights embed 5 classes, which are taken",
        )


@pytest.mark.given(
    kind=4, input="ADM with another NUM_CLASSES", before="refused", now="the number of classes is that of the weights"
)
def test_number_of_classes_is_that_of_the_weights(tmp_path):
    def change(tensors):
        tensors["label_emb.weight"] = tensors["label_emb.weight"][:8]

    target = load_target(write_adm(tmp_path, "updown", change))
    assert target.net.num_classes == 8


@pytest.mark.given(
    kind=3,
    input="improved-diffusion flags with 4,000 steps",
    before="t up to 3,999 where the network saw 0 … 1,000",
    now="the network gets t · 1000 / 4000, and a note says so",
)
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


# Every flag of improved-diffusion's scripts but three, with the defaults that it has there.
IMPROVED = (
    {"num_channels": 128, "num_res_blocks": 2, "num_heads": 4, "num_heads_upsample": -1, "dropout": 0.0}
    | {"attention_resolutions": "16,8", "learn_sigma": False, "sigma_small": False, "class_cond": False}
    | {"noise_schedule": "linear", "timestep_respacing": "", "use_kl": False, "predict_xstart": False}
    | {"rescale_learned_sigmas": True, "use_checkpoint": False, "use_scale_shift_norm": True}
)


@pytest.mark.given(
    kind=7,
    input="improved-diffusion's flags (sigma_small, channel_mult by size, rescale_timesteps true by default)",
    before="refused",
    now="read with the defaults that they have there",
)
@pytest.mark.parametrize(
    ("flags", "widths", "time_scale"),
    [
        ({"image_size": 64, "diffusion_steps": 1000, "rescale_timesteps": True}, (128, 256, 384, 512), 1.0),
        ({"image_size": 32, "diffusion_steps": 4000, "rescale_timesteps": True}, (128, 256, 256, 256), 0.25),
        ({"image_size": 32, "diffusion_steps": "4000"}, (128, 256, 256, 256), 0.25),
        ({"image_size": 32, "diffusion_steps": 4000, "rescale_timesteps": "False"}, (128, 256, 256, 256), 1.0),
    ],
)
def test_flags_of_improved_diffusion_have_its_defaults(tmp_path, flags, widths, time_scale):
    (tmp_path / "flags.json").write_text(json.dumps(IMPROVED | flags))
    read = Flags.read(tmp_path / "flags.json")
    assert (read.unet().block_out_channels, read.unet().time_scale) == (widths, time_scale)
    said = [note for note in read.notes() if "the network gets t" in note]
    assert len(said) == (read.diffusion_steps != 1000)


@pytest.mark.given(
    kind=3,
    input="a wrong `num_heads`",
    before="loads as another network",
    now='loads, with the note that the weights do not show: "num_heads=2, …"',
)
def test_flags_that_weights_cannot_confirm_are_noted(tmp_path, caplog):
    """Another number of heads has the same shapes, and is another network."""
    four, two = (load_target(write_adm(tmp_path, "legacy", flags={"num_heads": heads})) for heads in (4, 2))
    assert jax.tree.map(jnp.shape, four.params) == jax.tree.map(jnp.shape, two.params)
    assert "the weights do not show: num_heads=2, use_new_attention_order=False, noise_schedule=linear" in two.notes[0]
    assert two.notes[0] in caplog.text
    assert "num_head_channels=16" in load_target(write_adm(tmp_path, "new_order")).notes[0]


@pytest.mark.given(
    kind=4,
    input="a class-conditional target of 1,000 embeddings of which few were trained",
    before="7 of 1,000 images are of trained classes",
    now="images are of those that `target.classes` names, and of no other",
)
def test_only_the_classes_that_were_trained_are_generated(tmp_path):
    target = load_target(write_adm(tmp_path, "updown"))
    few = target.replace(classes=(3, 700, 999))
    drawn = generation_classes(few, jax.random.key(0), np.arange(64))
    assert set(drawn.tolist()) == {3, 700, 999}
    labels = np.array([2, 0], np.int32)
    classes, source = photo_classes(few, labels, jax.random.key(0), np.arange(2))
    assert (classes.tolist(), source) == ([999, 3], "labels")
    assert photo_classes(few, labels + 1, jax.random.key(0), np.arange(2))[1] == "drawn"


def test_notes_and_facts_do_not_compile_a_program_anew():
    target = load_target(PLAIN)
    said = target.replace(notes=("read as such",), facts=Facts({"steps": 3}))
    assert jax.tree.structure(said.unsaid()) == jax.tree.structure(target.unsaid())
    assert jax.tree.structure(said) != jax.tree.structure(target)
