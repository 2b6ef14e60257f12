"""A trained classifier as the guide: p^t(y | x_t), or p(y | x) in its place ("TI", Table 1)."""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import traverse_util
from flax.typing import VariableDict
from jax.sharding import PartitionSpec
from jax.typing import DTypeLike
from safetensors import SafetensorError
from safetensors.numpy import load, save

from side_jax.diffusion.guide import autodiff_gradient
from side_jax.runtime.distributed import once
from side_jax.runtime.files import AuditError, write_bytes
from side_jax.surrogate.resnet import ResNet

VARIABLES = "variables.safetensors"  # names are paths in the tree: params/conv1/kernel


@flax.struct.dataclass
class Classifier:
    """A network and its variables, batch statistics frozen: a pytree.

    Attributes:
      net: the architecture; `net.num_classes` is K.
      variables: {"params": …, "batch_stats": …}.
      dtype: of the network, backwards too; logits and the gradient by x_t are float32.
    """

    net: ResNet = flax.struct.field(pytree_node=False)
    variables: VariableDict
    dtype: DTypeLike = flax.struct.field(pytree_node=False, default=jnp.float32)

    @property
    def num_classes(self) -> int:
        """K."""
        return self.net.num_classes

    def in_dtype(self, dtype: DTypeLike) -> "Classifier":
        """The same network, running in `dtype`."""
        return Classifier(self.net, self.variables, dtype)

    def layout(self) -> "Classifier":
        """As `Guide.layout`: all of it on every device."""
        return jax.tree.map(lambda _: PartitionSpec(), self)

    def log_prob(self, x_t: jax.Array, t: jax.Array) -> jax.Array:
        """log p^t(y | x_t): float32 [N, H, W, C] in about [−1, 1], int32 [N] -> float32 [N, K]."""
        logits: Any = self.net.apply(self.variables, jnp.asarray(x_t, self.dtype), t)
        return nn.log_softmax(logits, axis=-1)

    def gradient(self, x_t: jax.Array, t: jax.Array, labels: jax.Array) -> jax.Array:
        """∇_{x_t} log p^t(y = c | x_t), as `Guide.gradient`: by reverse mode."""
        return autodiff_gradient(self.log_prob, x_t, t, labels)


def save_variables(directory: epath.Path, variables: VariableDict) -> None:
    """Writes variables as one safetensors file, atomically; replaces an existing one.

    To be called by all processes: the primary writes, and the others wait for it.
    """
    arrays = {name: np.asarray(leaf) for name, leaf in traverse_util.flatten_dict(variables, sep="/").items()}
    once(f"{directory.name}: variables", lambda: write_bytes(directory / VARIABLES, save(arrays)))


def load_variables(directory: epath.Path) -> VariableDict:
    """Reads the file of `save_variables`, as NumPy arrays. Waits for no other process: one may read alone.

    Raises:
      AuditError: as `read_tensors`.
    """
    return traverse_util.unflatten_dict(read_tensors(directory / VARIABLES), sep="/")


def read_tensors(path: epath.Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file, by name. Raises `AuditError`, naming the file, if it is missing or corrupt."""
    try:
        return load(path.read_bytes())
    except (OSError, ValueError, SafetensorError) as error:
        raise AuditError(f"{path} cannot be read ({error}); remove its folder to make that stage again") from error
