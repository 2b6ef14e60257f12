"""A trained classifier as the guide: p^t(y | x_t), or p(y | x) in its place ("TI", Table 1)."""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from etils import epath
from jax.sharding import PartitionSpec
from jax.typing import DTypeLike

from side_jax.artifacts import MANIFEST, absolute, read_json
from side_jax.models.resnet import ARCHITECTURES, ResNet
from side_jax.surrogate.guide import autodiff_gradient

PARAMS = "params"  # folder of the final variables, an Orbax checkpoint


@flax.struct.dataclass
class Classifier:
    """A network and its variables, batch statistics frozen: a pytree.

    Attributes:
      net: the architecture; `net.num_classes` is K.
      variables: {"params": …, "batch_stats": …}.
      dtype: of the network, backwards too; logits and the gradient by x_t are float32.
    """

    net: ResNet = flax.struct.field(pytree_node=False)
    variables: Any
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


def save_variables(directory: epath.Path, variables: Any) -> None:
    """Writes variables as an Orbax checkpoint, atomically; replaces what is there."""
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(absolute(directory / PARAMS), variables, force=True)


def load_variables(directory: epath.Path) -> Any:
    """Reads what `save_variables` wrote, on any number of devices, as NumPy arrays."""
    import numpy as np
    import orbax.checkpoint as ocp

    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = checkpointer.metadata(absolute(directory / PARAMS)).item_metadata.tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        return checkpointer.restore(absolute(directory / PARAMS), ocp.args.PyTreeRestore(restore_args=as_numpy))


def load_classifier(workdir: epath.PathLike) -> Classifier:
    """The guide that the distill stage of an audit made; with `methods`, that of the main one.

    Args:
      workdir: the audit's workdir.

    Raises:
      ValueError: if that stage is not complete there.
    """
    return read_classifier(epath.Path(workdir) / "classifier")


def read_classifier(directory: epath.Path) -> Classifier:
    """`load_classifier` from the stage's own folder."""
    if not (directory / MANIFEST).exists():
        raise ValueError(f"{directory.parent} holds no finished classifier; run the stages up to distill first")
    facts = read_json(directory / MANIFEST)["facts"]
    # Workdirs of earlier versions say neither.
    time_dependent = facts.get("guide", "time_dependent") == "time_dependent"
    imagenet_input = facts.get("imagenet_input", False)
    net = ResNet(ARCHITECTURES[facts["arch"]], facts["num_classes"], time_dependent, imagenet_input)
    return Classifier(net, load_variables(directory))
