"""ResNets: the teacher p(y | x) and, with time modules, the student p^t(y | x_t).

The family is torchvision's (He et al. 2016, basic blocks). With `time_conditioned` every basic block has one time
module right after its first batch norm (seed 002, Appendix C, Fig. 6).
"""

import dataclasses
from collections.abc import Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util
from flax.typing import VariableDict

from side_jax.targets.conv import Conv, he_init, torch_init
from side_jax.targets.layers import TimestepMLP, timestep_embedding

_TIME_FEATURES = 128  # size of the shared timestep embedding; groups of 4 for its normalisation


@dataclasses.dataclass(frozen=True)
class ResNetArch:
    """Blocks per stage, channels of the first stage, and the stem: one convolution, and max-pooling or not."""

    stage_sizes: tuple[int, ...]
    width: int
    stem_kernel: int = 7
    stem_stride: int = 2
    stem_pool: bool = True

    def blocks(self) -> Iterator[tuple[int, int, str]]:
        """Channels, stride and name of every block: the first of every stage but the first one halves the image."""
        for stage, size in enumerate(self.stage_sizes):
            for block in range(size):
                yield self.width * 2**stage, 2 if stage > 0 and block == 0 else 1, f"layer{stage + 1}_{block}"


ARCHITECTURES = {
    "resnet34": ResNetArch((3, 4, 6, 3), 64),
    "resnet18": ResNetArch((2, 2, 2, 2), 64),
    # For images of 16 to 64 pixels.
    "resnet18_small": ResNetArch((2, 2, 2, 2), 32, stem_kernel=3, stem_stride=1, stem_pool=False),
    "resnet10_small": ResNetArch((1, 1, 1, 1), 32, stem_kernel=3, stem_stride=2, stem_pool=False),
    "resnet10_tiny": ResNetArch((1, 1, 1, 1), 8, stem_kernel=3, stem_stride=1, stem_pool=False),
}

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB in [0, 1]: what torchvision's networks and SSCD expect removed
IMAGENET_STD = (0.229, 0.224, 0.225)


def imagenet_normalize(x: jax.Array) -> jax.Array:
    """[0, 1] -> ImageNet's mean removed and deviation 1; gray is repeated. [N, H, W, 1 or 3] -> [N, H, W, 3]."""
    x = jnp.broadcast_to(x, (*x.shape[:-1], 3))
    mean, std = (jnp.asarray(value, x.dtype).reshape(1, 1, 1, 3) for value in (IMAGENET_MEAN, IMAGENET_STD))
    return (x - mean) / std


class TimeModule(nn.Module):
    """h = x_BN (1 + s) + b, with (s, b) = Linear(SiLU(GroupNorm(timestep embedding))).

    The linear layer starts at zero, so that the student starts at its teacher.
    """

    @nn.compact
    def __call__(self, x: jax.Array, emb: jax.Array) -> jax.Array:
        h = nn.silu(nn.GroupNorm(num_groups=_TIME_FEATURES // 4, name="norm")(emb))
        zero = nn.initializers.zeros
        h = nn.Dense(2 * x.shape[-1], kernel_init=zero, name="proj")(h).astype(x.dtype)
        scale, shift = jnp.split(h, 2, axis=-1)
        return x * (1 + scale[:, None, None, :]) + shift[:, None, None, :]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; `emb` is the timestep embedding of a time-conditioned net, or None."""

    features: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, emb: jax.Array | None, train: bool) -> jax.Array:
        h = Conv(self.features, stride=self.stride, use_bias=False, kernel_init=he_init, name="conv1")(x)
        h = batch_norm(h, "bn1", train)
        if emb is not None:
            h = TimeModule(name="time")(h, emb)
        h = Conv(self.features, use_bias=False, kernel_init=he_init, name="conv2")(nn.relu(h))
        h = batch_norm(h, "bn2", train)
        if x.shape != h.shape:
            x = Conv(self.features, 1, self.stride, 0, False, he_init, name="downsample_0")(x)
            x = batch_norm(x, "downsample_1", train)
        return nn.relu(x + h)


class ResNet(nn.Module):
    """Class logits of an image; with `time_conditioned`, of a noisy image at timestep t.

    With `imagenet_input` the first layer gets torchvision's input: RGB in [0, 1], gray repeated, less ImageNet's mean,
    over its deviation. (Zero padding comes after that, so no first convolution could absorb it.)
    """

    arch: ResNetArch
    num_classes: int
    time_conditioned: bool = False
    imagenet_input: bool = False

    @nn.compact
    def __call__(
        self, x: jax.Array, t: jax.Array | None = None, train: bool = False, features: bool = False
    ) -> jax.Array:
        """float [N, H, W, C] in [−1, 1], int [N] -> logits [N, K]; with `features`, the pooled [N, D] before `fc`.

        Blocks run in the dtype of x; the time embedding, normalisation, pooling and `fc` in float32, as is the result.
        `train` uses and updates batch statistics.
        """
        emb = None
        if self.time_conditioned:
            if t is None:
                raise ValueError("a time-conditioned ResNet needs t")
            emb = TimestepMLP(_TIME_FEATURES, name="time_embedding")(timestep_embedding(t, _TIME_FEATURES))
        x = stem(self.arch, imagenet_normalize((x + 1) / 2) if self.imagenet_input else x, train)
        for channels, stride, name in self.arch.blocks():
            x = BasicBlock(channels, stride, name=name)(x, emb, train)
        x = x.astype(jnp.float32).mean((1, 2))
        return x if features else nn.Dense(self.num_classes, kernel_init=torch_init, name="fc")(x)


def stem(arch: ResNetArch, x: jax.Array, train: bool) -> jax.Array:
    """`conv1`, `bn1` and max-pooling, as submodules of the module that calls this."""
    padding = arch.stem_kernel // 2
    x = Conv(arch.width, arch.stem_kernel, arch.stem_stride, padding, False, he_init, name="conv1")(x)
    x = nn.relu(batch_norm(x, "bn1", train))
    return nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1))) if arch.stem_pool else x


def batch_norm(x: jax.Array, name: str, train: bool) -> jax.Array:
    """torchvision's: statistics move by 0.1 a step (torch's momentum 0.1 is Flax's 0.9). In float32 whatever x is."""
    norm = nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, name=name)
    return norm(x.astype(jnp.float32)).astype(x.dtype)


def start_at_teacher(student: VariableDict, teacher: VariableDict) -> VariableDict:
    """The student's variables, with the teacher's values for all that the teacher has too."""
    own = traverse_util.flatten_dict(student)
    taken = {path: jnp.array(leaf) for path, leaf in traverse_util.flatten_dict(teacher).items() if path in own}
    return traverse_util.unflatten_dict(own | taken)
