import json

import jax
import numpy as np
import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel

from side_jax import load_target
from side_jax.diffusion.ddim import ddim_step
from side_jax.interop.diffusers import save_target
from tests.golden import adm
from tests.golden import student as torch_student
from tests.golden.make_diffusers import MODELS
from tests.golden.ours import adm_noise, guided_noise
from tests.golden.weights import make_weights


def diffusers_unet(name, seed):
    unet = UNet2DModel(sample_size=16, **MODELS[name]).eval()
    shapes = {key: tuple(value.shape) for key, value in unet.state_dict().items()}
    unet.load_state_dict({key: torch.from_numpy(value) for key, value in make_weights(shapes, seed).items()})
    return unet


def nchw(x):
    return torch.from_numpy(np.array(x)).permute(0, 3, 1, 2)


def nhwc(x):
    return x.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_unet_and_50_ddim_steps_equal_diffusers(name, seed, tmp_path, compare):
    unet, scheduler = diffusers_unet(name, seed), DDIMScheduler(num_train_timesteps=1000)
    DDIMPipeline(unet, scheduler).save_pretrained(tmp_path)
    target = load_target(tmp_path)
    rng = np.random.RandomState(seed)
    x = rng.standard_normal((2, 16, 16, MODELS[name]["in_channels"])).astype(np.float32)
    t = rng.randint(0, 1000, 2).astype(np.int32)
    eps = jax.jit(target.eps)
    with torch.no_grad():
        compare(
            "UNet against diffusers' UNet2DModel", name, eps(x, t), nhwc(unet(nchw(x), torch.tensor(t)).sample), 1e-4
        )
        scheduler.set_timesteps(50)
        alpha_bar, steps, ours, theirs = target.schedule.alpha_bar(), target.schedule.ddim_timesteps(50), x, nchw(x)
        for i, step in enumerate(steps):
            after = alpha_bar[steps[i + 1]] if i + 1 < len(steps) else np.float32(1)
            ours = ddim_step(ours, eps(ours, np.full(2, step)), alpha_bar[step], after)
            theirs = scheduler.step(unet(theirs, int(step)).sample, int(step), theirs).prev_sample
            compare("50 steps of DDIM against DDIMScheduler", name, ours, nhwc(theirs), 1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_diffusers_samples_from_a_directory_that_we_saved(name, tmp_path, compare):
    DDIMPipeline(diffusers_unet(name, 3), DDIMScheduler()).save_pretrained(tmp_path / "theirs")
    target = load_target(tmp_path / "theirs")
    save_target(target, tmp_path / "ours")
    pipeline = DDIMPipeline.from_pretrained(tmp_path / "ours")
    pipeline.set_progress_bar_config(disable=True)
    shape = (2, MODELS[name]["in_channels"], 16, 16)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    images = pipeline(2, generator, num_inference_steps=10, output_type="np").images
    alpha_bar, steps, x_t = target.schedule.alpha_bar(), target.schedule.ddim_timesteps(10), nhwc(noise)
    eps = jax.jit(target.eps)
    for i, step in enumerate(steps):
        after = alpha_bar[steps[i + 1]] if i + 1 < len(steps) else np.float32(1)
        x_t = ddim_step(x_t, eps(x_t, np.full(2, step)), alpha_bar[step], after)
    compare("images of a saved directory, by diffusers", name, np.clip(x_t / 2 + 0.5, 0, 1), images, 1e-3)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", adm.MODELS)
def test_adm_from_a_pt_file_equals_torch(name, seed, tmp_path, compare):
    torch.save(adm.build(name, seed).state_dict(), tmp_path / "model.pt")
    (tmp_path / "model.json").write_text(json.dumps(adm.MODELS[name]))
    drawn = adm.evaluate(name, seed)
    eps = adm_noise(tmp_path / "model.pt", drawn)
    compare("ADM from its .pt against torch", name, eps, drawn["output"][..., :3], 1e-4)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_guided_noise_equals_torch_autograd(seed, tmp_path, compare):
    torch.save(adm.build(torch_student.TARGET, seed).state_dict(), tmp_path / "model.pt")
    (tmp_path / "model.json").write_text(json.dumps(adm.MODELS[torch_student.TARGET]))
    drawn = torch_student.evaluate(seed)
    target = load_target(tmp_path / "model.pt")
    ours = guided_noise(target, seed, drawn["x"], drawn["t"], drawn["labels"], torch_student.SCALE)
    theirs = torch.from_numpy(drawn["logits"]).log_softmax(-1).numpy(), drawn["eps_hat"]
    compare("student's log-probabilities against torch", f"seed {seed}", ours[0], theirs[0], 1e-4)
    compare("guided noise against torch autograd", f"seed {seed}", ours[1], theirs[1], 1e-4)
