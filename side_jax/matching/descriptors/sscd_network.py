"""SSCD, the copy-detection descriptor of Pizzi et al. 2022 (arXiv 2202.10261): ResNet50, GeM pooling, projection."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from side_jax.surrogate.resnet import ResNetArch, batch_norm, stem
from side_jax.targets.conv import Conv, he_init

RESNET50 = ResNetArch((3, 4, 6, 3), 64)
_EXPANSION = 4  # a bottleneck's outputs over its inner channels
_GEM_FLOOR = 1e-6


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut. As in torchvision, the 3x3 one has the stride."""

    features: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        outputs = _EXPANSION * self.features
        h = Conv(self.features, 1, 1, 0, False, he_init, name="conv1")(x)
        h = nn.relu(batch_norm(h, "bn1", train=False))
        h = Conv(self.features, 3, self.stride, 1, False, he_init, name="conv2")(h)
        h = nn.relu(batch_norm(h, "bn2", train=False))
        h = Conv(outputs, 1, 1, 0, False, he_init, name="conv3")(h)
        h = batch_norm(h, "bn3", train=False)
        if x.shape != h.shape:
            x = Conv(outputs, 1, self.stride, 0, False, he_init, name="downsample_0")(x)
            x = batch_norm(x, "downsample_1", train=False)
        return nn.relu(x + h)


class SSCDNetwork(nn.Module):
    """Unit vectors whose dot product says how alike two images are; batch statistics are frozen.

    Attributes:
      dims: size of the descriptor, D.
      arch: depth and width; the published `ResNet50` weights have RESNET50.
    """

    dims: int = 512
    arch: ResNetArch = RESNET50

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """float [N, H, W, 3], normalised by ImageNet's mean and deviation -> float32 [N, D], rows of norm 1.

        Blocks run in the dtype of x; batch normalisation, pooling and all that follows in float32.
        """
        x = stem(self.arch, x, train=False)
        for channels, stride, name in self.arch.blocks():
            x = Bottleneck(channels, stride, name=name)(x)
        x = jnp.maximum(x.astype(jnp.float32), _GEM_FLOOR)
        x = jnp.cbrt((x * x * x).mean((1, 2)))  # generalised mean, p = 3
        x = nn.Dense(self.dims, kernel_init=nn.initializers.xavier_uniform(), name="fc")(x)
        return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
