"""The time-conditioned student in torch (DESIGN §5), a small one, and the noise that it guides ADM to.

Keys are those of torchvision's ResNets; `time` is the module that each basic block has after its first batch norm.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.golden import adm
from tests.golden.weights import make_weights

CLASSES, WIDTH, TIME = 5, 8, 128  # of side_jax's "resnet10_tiny": one block in each of four stages
TARGET, SCALE = "legacy", 9.0


class TimeModule(nn.Module):
    """h (1 + s) + b, where (s, b) = Linear(SiLU(GroupNorm(emb)))."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm, self.proj = nn.GroupNorm(TIME // 4, TIME, eps=1e-6), nn.Linear(TIME, 2 * channels)

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        scale, shift = self.proj(functional.silu(self.norm(emb)))[:, :, None, None].chunk(2, dim=1)
        return h * (1 + scale) + shift


class BasicBlock(nn.Module):
    """He et al. 2016, Fig. 5 left, with the time module."""

    def __init__(self, inputs: int, channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, 1, bias=False)
        self.bn1, self.time = nn.BatchNorm2d(channels), TimeModule(channels)
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels)
        self.downsample = None
        if inputs != channels:
            shortcut = nn.Conv2d(inputs, channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = functional.relu(self.time(self.bn1(self.conv1(x)), emb))
        h = self.bn2(self.conv2(h))
        return functional.relu(h + (x if self.downsample is None else self.downsample(x)))


class Student(nn.Module):
    """(x_t [N, `channels`, H, W], t [N]) -> logits [N, CLASSES]."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        linears = {"linear_1": nn.Linear(TIME, TIME), "linear_2": nn.Linear(TIME, TIME)}
        self.time_embedding = nn.ModuleDict(linears)
        self.conv1, self.bn1 = nn.Conv2d(channels, WIDTH, 3, 1, 1, bias=False), nn.BatchNorm2d(WIDTH)
        widths = [WIDTH, WIDTH, 2 * WIDTH, 4 * WIDTH, 8 * WIDTH]
        for stage in range(1, 5):
            block = BasicBlock(widths[stage - 1], widths[stage], 1 if stage == 1 else 2)
            self.add_module(f"layer{stage}", nn.ModuleList([block]))
        self.fc = nn.Linear(widths[-1], CLASSES)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        angles = t[:, None].float() * torch.exp(-math.log(10_000) * torch.arange(TIME // 2) / (TIME // 2))
        emb = torch.cat([angles.cos(), angles.sin()], dim=1).to(self.fc.weight)
        emb = self.time_embedding["linear_2"](functional.silu(self.time_embedding["linear_1"](emb)))
        h = functional.relu(self.bn1(self.conv1(x)))
        for stage in range(1, 5):
            h = self.get_submodule(f"layer{stage}")[0](h, emb)
        return self.fc(h.mean((2, 3)))


def build(seed: int, channels: int = 3, change: Callable[[dict[str, np.ndarray]], None] | None = None) -> Student:
    """The student with the weights of that seed, edited by `change`; batch statistics frozen."""
    student = Student(channels).eval()
    shapes = {key: tuple(value.shape) for key, value in student.state_dict().items() if value.ndim}
    weights = make_weights(shapes, seed)
    if change:
        change(weights)
    tensors = {key: torch.from_numpy(value) for key, value in weights.items()}
    student.load_state_dict(tensors, strict=False)  # but for num_batches_tracked
    return student


def evaluate(seed: int) -> dict[str, np.ndarray]:
    """Inputs drawn from the seed, the student's logits and the guided noise, Eq. (10), by autograd: NHWC."""
    drawn = adm.evaluate(TARGET, seed)
    labels = np.random.RandomState(seed + 1).randint(0, CLASSES, len(drawn["t"])).astype(np.int32)
    x, t = torch.from_numpy(drawn["x"]).permute(0, 3, 1, 2).requires_grad_(), torch.from_numpy(drawn["t"])
    logits = build(seed)(x, t)
    (g,) = torch.autograd.grad(-functional.cross_entropy(logits, torch.from_numpy(labels).long(), reduction="sum"), x)
    alpha_bar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), dim=0)
    sigma = (1 - alpha_bar[t.long()]).sqrt().float()[:, None, None, None]
    guidance = (SCALE * sigma * g).permute(0, 2, 3, 1).numpy()
    return {
        "x": drawn["x"],
        "t": drawn["t"],
        "labels": labels,
        "logits": logits.detach().numpy(),
        "guidance": guidance,
        "eps_hat": drawn["output"] - guidance,
    }
