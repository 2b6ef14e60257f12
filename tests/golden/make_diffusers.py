"""Golden values: diffusers' own UNet2DModel and DDIMScheduler on small random models, written by diffusers itself.

Run in the torch environment, in the root of the repository: python -m tests.golden.make_diffusers. It writes

  tests/golden/NAME/            a pipeline directory and golden.npz (inputs, outputs, a 10-step DDIM trajectory);
  tests/golden/unets/NAME/      config.json and golden.npz, of weights that `make_weights` makes again;
  tests/golden/schedules/NAME/  scheduler_config.json and golden.npz (timesteps, ᾱ, a trajectory of the demo's target).

Arrays of images are NHWC.
"""

from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel

from tests.golden.diffusers_models import (
    NUM_STEPS,
    SCHEDULES,
    STEP_COUNTS,
    UNETS,
    build_scheduler,
    build_unet,
    inputs,
    load_trained,
    predict,
    trajectory,
)

GOLDEN = Path(__file__).parent
MODELS = {
    "plain": {
        "in_channels": 1,
        "out_channels": 1,
        "block_out_channels": (8, 16),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "attention_head_dim": 8,
    },
    "options": {
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": (8, 16),
        "down_block_types": ("AttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "AttnUpBlock2D"),
        "layers_per_block": 2,
        "norm_num_groups": 8,
        "attention_head_dim": None,
        "resnet_time_scale_shift": "scale_shift",
        "downsample_type": "resnet",
        "upsample_type": "resnet",
        "freq_shift": 1,
        "flip_sin_to_cos": False,
        "norm_eps": 1e-6,
        "center_input_sample": True,
    },
    "padding": {
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": (8, 8, 16),
        "down_block_types": ("DownBlock2D", "DownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "downsample_padding": 0,
        "add_attention": False,
        "mid_block_scale_factor": 1.5,
    },
}


def write_pipelines() -> None:
    """Whole directories, weights and all, as diffusers lays them out."""
    for name, options in MODELS.items():
        torch.manual_seed(0)
        unet = UNet2DModel(sample_size=16, **options).eval()
        for parameter in unet.parameters():  # biases and scales off their 0 and 1
            parameter.data += 0.05 * torch.randn_like(parameter)
        scheduler = DDIMScheduler(num_train_timesteps=1000)
        folder = GOLDEN / name
        DDIMPipeline(unet, scheduler).save_pretrained(folder)
        x = torch.randn(2, options["in_channels"], 16, 16)
        t = torch.tensor([3, 700])
        with torch.no_grad():
            eps = unet(x, t).sample
            scheduler.set_timesteps(10)
            states, x_t = [], x
            for step in scheduler.timesteps:
                x_t = scheduler.step(unet(x_t, step).sample, step, x_t).prev_sample
                states.append(x_t)
        nhwc = [np.moveaxis(a.numpy(), -3, -1) for a in (x, eps, torch.stack(states))]
        np.savez_compressed(
            folder / "golden.npz", x=nhwc[0], t=t.numpy(), eps=nhwc[1], trajectory=nhwc[2], steps=scheduler.timesteps
        )


def write_unets() -> None:
    """Configs and outputs of the architectures in `UNETS`."""
    for name, options in UNETS.items():
        unet, (x, t, classes) = build_unet(options), inputs(options)
        unet.save_config(GOLDEN / "unets" / name)
        output = np.moveaxis(predict(unet, x, t, classes), 1, -1)
        arrays = {"x": np.moveaxis(x, 1, -1), "t": t, "output": output}
        if classes is not None:
            arrays["classes"] = classes
        np.savez_compressed(GOLDEN / "unets" / name / "golden.npz", **arrays)


def write_schedules() -> None:
    """Configs, timesteps, ᾱ and trajectories of the schedules in `SCHEDULES`."""
    unet = load_trained()
    x, _, _ = inputs(unet.config)
    x = x[:1]
    for name, options in SCHEDULES.items():
        scheduler = build_scheduler(options)
        scheduler.save_config(GOLDEN / "schedules" / name)
        arrays = {"x": np.moveaxis(x, 1, -1), "alpha_bar": scheduler.alphas_cumprod.numpy()}
        arrays["trajectory"] = np.moveaxis(trajectory(unet, scheduler, x, NUM_STEPS), 2, -1)
        for count in STEP_COUNTS:
            ddim = DDIMScheduler.from_config(scheduler.config)
            ddim.set_timesteps(count)
            arrays[f"steps_{count}"] = ddim.timesteps.numpy()
        np.savez_compressed(GOLDEN / "schedules" / name / "golden.npz", **arrays)


if __name__ == "__main__":
    write_pipelines()
    write_unets()
    write_schedules()
