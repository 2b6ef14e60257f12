"""Labels and guides in a workdir."""

import io
import zipfile

import numpy as np
from etils import epath
from jax.sharding import Mesh
from safetensors.numpy import save

from side_jax.diffusion.guide import Guide
from side_jax.diffusion.process import Process
from side_jax.runtime.arrays import load_array, save_array
from side_jax.runtime.files import MANIFEST, AuditError, read_json, write_bytes
from side_jax.surrogate.classifier import Classifier, load_variables, read_tensors
from side_jax.surrogate.exact import make_exact_guide
from side_jax.surrogate.labels import Labels
from side_jax.surrogate.resnet import ARCHITECTURES, ResNet

SYNTHETIC = "synthetic/images.zarr"  # below the workdir
_SET = "set.safetensors"
_IMAGES = "images.zarr"


def write_labels(folder: epath.Path, labels: Labels) -> None:
    """Writes labels.npz, atomically."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{name: value for name, value in vars(labels).items() if value is not None})
    write_bytes(folder / "labels.npz", buffer.getvalue())


def read_labels(folder: epath.Path) -> Labels:
    """The labels of the label stage. Raises `AuditError` naming the file if it cannot be read."""
    path = folder / "labels.npz"
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            content = {name: arrays[name] for name in arrays.files}
        return Labels(**(content | {"num_classes": int(content["num_classes"])}))
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise AuditError(f"{path} cannot be read ({error}); remove its folder to make that stage again") from error


def write_exact(folder: epath.Path, labels: np.ndarray, process: Process, photos: np.ndarray | None) -> None:
    """Writes the labelled set of an exact guide. Synthetic images are in the workdir already; photos are written too.

    Args:
      folder: of the distill stage.
      labels: int32 [N] or float32 [N, K].
      process: α and σ.
      photos: uint8 [N, H, W, C]; None if the set is the synthetic images.
    """
    if photos is not None:
        save_array(folder / _IMAGES, photos)
    write_bytes(folder / _SET, save({"labels": labels, "alpha_bar": np.asarray(process.alpha_bar)}))


def load_classifier(workdir: epath.PathLike) -> Guide:
    """The guide of an audit's distill stage; with `methods`, that of the main one.

    Args:
      workdir: the audit's workdir.

    Returns:
      `guide.log_prob(x_t, t)` is log p^t(y | x_t), float32 [N, K].

    Raises:
      ValueError: if that stage is not complete there.

    Example:
      >>> import tempfile, side_jax
      >>> from configs import orl
      >>> config = orl.get_config()
      >>> config.labels.source = "dataset"  # the bound, which needs no synthetic images
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     workdir = side_jax.run(config, folder + "/orl", stages=("target", "label", "distill"))
      ...     side_jax.load_classifier(workdir).num_classes
      40
    """
    return read_guide(epath.Path(workdir) / "classifier", epath.Path(workdir))


def read_guide(folder: epath.Path, workdir: epath.Path, mesh: Mesh | None = None, sharded: bool = False) -> Guide:
    """`load_classifier` from the stage's own folder. Waits for no other process.

    Args:
      folder: of the distill stage.
      workdir: that of the whole audit, which holds the synthetic images.
      mesh: devices for the set of an exact guide; None leaves it on the default one.
      sharded: every device gets an equal share of that set.
    """
    if not (folder / MANIFEST).exists():
        raise ValueError(f"{folder.parent} holds no finished classifier; run the stages up to distill first")
    facts = read_json(folder / MANIFEST)["facts"]
    if facts["guide"] == "exact":
        arrays = read_tensors(folder / _SET)
        images = load_array(workdir / SYNTHETIC if facts["synthetic"] else folder / _IMAGES)
        return make_exact_guide(images, arrays["labels"], Process(arrays["alpha_bar"]), facts["block"], mesh, sharded)
    net = ResNet(
        ARCHITECTURES[facts["arch"]],
        facts["num_classes"],
        time_conditioned=facts["guide"] == "time_dependent",
        imagenet_input=facts["imagenet_input"],
    )
    return Classifier(net, load_variables(folder))
