"""The noise-prediction UNet: diffusers' `UNet2DModel`, block for block and option for option.

Field names are diffusers' config keys and submodule names its parameter names (`down_blocks.0.resnets.1.conv1`), so
that `side_jax.targets.diffusers` maps weights by name alone. Activations are NHWC.
"""

import dataclasses
import re
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from side_jax.targets.conv import Conv
from side_jax.targets.layers import (
    Attention,
    Downsample,
    GroupNorm,
    ResnetBlock,
    TimestepMLP,
    Upsample,
    timestep_embedding,
)
from side_jax.targets.target import Network

DOWN_BLOCKS = ("DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D")
UP_BLOCKS = ("UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D")
_LISTS = re.compile(r"(down_blocks|up_blocks|resnets|attentions|downsamplers|upsamplers|to_out)_(\d+)")


def module_name(path: Sequence[str]) -> str:
    """diffusers' name of a submodule: ("up_blocks_1", "resnets_0", "conv1") -> "up_blocks.1.resnets.0.conv1"."""
    return ".".join(_LISTS.sub(r"\1.\2", module) for module in path)


@dataclasses.dataclass(frozen=True)
class BlockOptions:
    """Options that all blocks of one UNet share."""

    groups: int
    epsilon: float
    head_dim: int | None
    num_heads: int | None
    scale_shift: bool
    dropout: float

    def resnet(self, features: int, name: str, resample: str | None = None, divide_by: float = 1.0) -> ResnetBlock:
        return ResnetBlock(
            features, self.groups, self.epsilon, self.scale_shift, self.dropout, divide_by, resample, name=name
        )

    def attention(self, name: str, channels: int) -> Attention:
        return Attention(self.head_dim_of(channels), self.groups, self.epsilon, name=name)

    def head_dim_of(self, channels: int) -> int | None:
        """Channels of one attention head in a layer of `channels`; None means one head."""
        return self.head_dim if self.num_heads is None else channels // self.num_heads


class DownBlock(nn.Module):
    """ResNet blocks, each followed by attention if asked, then downsampling; every output is a skip."""

    features: int
    num_layers: int
    attention: bool
    downsample: str | None  # None | "conv" | "resnet"
    padding: int
    options: BlockOptions

    @nn.compact
    def __call__(self, h: jax.Array, emb: jax.Array, deterministic: bool) -> tuple[jax.Array, list[jax.Array]]:
        skips = []
        for i in range(self.num_layers):
            h = self.options.resnet(self.features, f"resnets_{i}")(h, emb, deterministic)
            if self.attention:
                h = self.options.attention(f"attentions_{i}", self.features)(h)
            skips.append(h)
        if self.downsample == "conv":
            h = Downsample(self.features, self.padding, name="downsamplers_0")(h)
        elif self.downsample == "resnet":
            h = self.options.resnet(self.features, "downsamplers_0", resample="down")(h, emb, deterministic)
        return h, [*skips, h] if self.downsample else skips


class MidBlock(nn.Module):
    """ResNet block, attention if asked, ResNet block, at the lowest resolution."""

    attention: bool
    attention_groups: int | None
    divide_by: float
    options: BlockOptions

    @nn.compact
    def __call__(self, h: jax.Array, emb: jax.Array, deterministic: bool) -> jax.Array:
        features = h.shape[-1]
        h = self.options.resnet(features, "resnets_0", divide_by=self.divide_by)(h, emb, deterministic)
        if self.attention:
            h = Attention(
                self.options.head_dim_of(features),
                self.attention_groups,
                self.options.epsilon,
                self.divide_by,
                name="attentions_0",
            )(h)
        return self.options.resnet(features, "resnets_1", divide_by=self.divide_by)(h, emb, deterministic)


class UpBlock(nn.Module):
    """Like `DownBlock`, mirrored: each ResNet block reads one skip, then upsampling."""

    features: int
    num_layers: int
    attention: bool
    upsample: str | None  # None | "conv" | "resnet"
    options: BlockOptions

    @nn.compact
    def __call__(self, h: jax.Array, skips: list[jax.Array], emb: jax.Array, deterministic: bool) -> jax.Array:
        for i in range(self.num_layers):
            h = jnp.concatenate([h, skips[-1 - i]], axis=-1)
            h = self.options.resnet(self.features, f"resnets_{i}")(h, emb, deterministic)
            if self.attention:
                h = self.options.attention(f"attentions_{i}", self.features)(h)
        if self.upsample == "conv":
            h = Upsample(self.features, name="upsamplers_0")(h)
        elif self.upsample == "resnet":
            h = self.options.resnet(self.features, "upsamplers_0", resample="up")(h, emb, deterministic)
        return h


