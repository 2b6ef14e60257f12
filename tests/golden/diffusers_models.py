"""What is compared with diffusers: UNets, schedules, and how to make both on the torch side.

The tables need neither torch nor diffusers. Weights are `make_weights`, under diffusers' names.
"""

from pathlib import Path
from typing import Any

import numpy as np

from tests.golden.weights import make_weights

# Public architectures block for block, narrower: the widths are divided by 16, the groups by 8.
_DDPM = {
    "attention_head_dim": None,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
    "norm_num_groups": 4,
}
UNETS: dict[str, dict[str, Any]] = {
    "ddpm_cifar10_32": {
        **_DDPM,
        "sample_size": 16,
        "block_out_channels": (8, 16, 16, 16),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    },
    "ddpm_celebahq_256": {
        **_DDPM,
        "sample_size": 32,
        "block_out_channels": (8, 8, 16, 16, 32, 32),
        "down_block_types": ("DownBlock2D",) * 4 + ("AttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "AttnUpBlock2D") + ("UpBlock2D",) * 4,
    },
    "paper_128": {
        "sample_size": 32,
        "block_out_channels": (8, 8, 16, 16, 32, 32),
        "down_block_types": ("DownBlock2D",) * 4 + ("AttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "AttnUpBlock2D") + ("UpBlock2D",) * 4,
        "norm_num_groups": 4,
    },
    "classes": {
        "sample_size": 8,
        "in_channels": 1,
        "out_channels": 2,  # a learned variance, too
        "block_out_channels": (8, 16),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "num_class_embeds": 5,
    },
}
# A trained model for the trajectories: those of a random one are chaotic, and float32 rounding alone parts them.
TRAINED = Path(__file__).parents[2] / "assets" / "orl_target"
SCHEDULES: dict[str, dict[str, Any]] = {
    "linear": {},
    "ddpm": {"_class_name": "DDPMScheduler", "variance_type": "fixed_large", "set_alpha_to_one": None},
    "scaled_linear_offset": {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "steps_offset": 1,
        "set_alpha_to_one": False,
        "clip_sample": False,
    },
    "cosine_clipped_at_2": {"beta_schedule": "squaredcos_cap_v2", "clip_sample_range": 2.0},
    "cosine_zero_snr_trailing_v": {
        "beta_schedule": "squaredcos_cap_v2",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
        "prediction_type": "v_prediction",
    },
    "linear_zero_snr_linspace_v_unclipped": {
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "linspace",
        "prediction_type": "v_prediction",
        "clip_sample": False,
    },
    "cosine_trailing_sample": {
        "beta_schedule": "squaredcos_cap_v2",
        "timestep_spacing": "trailing",
        "prediction_type": "sample",
    },
    "linspace_sample": {"timestep_spacing": "linspace", "prediction_type": "sample", "set_alpha_to_one": False},
    "trained_betas": {
        "num_train_timesteps": 100,
        "trained_betas": tuple(round(0.001 * 1.05**t, 6) for t in range(100)),
    },
}
NUM_STEPS = 50
# Numbers of steps whose timesteps are compared: with T // S exact, and not, where rounding and the spacings part.
STEP_COUNTS = (1, 3, 7, 30, NUM_STEPS)


def inputs(unet: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """x [2, C, H, W], t [2], and classes [2] if the UNet takes any."""
    size, channels = unet["sample_size"], unet.get("in_channels", 3)
    x = np.random.RandomState(0).standard_normal((2, channels, size, size)).astype(np.float32)
    return x, np.array([3, 700]), np.array([0, 4]) if "num_class_embeds" in unet else None


def build_unet(options: dict[str, Any]) -> Any:
    """diffusers' UNet2DModel in evaluation mode, with the weights of `make_weights`."""
    import torch
    from diffusers import UNet2DModel

    unet = UNet2DModel(**options)
    shapes = {name: tuple(tensor.shape) for name, tensor in unet.state_dict().items()}
    unet.load_state_dict({name: torch.from_numpy(value) for name, value in make_weights(shapes).items()})
    return unet.eval()


def load_trained() -> Any:
    """diffusers' UNet2DModel with the weights of `TRAINED`."""
    from diffusers import UNet2DModel

    return UNet2DModel.from_pretrained(TRAINED / "unet").eval()


def build_scheduler(options: dict[str, Any]) -> Any:
    """diffusers' DDIMScheduler, or the scheduler of the class named by `_class_name`."""
    import diffusers

    given = {key: value for key, value in options.items() if value is not None and key != "_class_name"}
    return getattr(diffusers, options.get("_class_name", "DDIMScheduler"))(**given)


def predict(unet: Any, x: np.ndarray, t: np.ndarray, classes: np.ndarray | None) -> np.ndarray:
    """The UNet's output, NCHW."""
    import torch

    with torch.no_grad():
        labels = None if classes is None else torch.from_numpy(classes)
        return unet(torch.from_numpy(x), torch.from_numpy(t), labels).sample.numpy()


def trajectory(unet: Any, scheduler: Any, x: np.ndarray, num_steps: int) -> np.ndarray:
    """Every tenth state of a DDIM trajectory from x, the last one among them: [S / 10, N, C, H, W]."""
    import torch
    from diffusers import DDIMScheduler

    ddim = DDIMScheduler.from_config(scheduler.config)
    ddim.set_timesteps(num_steps)
    x_t, states = torch.from_numpy(x), []
    with torch.no_grad():
        for t in ddim.timesteps:
            x_t = ddim.step(unet(x_t, t).sample, t, x_t).prev_sample
            states.append(x_t.numpy())
    return np.stack(states[9::10])
