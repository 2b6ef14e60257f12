"""Building blocks of the UNet, named and shaped as in diffusers, so that its weights map one to one.

They run in the dtype of their input. Whatever that is, parameters are float32, and so are timestep embeddings and their
projections, normalisation and the softmax of attention.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from side_jax.targets.conv import Conv, torch_init


def timestep_embedding(
    t: jax.Array, dim: int, flip_sin_to_cos: bool = True, freq_shift: float = 0, max_period: float = 10_000.0
) -> jax.Array:
    """Sinusoidal embedding of timesteps (Ho et al. 2020; `get_timestep_embedding` in diffusers).

    Args:
      t: [N], integer or float timesteps.
      dim: even embedding size E.
      flip_sin_to_cos: cosines first.
      freq_shift: subtracted from E/2 in the exponent's denominator.
      max_period: period of the slowest frequency, over 2π.

    Returns:
      float32 [N, E].
    """
    half = dim // 2
    exponent = -math.log(max_period) * jnp.arange(half, dtype=jnp.float32) / (half - freq_shift)
    angles = t.astype(jnp.float32)[:, None] * jnp.exp(exponent)[None, :]
    parts = [jnp.cos(angles), jnp.sin(angles)] if flip_sin_to_cos else [jnp.sin(angles), jnp.cos(angles)]
    return jnp.concatenate(parts, axis=-1)


class TimestepMLP(nn.Module):
    """Linear, SiLU, Linear on an embedding: [N, E] -> [N, features]."""

    features: int

    @nn.compact
    def __call__(self, emb: jax.Array) -> jax.Array:
        hidden = nn.silu(nn.Dense(self.features, kernel_init=torch_init, name="linear_1")(emb))
        return nn.Dense(self.features, kernel_init=torch_init, name="linear_2")(hidden)


class GroupNorm(nn.Module):
    """Group normalisation over the spatial axes and the channels of a group, in float32; `scale`, `bias` [C]."""

    num_groups: int
    epsilon: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels, dtype = x.shape[-1], x.dtype
        x = x.astype(jnp.float32)
        scale = self.param("scale", nn.initializers.ones, (channels,)).reshape(1, -1)
        bias = self.param("bias", nn.initializers.zeros, (channels,)).reshape(1, -1)

        def group_mean(per_channel: jax.Array) -> jax.Array:  # [N, C] -> [N, C]
            grouped = per_channel.reshape(-1, self.num_groups, channels // self.num_groups)
            return jnp.broadcast_to(grouped.mean(-1, keepdims=True), grouped.shape).reshape(-1, channels)

        # Spatial sums per channel first: whole-vector work, where grouped pixels would be a few channels at a time.
        mean = group_mean(x.mean((1, 2)))
        var = group_mean(jnp.square(x - mean[:, None, None, :]).mean((1, 2)))
        a = jax.lax.rsqrt(var + self.epsilon) * scale
        b = bias - mean * a
        return (x * a[:, None, None, :] + b[:, None, None, :]).astype(dtype)


class ResnetBlock(nn.Module):
    """diffusers' `ResnetBlock2D`: norm, SiLU, (resample,) conv, time embedding, norm, SiLU, conv, plus shortcut."""

    features: int
    groups: int
    epsilon: float
    scale_shift: bool = False
    dropout: float = 0.0
    output_scale_factor: float = 1.0
    resample: str | None = None  # None | "up" | "down"

    @nn.compact
    def __call__(self, x: jax.Array, temb: jax.Array, deterministic: bool = True) -> jax.Array:
        h = nn.silu(GroupNorm(self.groups, self.epsilon, name="norm1")(x))
        if self.resample is not None:
            resample = upsample_nearest if self.resample == "up" else average_pool
            x, h = resample(x), resample(h)
        h = Conv(self.features, name="conv1")(h)
        temb_features = 2 * self.features if self.scale_shift else self.features
        temb = nn.Dense(temb_features, kernel_init=torch_init, name="time_emb_proj")(nn.silu(temb))
        temb = temb[:, None, None, :].astype(h.dtype)
        norm2 = GroupNorm(self.groups, self.epsilon, name="norm2")
        if self.scale_shift:
            scale, shift = jnp.split(temb, 2, axis=-1)
            h = norm2(h) * (1 + scale) + shift
        else:
            h = norm2(h + temb)
        h = nn.Dropout(self.dropout, name="dropout")(nn.silu(h), deterministic=deterministic)
        h = Conv(self.features, name="conv2")(h)
        if x.shape[-1] != self.features:
            x = Conv(self.features, kernel_size=1, padding=0, name="conv_shortcut")(x)
        return (x + h) / self.output_scale_factor


class Attention(nn.Module):
    """diffusers' spatial self-attention with a residual: every pixel attends to every pixel.

    `head_dim` None means one head; `groups` None means no normalisation before the projections.
    """

    head_dim: int | None
    groups: int | None
    epsilon: float
    output_scale_factor: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        n, height, width, channels = x.shape
        head_dim = self.head_dim or channels
        heads = channels // head_dim
        inner = heads * head_dim
        h = x if self.groups is None else GroupNorm(self.groups, self.epsilon, name="group_norm")(x)
        h = h.reshape(n, height * width, channels)
        q, k, v = (
            nn.Dense(inner, dtype=x.dtype, kernel_init=torch_init, name=name)(h).reshape(n, -1, heads, head_dim)
            for name in ("to_q", "to_k", "to_v")
        )
        scores = jnp.einsum("nqhd,nkhd->nhqk", q, k, preferred_element_type=jnp.float32) / math.sqrt(head_dim)
        weights = nn.softmax(scores, axis=-1).astype(x.dtype)
        h = jnp.einsum("nhqk,nkhd->nqhd", weights, v).reshape(n, -1, inner)
        h = nn.Dense(channels, dtype=x.dtype, kernel_init=torch_init, name="to_out_0")(h).reshape(x.shape)
        return (x + h) / self.output_scale_factor


class Downsample(nn.Module):
    """3x3 convolution of stride 2; padding 0 pads one pixel below and to the right, as diffusers does."""

    features: int
    padding: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        padding = ((0, 1), (0, 1)) if self.padding == 0 else self.padding
        return Conv(self.features, stride=2, padding=padding, name="conv")(x)


class Upsample(nn.Module):
    """Nearest-neighbour doubling and a 3x3 convolution."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return Conv(self.features, name="conv")(upsample_nearest(x))


def upsample_nearest(x: jax.Array) -> jax.Array:
    """[N, H, W, C] -> [N, 2H, 2W, C]."""
    n, height, width, channels = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None, :], (n, height, 2, width, 2, channels))
    return x.reshape(n, 2 * height, 2 * width, channels)


def average_pool(x: jax.Array) -> jax.Array:
    """[N, H, W, C] -> [N, H/2, W/2, C], the mean of each 2x2 block."""
    n, height, width, channels = x.shape
    return x.reshape(n, height // 2, 2, width // 2, 2, channels).mean((2, 4))
