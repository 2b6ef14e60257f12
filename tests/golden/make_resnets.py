"""Golden values of SSCD's ResNet50 and of torchvision's ResNet34, from a plain torch version of both.

Run in the torch environment, in the repository root: python -m tests.golden.make_resnets. Writes
tests/golden/resnets.npz: images NHWC, outputs. Weights are `make_weights` of the modules' own names and shapes.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from tests.golden.weights import make_weights

FILE = Path(__file__).parent / "resnets.npz"
RESNET34 = RESNET50 = (3, 4, 6, 3)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions; the first carries the stride."""

    expansion = 1

    def __init__(self, inputs: int, features: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, features, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(features)
        self.conv2 = nn.Conv2d(features, features, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(features)
        self.downsample = shortcut(inputs, features, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(h + self.downsample(x))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions; the 3x3 one carries the stride (torchvision's "v1.5")."""

    expansion = 4

    def __init__(self, inputs: int, features: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, features, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(features)
        self.conv2 = nn.Conv2d(features, features, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(features)
        self.conv3 = nn.Conv2d(features, 4 * features, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * features)
        self.downsample = shortcut(inputs, 4 * features, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.relu(self.bn1(self.conv1(x)))
        h = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(h)))))
        return F.relu(h + self.downsample(x))


def shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    """The identity where shapes allow it, else a strided 1x1 convolution."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    """With torchvision's parameter names."""

    def __init__(self, block: type, stage_sizes: tuple[int, ...], outputs: int, width: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        inputs = width
        for stage, size in enumerate(stage_sizes):
            features, blocks = width * 2**stage, []
            for i in range(size):
                blocks.append(block(inputs, features, 2 if stage > 0 and i == 0 else 1))
                inputs = features * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


class GeM(nn.Module):
    """Generalised mean over the pixels, p = 3."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3)


class SSCD(nn.Module):
    """A ResNet with GeM pooling below `backbone.`, its output scaled to norm 1."""

    def __init__(self, stage_sizes: tuple[int, ...] = RESNET50, dims: int = 512, width: int = 64) -> None:
        super().__init__()
        self.backbone = ResNet(Bottleneck, stage_sizes, dims, width)
        self.backbone.avgpool = GeM()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.backbone(x))


def with_weights(net: nn.Module, seed: int = 0) -> nn.Module:
    """The network in eval mode, with `make_weights` for every tensor but BatchNorm's counters."""
    state = net.state_dict()
    made = make_weights({name: tuple(t.shape) for name, t in state.items() if t.is_floating_point()}, seed)
    net.load_state_dict({name: torch.from_numpy(made[name]) if name in made else t for name, t in state.items()})
    return net.eval()


def imagenet_input(images: np.ndarray) -> torch.Tensor:
    """uint8 [N, H, W, 3] -> what torchvision's ToTensor and Normalize make of it, [N, 3, H, W]."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (x - mean) / std


def golden() -> dict[str, np.ndarray]:
    """Images and what both networks make of them."""
    images = np.random.RandomState(0).randint(0, 256, (3, 80, 72, 3)).astype(np.uint8)
    images[1] = images[1] // 8 * np.arange(72, dtype=np.uint8)[:, None] // 16  # three images that differ in kind
    images[2] = np.linspace(0, 255, 80, dtype=np.uint8)[:, None, None]
    x = imagenet_input(images)
    with torch.no_grad():
        sscd, resnet34 = with_weights(SSCD())(x), with_weights(ResNet(BasicBlock, RESNET34, 1000))(x)
    return {"images": images, "sscd": sscd.numpy(), "resnet34": resnet34.numpy()}


if __name__ == "__main__":
    arrays = golden()
    for name in ("sscd", "resnet34"):
        print(name, "standard deviation", arrays[name].std(1), "cosines", np.corrcoef(arrays[name])[0])
    np.savez_compressed(FILE, **arrays)