class UNet(Network):
    """eps_theta(x_t, t): noisy images in, the noise in them out. Defaults are those of diffusers' `UNet2DModel`.

    Three fields diffusers does not have; guided-diffusion's models need them:
      num_attention_heads: heads of every attention layer, in place of `attention_head_dim`.
      time_proj_dim: size of the sinusoidal timestep embedding, in place of the first of `block_out_channels`.
      time_scale: t is multiplied by it before it is embedded.
    """

    sample_size: int | None = None
    in_channels: int = 3
    out_channels: int = 3
    center_input_sample: bool = False
    time_embedding_dim: int | None = None
    freq_shift: int = 0
    flip_sin_to_cos: bool = True
    down_block_types: tuple[str, ...] = ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D")
    up_block_types: tuple[str, ...] = ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D")
    block_out_channels: tuple[int, ...] = (224, 448, 672, 896)
    layers_per_block: int = 2
    mid_block_scale_factor: float = 1.0
    downsample_padding: int = 1
    downsample_type: str = "conv"
    upsample_type: str = "conv"
    dropout: float = 0.0
    attention_head_dim: int | None = 8
    norm_num_groups: int = 32
    attn_norm_num_groups: int | None = None
    norm_eps: float = 1e-5
    resnet_time_scale_shift: str = "default"
    add_attention: bool = True
    num_class_embeds: int | None = None
    num_attention_heads: int | None = None
    time_proj_dim: int | None = None
    time_scale: float = 1.0

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of its images."""
        if self.sample_size is None:
            raise ValueError("the target's config has no sample_size; add it to its config.json")
        return (self.sample_size, self.sample_size, self.in_channels)

    @property
    def num_classes(self) -> int | None:
        """Number of classes of a class-conditional model; None for any other."""
        return self.num_class_embeds

    def check(self, image_size: int, channels: int) -> None:
        """As `Network.check`."""
        check_unet(self, image_size, channels)

    @nn.compact
    def __call__(
        self,
        x_t: jax.Array,
        t: jax.Array,
        classes: jax.Array | None = None,
        deterministic: bool = True,
        dtype: DTypeLike = jnp.float32,
    ) -> jax.Array:
        """float32 [N, H, W, C], int [N] -> float32 [N, H, W, C']; `deterministic=False` needs a "dropout" rng.

        Blocks run in `dtype`; the first and the last layer, which cost little, in float32: x_t and ε̂ are not rounded.
        `classes`, int [N], are needed if and only if `num_class_embeds` says how many there are.
        """
        if (classes is None) != (self.num_class_embeds is None):
            needed = (
                f"needs classes in 0 … {self.num_class_embeds - 1}" if self.num_class_embeds else "takes no classes"
            )
            raise ValueError(f"a UNet with num_class_embeds={self.num_class_embeds} {needed}, got {classes}")
        if self.center_input_sample:
            x_t = 2 * x_t - 1
        scale_shift = self.resnet_time_scale_shift == "scale_shift"
        options = BlockOptions(
            self.norm_num_groups,
            self.norm_eps,
            self.attention_head_dim,
            self.num_attention_heads,
            scale_shift,
            self.dropout,
        )
        time_proj_dim = self.time_proj_dim or self.block_out_channels[0]
        if self.time_scale != 1:
            t = t.astype(jnp.float32) * self.time_scale
        emb = timestep_embedding(t, time_proj_dim, self.flip_sin_to_cos, self.freq_shift)
        emb = TimestepMLP(self.time_embedding_dim or 4 * self.block_out_channels[0], name="time_embedding")(emb)
        if self.num_class_embeds is not None:
            emb = emb + nn.Embed(self.num_class_embeds, emb.shape[-1], name="class_embedding")(classes)

        h = Conv(self.block_out_channels[0], name="conv_in")(x_t).astype(dtype)
        skips = [h]
        last = len(self.block_out_channels) - 1
        for i, (kind, features) in enumerate(zip(self.down_block_types, self.block_out_channels, strict=True)):
            attention = kind == "AttnDownBlock2D"
            downsample = None if i == last else resampling(kind, self.downsample_type)
            down = DownBlock(
                features,
                self.layers_per_block,
                attention,
                downsample,
                self.downsample_padding,
                options,
                name=f"down_blocks_{i}",
            )
            h, outputs = down(h, emb, deterministic)
            skips += outputs

        mid_groups = self.attn_norm_num_groups or (None if scale_shift else self.norm_num_groups)
        mid = MidBlock(self.add_attention, mid_groups, self.mid_block_scale_factor, options, name="mid_block")
        h = mid(h, emb, deterministic)

        num_layers = self.layers_per_block + 1
        for i, (kind, features) in enumerate(zip(self.up_block_types, self.block_out_channels[::-1], strict=True)):
            attention = kind == "AttnUpBlock2D"
            upsample = None if i == last else resampling(kind, self.upsample_type)
            up = UpBlock(features, num_layers, attention, upsample, options, name=f"up_blocks_{i}")
            h = up(h, skips[-num_layers:], emb, deterministic)
            skips = skips[:-num_layers]

        h = h.astype(jnp.float32)
        h = nn.silu(GroupNorm(self.norm_num_groups, self.norm_eps, name="conv_norm_out")(h))
        return Conv(self.out_channels, name="conv_out")(h)


def resampling(kind: str, chosen: str) -> str:
    """How a block of type `kind` changes resolution, given `downsample_type` or `upsample_type`: "conv" or "resnet".

    In diffusers only the attention blocks heed that option.
    """
    if kind.startswith("Attn"):
        return chosen
    return "resnet" if kind.startswith("Resnet") else "conv"


def check_unet(unet: UNet, image_size: int, channels: int) -> None:
    """Raises `ValueError`, naming the option, if `unet` cannot denoise [N, image_size, image_size, channels]."""
    _check_values(unet)
    levels = len(unet.block_out_channels)
    for name, kinds, known in (
        ("down_block_types", unet.down_block_types, DOWN_BLOCKS),
        ("up_block_types", unet.up_block_types, UP_BLOCKS),
    ):
        if len(kinds) != levels:
            raise ValueError(f"unet.{name} has {len(kinds)} entries, unet.block_out_channels has {levels}")
        unknown = [kind for kind in kinds if kind not in known]
        if unknown:
            raise ValueError(f"unet.{name}: {unknown[0]!r} is not supported; known: {', '.join(known)}")
    stride = 2 ** (levels - 1)
    if image_size % stride:
        raise ValueError(
            f"dataset.image_size {image_size} is not divisible by the UNet's stride {stride} ({levels} blocks);"
            f" use a multiple of {stride}"
        )
    for width in unet.block_out_channels:
        if unet.norm_num_groups < 1 or width % unet.norm_num_groups:
            raise ValueError(f"unet.norm_num_groups {unet.norm_num_groups} does not divide block_out_channels {width}")
    _check_attention(unet)
    # Twice the channels: a learned variance beside the mean.
    if unet.in_channels != channels or unet.out_channels not in (channels, 2 * channels):
        raise ValueError(
            f"the UNet maps {unet.in_channels} to {unet.out_channels} channels, the images have {channels}"
            " (dataset.channels)"
        )


def _check_attention(unet: UNet) -> None:
    """Raises `ValueError` if an attention layer cannot be cut into heads."""
    head_dim, heads = unet.attention_head_dim, unet.num_attention_heads
    attending = [unet.block_out_channels[-1]] if unet.add_attention else []
    for kinds, widths in (
        (unet.down_block_types, unet.block_out_channels),
        (unet.up_block_types, unet.block_out_channels[::-1]),
    ):
        attending += [channel for kind, channel in zip(kinds, widths, strict=True) if kind.startswith("Attn")]
    if head_dim is not None and not all(1 <= head_dim <= width for width in attending):
        raise ValueError(
            f"unet.attention_head_dim {head_dim} does not fit an attention block of {min(attending)} channels"
        )
    if heads is not None and not all(heads >= 1 and width % heads == 0 for width in attending):
        raise ValueError(f"unet.num_attention_heads {heads} does not divide attention blocks of {attending} channels")


def _check_values(unet: UNet) -> None:
    """Checks of single options."""
    for name, count in (
        ("block_out_channels", len(unet.block_out_channels)),
        ("layers_per_block", unet.layers_per_block),
        ("num_class_embeds", 1 if unet.num_class_embeds is None else unet.num_class_embeds),
    ):
        if count < 1:
            raise ValueError(f"unet.{name} must give at least 1, got {getattr(unet, name)!r}")
    choices: tuple[tuple[str, object, tuple], ...] = (
        ("downsample_type", unet.downsample_type, ("conv", "resnet")),
        ("upsample_type", unet.upsample_type, ("conv", "resnet")),
        ("resnet_time_scale_shift", unet.resnet_time_scale_shift, ("default", "scale_shift")),
        ("downsample_padding", unet.downsample_padding, (0, 1)),
    )
    for name, value, allowed in choices:
        if value not in allowed:
            raise ValueError(f"unet.{name} must be one of {allowed}, got {value!r}")
