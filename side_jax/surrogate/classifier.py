"""The guide: a trained classifier p^t(y | x_t), or p(y | x) in its place ("TI", Table 1)."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from etils import epath
from jax.typing import DTypeLike

from side_jax.artifacts import MANIFEST, absolute, read_json
from side_jax.models.resnet import ARCHITECTURES, ResNet

PARAMS = "params"  # folder of the final variables, an Orbax checkpoint


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A network and its variables, batch statistics frozen.

    Attributes:
      net: the architecture; `net.num_classes` is K.
      variables: {"params": …, "batch_stats": …}.
    """

    net: ResNet
    variables: Any

    def log_prob(self, x_t: jax.Array, t: jax.Array, dtype: DTypeLike = jnp.float32) -> jax.Array:
        """log p^t(y | x_t): float32 [N, H, W, C] in about [−1, 1], int32 [N] -> float32 [N, K].

        The network runs in `dtype`, backwards too; logits and the gradient by x_t are float32.
        """
        logits: Any = self.net.apply(self.variables, jnp.asarray(x_t, dtype), t)
        return nn.log_softmax(logits, axis=-1)


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
