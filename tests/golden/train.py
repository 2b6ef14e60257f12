"""Training in torch with diffusers' learning-rate schedule and EMA, as its unconditional example has them.

A linear regression: everything but the network is what a UNet's training has.
"""

from typing import Any

import numpy as np
import torch
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel

# Fields of TrainOptions. The average's decay reaches its maximum after 20 steps.
OPTIONS: dict[str, Any] = {
    "num_steps": 60,
    "batch_size": 4,
    "learning_rate": 0.05,
    "warmup_steps": 10,
    "b1": 0.95,
    "b2": 0.999,
    "weight_decay": 1e-2,
    "clip_norm": 1.0,
    "ema_max": 0.9,
    "ema_power": 0.75,
}
SCHEDULES = ((500, 3000), (10, 60), (0, 25))  # warm-up, all steps
EMA_STEPS, EMA_MAX, EMA_POWER = 250_000, 0.9999, 0.75  # the paper's; the maximum is reached at step 215,443


def learning_rates(warmup: int, steps: int) -> np.ndarray:
    """The learning rate of every step, for a peak of 1."""
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = get_cosine_schedule_with_warmup(optimizer, warmup, steps)
    rates = []
    for _ in range(steps):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return np.array(rates, np.float32)


def ema_decays(every: int) -> np.ndarray:
    """The decay that EMAModel uses in its first, and from there in every n-th, of `EMA_STEPS` calls of `step`."""
    ema = _ema([torch.zeros(1)], EMA_MAX, EMA_POWER)
    return np.array([ema.get_decay(call) for call in range(1, EMA_STEPS + 1, every)], np.float32)


def trajectory(seed: int) -> dict[str, np.ndarray]:
    """Data drawn from the seed; the weights and their average after every step of `OPTIONS`."""
    rng, steps, size = np.random.RandomState(seed), OPTIONS["num_steps"], OPTIONS["batch_size"]
    x, y, start = (rng.standard_normal(shape).astype(np.float32) for shape in ((steps, size, 5), (steps, size), (5,)))
    w = torch.nn.Parameter(torch.from_numpy(start.copy()))
    betas = (OPTIONS["b1"], OPTIONS["b2"])
    optimizer = torch.optim.AdamW([w], OPTIONS["learning_rate"], betas, weight_decay=OPTIONS["weight_decay"])
    scheduler = get_cosine_schedule_with_warmup(optimizer, OPTIONS["warmup_steps"], steps)
    ema = _ema([w], OPTIONS["ema_max"], OPTIONS["ema_power"])
    weights, averages = [], []
    for inputs, targets in zip(torch.from_numpy(x), torch.from_numpy(y), strict=True):
        optimizer.zero_grad()
        (inputs @ w - targets).square().mean().backward()
        torch.nn.utils.clip_grad_norm_([w], OPTIONS["clip_norm"])
        optimizer.step()
        scheduler.step()
        ema.step([w])
        weights.append(w.detach().numpy().copy())
        averages.append(ema.shadow_params[0].numpy().copy())
    return {"x": x, "y": y, "start": start, "weights": np.array(weights), "averages": np.array(averages)}


def _ema(parameters: list[torch.Tensor], maximum: float, power: float) -> EMAModel:
    return EMAModel(parameters, decay=maximum, use_ema_warmup=True, inv_gamma=1.0, power=power)
