"""The guide: a trained classifier p^t(y | x_t), or p(y | x) in its place ("TI", Table 1)."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import traverse_util
from jax.typing import DTypeLike
from safetensors import SafetensorError
from safetensors.numpy import load, save

from side_jax.artifacts import MANIFEST, AuditError, read_json, write_bytes
from side_jax.distributed import once
from side_jax.models.resnet import ARCHITECTURES, ResNet

VARIABLES = "variables.safetensors"  # names are paths in the tree: params/conv1/kernel


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
    """Writes variables as one safetensors file, atomically; replaces what is there.

    To be called by all processes: the primary writes, and the others wait for it.
    """
    arrays = {name: np.asarray(leaf) for name, leaf in traverse_util.flatten_dict(variables, sep="/").items()}
    once(f"{directory.name}: variables", lambda: write_bytes(directory / VARIABLES, save(arrays)))


def load_variables(directory: epath.Path) -> Any:
    """Reads what `save_variables` wrote, as NumPy arrays. Waits for no other process: one may read alone.

    Raises:
      AuditError: naming the file, if it is missing or corrupt.
    """
    path = directory / VARIABLES
    try:
        return traverse_util.unflatten_dict(load(path.read_bytes()), sep="/")
    except (OSError, ValueError, SafetensorError) as error:
        raise AuditError(f"{path} cannot be read ({error}); remove its folder to make that stage again") from error


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
