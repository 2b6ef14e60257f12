"""ADM's UNet in torch (Dhariwal & Nichol 2021, Appendix A), with guided-diffusion's flags and state-dict keys.

The reference that `side_jax.targets.guided_diffusion` is compared with, at widths that a test can afford. Attention is
written with one head axis, so that the two orders of query, key and value differ in one line.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.golden.weights import make_weights

MODELS: dict[str, dict[str, Any]] = {
    "legacy": {
        "image_size": 16,
        "num_channels": 32,
        "num_res_blocks": 1,
        "channel_mult": "1,2",
        "num_heads": 4,
        "attention_resolutions": "16,8",
        "use_scale_shift_norm": False,
    },
    "updown": {
        "image_size": 16,
        "num_channels": 32,
        "num_res_blocks": 2,
        "channel_mult": "1,1,2",
        "num_head_channels": 16,
        "attention_resolutions": "8",
        "resblock_updown": True,
        "learn_sigma": True,
        "class_cond": True,
    },
    "new_order": {
        "image_size": 16,
        "num_channels": 64,
        "num_res_blocks": 1,
        "channel_mult": "0.5,1",
        "num_head_channels": 16,
        "attention_resolutions": "8",
        "use_new_attention_order": True,
        "learn_sigma": True,
    },
}


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels)


class ResBlock(nn.Module):
    """Two normalised convolutions and a shortcut; `resample` doubles or halves the resolution before the first."""

    def __init__(self, inputs: int, outputs: int, time: int, scale_shift: bool, resample: nn.Module | None = None):
        super().__init__()
        self.scale_shift, self.resample = scale_shift, resample
        self.in_layers = nn.Sequential(norm(inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time, 2 * outputs if scale_shift else outputs))
        conv = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.out_layers = nn.Sequential(norm(outputs), nn.SiLU(), nn.Identity(), conv)  # place 2 is dropout's
        self.skip_connection = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.in_layers[:2](x)
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = self.in_layers[2](h)
        condition = self.emb_layers(emb)[:, :, None, None]
        if self.scale_shift:
            scale, shift = condition.chunk(2, dim=1)
            h = self.out_layers[1:](self.out_layers[0](h) * (1 + scale) + shift)
        else:
            h = self.out_layers(h + condition)
        return self.skip_connection(x) + h


class Attention(nn.Module):
    """Every pixel attends to every pixel, `heads` times."""

    def __init__(self, channels: int, heads: int, new_order: bool):
        super().__init__()
        self.heads, self.new_order = heads, new_order
        self.norm, self.qkv = norm(channels), nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        qkv = self.qkv(self.norm(x).reshape(n, channels, -1))
        split = (3, self.heads, -1) if self.new_order else (self.heads, 3, -1)
        q, k, v = qkv.reshape(n, *split, height * width).unbind(1 if self.new_order else 2)  # [n, heads, dim, pixels]
        weights = (q.transpose(-1, -2) @ k / math.sqrt(q.shape[2])).softmax(-1)
        h = (v @ weights.transpose(-1, -2)).reshape(n, channels, -1)
        return x + self.proj_out(h).reshape(x.shape)


class Resample(nn.Module):
    """Halves by a strided convolution (`op`), or doubles and convolves (`conv`)."""

    def __init__(self, channels: int, up: bool):
        super().__init__()
        if up:
            self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        else:
            self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.conv(nn.Upsample(scale_factor=2)(x)) if hasattr(self, "conv") else self.op(x)


class ADM(nn.Module):
    """(x_t [N, 3, H, W], t [N], classes [N] of a conditional model) -> [N, 3 or 6, H, W]."""

    def __init__(
        self,
        image_size: int,
        num_channels: int,
        num_res_blocks: int,
        channel_mult: str,
        attention_resolutions: str,
        num_heads: int = 4,
        num_head_channels: int = -1,
        use_scale_shift_norm: bool = True,
        resblock_updown: bool = False,
        use_new_attention_order: bool = False,
        learn_sigma: bool = False,
        class_cond: bool = False,
    ):
        super().__init__()
        self.num_channels, time = num_channels, 4 * num_channels
        widths = [int(float(m) * num_channels) for m in channel_mult.split(",")]
        attending = [image_size // int(resolution) for resolution in attention_resolutions.split(",")]

        def resnet(inputs: int, outputs: int, resample: nn.Module | None = None) -> ResBlock:
            return ResBlock(inputs, outputs, time, use_scale_shift_norm, resample)

        def attention(channels: int) -> Attention:
            heads = num_heads if num_head_channels == -1 else channels // num_head_channels
            return Attention(channels, heads, use_new_attention_order)

        def resample(channels: int, up: bool) -> nn.Module:
            if resblock_updown:
                return resnet(channels, channels, nn.Upsample(scale_factor=2) if up else nn.AvgPool2d(2))
            return Resample(channels, up)

        self.time_embed = nn.Sequential(nn.Linear(num_channels, time), nn.SiLU(), nn.Linear(time, time))
        if class_cond:
            self.label_emb = nn.Embedding(1000, time)
        h = widths[0]
        self.input_blocks = nn.ModuleList([nn.ModuleList([nn.Conv2d(3, h, 3, padding=1)])])
        skips = [h]
        for level, width in enumerate(widths):
            for _ in range(num_res_blocks):
                layers = [resnet(h, width)] + [attention(width)] * (2**level in attending)
                self.input_blocks.append(nn.ModuleList(layers))
                skips.append(h := width)
            if level + 1 < len(widths):
                self.input_blocks.append(nn.ModuleList([resample(h, up=False)]))
                skips.append(h)
        self.middle_block = nn.ModuleList([resnet(h, h), attention(h), resnet(h, h)])
        self.output_blocks = nn.ModuleList()
        for level, width in reversed(list(enumerate(widths))):
            for i in range(num_res_blocks + 1):
                layers = [resnet(h + skips.pop(), width)] + [attention(width)] * (2**level in attending)
                if level and i == num_res_blocks:
                    layers.append(resample(width, up=True))
                self.output_blocks.append(nn.ModuleList(layers))
                h = width
        self.out = nn.Sequential(norm(h), nn.SiLU(), nn.Conv2d(h, 6 if learn_sigma else 3, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, classes: Tensor | None = None) -> Tensor:
        half = self.num_channels // 2
        angles = t[:, None].float() * torch.exp(-math.log(10_000) * torch.arange(half) / half)
        emb = self.time_embed(torch.cat([angles.cos(), angles.sin()], dim=1))
        if classes is not None:
            emb = emb + self.label_emb(classes)
        h, skips = self.input_blocks[0][0](x), []
        skips.append(h)
        for layers in self.input_blocks[1:]:
            for layer in layers:
                h = layer(h, emb)
            skips.append(h)
        for layer in self.middle_block:
            h = layer(h, emb)
        for layers in self.output_blocks:
            h = torch.cat([h, skips.pop()], dim=1)
            for layer in layers:
                h = layer(h, emb)
        return self.out(h)


def build(name: str, seed: int) -> ADM:
    """One of `MODELS` with the weights of that seed."""
    model = ADM(**MODELS[name]).eval()
    weights = make_weights({key: tuple(value.shape) for key, value in model.state_dict().items()}, seed)
    model.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
    return model


def evaluate(name: str, seed: int) -> dict[str, np.ndarray]:
    """Inputs drawn from the seed, and what the network makes of them: NHWC. Without classes, `classes` is empty."""
    rng, conditional = np.random.RandomState(seed), MODELS[name].get("class_cond", False)
    size = MODELS[name]["image_size"]
    x, t = rng.standard_normal((2, size, size, 3)).astype(np.float32), rng.randint(0, 1000, 2).astype(np.int32)
    classes = rng.randint(0, 1000, 2 if conditional else 0).astype(np.int32)
    given = torch.from_numpy(classes) if conditional else None
    with torch.no_grad():
        output = build(name, seed)(torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(t), given)
    return {"x": x, "t": t, "classes": classes, "output": output.permute(0, 2, 3, 1).numpy()}
