import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import DDIMPipeline, UNet2DModel

from side_jax import load_target
from side_jax.targets.diffusers import save_target
from tests.golden import adm
from tests.golden import student as torch_student
from tests.golden.diffusers_models import NUM_STEPS, SCHEDULES, UNETS, build_scheduler, predict
from tests.golden.make_diffusers import MODELS
from tests.golden.ours import GOLDEN, adm_noise, ddim_states, guided_noise
from tests.golden.weights import make_weights

# Trajectories of a random network are chaotic: float32 rounding alone parts them.
TRAINED = GOLDEN.parents[1] / "assets" / "orl_target" / "unet"
ALL_UNETS = {name: {"sample_size": 16, **options} for name, options in MODELS.items()} | UNETS


def random_unet(name, seed):
    unet = UNet2DModel(**ALL_UNETS[name]).eval()
    shapes = {key: tuple(value.shape) for key, value in unet.state_dict().items()}
    unet.load_state_dict({key: torch.from_numpy(value) for key, value in make_weights(shapes, seed).items()})
    return unet


def draw(options, seed):
    """x [2, C, H, W], t [2], classes [2] or None."""
    rng, size, classes = np.random.RandomState(seed), options["sample_size"], options.get("num_class_embeds")
    x = rng.standard_normal((2, options.get("in_channels", 3), size, size)).astype(np.float32)
    return x, rng.randint(0, 1000, 2), None if classes is None else rng.randint(0, classes, 2)


def int32(array):
    return None if array is None else jnp.asarray(array, jnp.int32)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", ALL_UNETS)
def test_unets_equal_diffusers(name, seed, tmp_path, compare):
    unet, (x, t, classes) = random_unet(name, seed), draw(ALL_UNETS[name], seed)
    DDIMPipeline(unet, build_scheduler({})).save_pretrained(tmp_path)
    eps = jax.jit(load_target(tmp_path).eps)(np.moveaxis(x, 1, -1), int32(t), int32(classes))
    theirs = np.moveaxis(predict(unet, x, t, classes), 1, -1)[..., : x.shape[1]]
    compare("UNet output, against diffusers", name, eps, theirs, 1e-4)


@pytest.mark.parametrize("name", SCHEDULES)
def test_trajectories_of_a_trained_model_equal_diffusers(name, tmp_path, compare):
    unet, scheduler = (
        UNet2DModel.from_pretrained(TRAINED).eval(),
        build_scheduler({"_class_name": "DDIMScheduler", **SCHEDULES[name]}),
    )
    unet.save_pretrained(tmp_path / "unet")
    scheduler.save_pretrained(tmp_path / "scheduler")
    x = draw(dict(unet.config), seed=1)[0][:1]
    ddim = DDIMPipeline(unet, scheduler).scheduler  # a DDIMScheduler, whatever it was
    ddim.set_timesteps(NUM_STEPS)
    states, x_t = [], torch.from_numpy(x)
    with torch.no_grad():
        for t in ddim.timesteps:
            x_t = ddim.step(unet(x_t, t).sample, t, x_t).prev_sample
            states.append(x_t.numpy())
    ours = ddim_states(load_target(tmp_path), np.moveaxis(x, 1, -1), NUM_STEPS)
    compare("every state of 50 DDIM steps, against diffusers", name, ours, np.moveaxis(states, 2, -1), 1e-3)


@pytest.mark.parametrize("name", SCHEDULES)
def test_diffusers_samples_from_a_directory_that_we_saved(name, tmp_path, compare):
    scheduler = build_scheduler({"_class_name": "DDIMScheduler", **SCHEDULES[name]})
    UNet2DModel.from_pretrained(TRAINED).eval().save_pretrained(tmp_path / "theirs" / "unet")
    scheduler.save_pretrained(tmp_path / "theirs" / "scheduler")
    target = load_target(tmp_path / "theirs")
    save_target(target, tmp_path / "ours")
    pipeline = DDIMPipeline.from_pretrained(tmp_path / "ours")
    pipeline.set_progress_bar_config(disable=True)
    size, _, channels = target.image_shape
    noise = torch.randn((1, channels, size, size), generator=torch.Generator().manual_seed(1))
    seeded = torch.Generator().manual_seed(1)
    images = pipeline(1, seeded, num_inference_steps=10, use_clipped_model_output=False, output_type="np").images
    ours = ddim_states(target, noise.permute(0, 2, 3, 1).numpy(), 10)[-1]
    compare("images by diffusers, of a saved directory", name, np.clip(ours / 2 + 0.5, 0, 1), images, 1e-3)


@pytest.mark.parametrize("name", [name for name, options in adm.MODELS.items() if "num_head_channels" in options])
def test_diffusers_computes_what_adm_does_from_a_directory_that_we_saved(name, tmp_path, compare):
    """A guided-diffusion model that diffusers can express is one after conversion."""
    torch.save(adm.build(name, 4).state_dict(), tmp_path / "model.pt")
    (tmp_path / "model.json").write_text(json.dumps(adm.MODELS[name]))
    target = load_target(tmp_path / "model.pt")
    if target.net.time_proj_dim is not None:
        with pytest.raises(ValueError, match="time_proj_dim"):
            save_target(target, tmp_path / "saved")
        return
    save_target(target, tmp_path / "saved")
    unet, drawn = UNet2DModel.from_pretrained(tmp_path / "saved" / "unet").eval(), adm.evaluate(name, 4)
    classes = drawn["classes"] if len(drawn["classes"]) else None
    theirs = predict(unet, np.moveaxis(drawn["x"], -1, 1).copy(), drawn["t"], classes)
    compare(
        "ADM converted to diffusers, by diffusers", name, np.moveaxis(theirs, 1, -1), drawn["output"][..., :3], 1e-4
    )


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", adm.MODELS)
def test_adm_from_a_pt_file_equals_torch(name, seed, tmp_path, compare):
    torch.save(adm.build(name, seed).state_dict(), tmp_path / "model.pt")
    (tmp_path / "model.json").write_text(json.dumps(adm.MODELS[name]))
    drawn = adm.evaluate(name, seed)
    eps = adm_noise(tmp_path / "model.pt", drawn)
    compare("ADM output from its .pt, against torch", name, eps, drawn["output"][..., :3], 1e-4)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_guided_noise_equals_torch_autograd(seed, tmp_path, compare):
    torch.save(adm.build(torch_student.TARGET, seed).state_dict(), tmp_path / "model.pt")
    (tmp_path / "model.json").write_text(json.dumps(adm.MODELS[torch_student.TARGET]))
    drawn = torch_student.evaluate(seed)
    target = load_target(tmp_path / "model.pt")
    ours = guided_noise(target, seed, drawn["x"], drawn["t"], drawn["labels"], torch_student.SCALE)
    theirs = torch.from_numpy(drawn["logits"]).log_softmax(-1).numpy(), drawn["eps_hat"]
    compare("student's log-probabilities, against torch", f"seed {seed}", ours[0], theirs[0], 1e-4)
    compare("guided noise, against torch autograd", f"seed {seed}", ours[1], theirs[1], 1e-4)
