"""Convolution whose derivatives stay fast inside `lax.scan` on CPU.

XLA's CPU backend lowers the two backward convolutions inside a `while` body to a naive loop, 30 to 100 times slower
than its ordinary kernel (DESIGN §7; `benchmarks/guided_sampling.py` measures it). Guided DDIM is exactly that: a
classifier's input gradient inside a scan. Here every derivative is itself written as a convolution in canonical form
(NHWC activations, HWIO kernels, no reversal, no dilation), which the fast kernel accepts:

  * stride 1: `dx = conv(g, flip(w) with in and out swapped)`, `dw = conv(x with channels as batch, g as the kernel)`;
  * stride 2: space-to-depth turns it into a stride-1 convolution, whose derivatives are the above;
  * 1x1: a matrix product.

Both derivatives are declared as transposes of linear maps, so forward mode (`jax.jvp`) works as well as `jax.grad`.
On GPU and TPU the stock derivatives are fast, and are used.
"""

import functools
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero, linear_call
from jax.typing import DTypeLike

Padding = tuple[tuple[int, int], tuple[int, int]]


def torch_init(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> jax.Array:
    """torch's default for convolutions and linear layers, U(±1/√fan_in). For kernels [..., I, O]."""
    bound = 1 / math.sqrt(math.prod(shape[:-1]))
    return (2 * _draw(jax.random.uniform, key, shape, dtype) - 1) * bound


def he_init(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Normal, variance 2 / fan_out (He et al. 2015): torchvision's choice for ResNets. For kernels [kh, kw, I, O]."""
    fan_out = math.prod(shape[:-2]) * shape[-1]
    return _draw(jax.random.normal, key, shape, dtype) * math.sqrt(2 / fan_out)


def _draw(draw: Callable[..., jax.Array], key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
    # XLA's CPU backend takes a second or more to compile a random draw of a new shape. With lengths rounded up to a
    # power of two, a whole network has a dozen shapes.
    count = math.prod(shape)
    return draw(key, (1 << (count - 1).bit_length(),), dtype)[:count].reshape(shape)


def _conv(x: jax.Array, w: jax.Array, padding: Padding, stride: int = 1) -> jax.Array:
    return lax.conv_general_dilated(x, w, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _input_gradient(g: jax.Array, w: jax.Array, padding: Padding) -> jax.Array:
    flipped = jnp.flip(w, (0, 1)).swapaxes(2, 3)
    grown = tuple((k - 1 - low, k - 1 - high) for k, (low, high) in zip(w.shape[:2], padding, strict=True))
    return _conv(g, flipped, (grown[0], grown[1]))


def _kernel_gradient(g: jax.Array, x: jax.Array, padding: Padding) -> jax.Array:
    channels_as_batch = x.transpose(3, 1, 2, 0)  # [I, H, W, N]
    gradient_as_kernel = g.transpose(1, 2, 0, 3)  # [H', W', N, O]
    return _conv(channels_as_batch, gradient_as_kernel, padding).transpose(1, 2, 0, 3)  # [kh, kw, I, O]


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _conv_stride1(x: jax.Array, w: jax.Array, padding: Padding) -> jax.Array:
    return _conv(x, w, padding)


def _conv_stride1_jvp(
    padding: Padding, primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (x, w), (dx, dw) = primals, tangents
    y = _conv_stride1(x, w, padding)
    parts = []
    if not isinstance(dx, SymbolicZero):
        parts.append(linear_call(lambda w, d: _conv(d, w, padding), lambda w, g: _input_gradient(g, w, padding), w, dx))
    if not isinstance(dw, SymbolicZero):
        parts.append(
            linear_call(lambda x, d: _conv(x, d, padding), lambda x, g: _kernel_gradient(g, x, padding), x, dw)
        )
    return y, sum(parts[1:], parts[0]) if parts else jnp.zeros_like(y)


_conv_stride1.defjvp(_conv_stride1_jvp, symbolic_zeros=True)


def _conv_stride2(x: jax.Array, w: jax.Array, padding: Padding) -> jax.Array:
    """y[i] = Σ_u x[2i + u] w[u] as a stride-1 convolution over 2x2 pixel blocks."""
    blocks, sizes = [], []
    for size, k, (low, high) in zip(x.shape[1:3], w.shape[:2], padding, strict=True):
        out = (size + low + high - k) // 2 + 1
        block = -(-k // 2)  # kernel size in blocks
        blocks.append(block)
        sizes.append(out + block - 1)  # input size in blocks
    n, height, width, channels = x.shape
    (top, _), (left, _) = padding
    edges = [(0, 0, 0), (top, 2 * sizes[0] - height - top, 0), (left, 2 * sizes[1] - width - left, 0), (0, 0, 0)]
    x = lax.pad(x, jnp.zeros((), x.dtype), edges)
    x = x.reshape(n, sizes[0], 2, sizes[1], 2, channels).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(n, *sizes, 4 * channels)
    w = jnp.pad(w, ((0, 2 * blocks[0] - w.shape[0]), (0, 2 * blocks[1] - w.shape[1]), (0, 0), (0, 0)))
    w = w.reshape(blocks[0], 2, blocks[1], 2, channels, -1).transpose(0, 2, 1, 3, 4, 5)
    w = w.reshape(*blocks, 4 * channels, -1)
    return _conv_stride1(x, w, ((0, 0), (0, 0)))


def conv2d(x: jax.Array, w: jax.Array, stride: int = 1, padding: int | Padding = 0) -> jax.Array:
    """2-D cross-correlation, zero-padded.

    Args:
      x: [N, H, W, I].
      w: kernel [kh, kw, I, O].
      stride: 1 or 2, the same in both directions.
      padding: one number for all four sides, or ((top, bottom), (left, right)).

    Returns:
      [N, H', W', O], with H' = (H + top + bottom - kh) // stride + 1.
    """
    if stride not in (1, 2):
        raise ValueError(f"conv2d: stride must be 1 or 2, got {stride}")
    pads: Padding = ((padding, padding), (padding, padding)) if isinstance(padding, int) else padding
    if w.shape[:2] == (1, 1) and pads == ((0, 0), (0, 0)):
        return jnp.matmul(x[:, ::stride, ::stride], w[0, 0])
    if jax.default_backend() != "cpu":
        return _conv(x, w, pads, stride)
    return _conv_stride1(x, w, pads) if stride == 1 else _conv_stride2(x, w, pads)


class Conv(nn.Module):
    """`conv2d` in the dtype of its input; parameters `kernel` [k, k, I, O] and `bias` [O]."""

    features: int
    kernel_size: int = 3
    stride: int = 1
    padding: int | Padding = 1
    use_bias: bool = True
    kernel_init: Callable[..., jax.Array] = torch_init

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape).astype(x.dtype)
        y = conv2d(x, kernel, self.stride, self.padding)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(x.dtype)
            y = y + bias.reshape(1, 1, 1, -1)
        return y
