"""Copy-detection descriptors: images in, unit vectors out, so that a dot product is the score γ."""

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.typing import DTypeLike
from jaxtyping import Array, Float, UInt8

from side_jax.artifacts import file_hash
from side_jax.diffusion.sample import to_float
from side_jax.extraction.preprocessing import PREPROCESSING, sscd_input
from side_jax.interop.sscd import OFFICIAL, load_sscd
from side_jax.models.resnet import ResNet
from side_jax.models.sscd import SSCD
from side_jax.precision import compute_dtype

DESCRIPTORS = ("pixel", "sscd")
_CPU_BATCH, _BATCH = 8, 64  # images a call: a large batch fills a GPU or TPU, and on a CPU wastes work on a few images

Facts = dict[str, str | None]


@dataclasses.dataclass(frozen=True)
class Descriptor:
    """Unit vectors of images.

    Attributes:
      apply: (variables, uint8 [N, H, W, C]) -> float32 [N, D], rows of norm 1; jitted.
      variables: the network's, or None.
      facts: for the record: name, weights (their file's name), sha256 (of the weights), preprocessing; None where the
        descriptor has none.
    """

    apply: Callable[[Any, Any], jax.Array]
    variables: Any
    facts: Facts

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 [N, H, W, C], C = 1 or 3 -> float32 [N, D], rows of norm 1."""
        if images.ndim != 4 or images.dtype != np.uint8 or images.shape[-1] not in (1, 3):
            raise ValueError(f"images must be uint8 [N, H, W, 1 or 3], got {images.dtype} {images.shape}")
        if not len(images):
            shape = jax.eval_shape(self.apply, self.variables, jax.ShapeDtypeStruct((1, *images.shape[1:]), np.uint8))
            return np.zeros((0, shape.shape[1]), np.float32)
        # One program for any number of images: a descriptor depends on its image alone, to the last bit.
        size, rows = _CPU_BATCH if jax.default_backend() == "cpu" else _BATCH, []
        for start in range(0, len(images), size):
            batch = images[start : start + size]
            padded = np.pad(batch, ((0, size - len(batch)), (0, 0), (0, 0), (0, 0)), mode="edge")
            rows.append(np.asarray(self.apply(self.variables, padded))[: len(batch)])
        return np.concatenate(rows)


def pixel_descriptor(images: UInt8[Array, "n h w c"]) -> Float[Array, "n d"]:
    """Mean-centred pixels of norm 1: the cosine of two is their correlation. A constant image becomes 0."""
    flat = images.reshape(images.shape[0], -1).astype(jnp.float32)
    return unit_rows(flat - flat.mean(-1, keepdims=True))


def unit_rows(rows: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """Rows scaled to norm 1; those of norm 0 stay."""
    return rows / jnp.maximum(jnp.linalg.norm(rows, axis=-1, keepdims=True), 1e-6)


def check_descriptor(name: str, weights: str | None, preprocessing: str | None) -> None:
    """Raises `ValueError` if the three do not go together. Opens no file."""
    if name not in DESCRIPTORS:
        raise ValueError(f"extract.descriptor must be {' or '.join(DESCRIPTORS)}, got {name!r}")
    if name == "pixel":
        for field, value in (("weights", weights), ("preprocessing", preprocessing)):
            if value:
                raise ValueError(f"the pixel descriptor has no {field}, got {value!r}; leave extract.{field} empty")
        return
    if preprocessing and preprocessing not in PREPROCESSING:
        raise ValueError(f"extract.preprocessing must be {' or '.join(PREPROCESSING)}, got {preprocessing!r}")
    if not weights:
        raise ValueError(
            f"the SSCD descriptor needs its weights: download {OFFICIAL} and set extract.weights to the file"
        )


def descriptor_facts(name: str, weights: str | None = None, preprocessing: str | None = None) -> Facts:
    """What `load_descriptor` would say in `facts`, without loading.

    Raises:
      ValueError: as `load_descriptor`, but for what is in the file.
    """
    check_descriptor(name, weights, preprocessing)
    facts: Facts = {"name": name, "weights": None, "sha256": None, "preprocessing": None}
    if not weights:
        return facts
    file = epath.Path(weights)
    if not file.exists() or file.is_dir():
        raise ValueError(f"extract.weights {weights!r} is no file; SSCD's are at {OFFICIAL}")
    preprocessing = preprocessing or PREPROCESSING[0]
    return facts | {"weights": file.name, "sha256": file_hash(file, 64), "preprocessing": preprocessing}


def load_descriptor(
    name: str, weights: str | None = None, preprocessing: str | None = None, precision: str = "auto"
) -> Descriptor:
    """A descriptor by name.

    Args:
      name: "pixel", or "sscd" (Pizzi et al. 2022).
      weights: SSCD's, a file as published or converted to .safetensors; "pixel" takes none.
      preprocessing: of SSCD: "small_edge_288" (the default) or "square_320".
      precision: of SSCD's network: "float32", "bfloat16", or "auto", bfloat16 on GPU and TPU and float32 on CPU. The
        pixel descriptor is float32 always.

    Returns:
      A function from uint8 images [N, H, W, C] to float32 [N, D] with rows of norm 1, and its `facts`.

    Raises:
      ValueError: for an unknown name, for weights that are missing, needless or of another network, for an unknown
        preprocessing or precision.
    """
    dtype = compute_dtype(precision)
    facts = descriptor_facts(name, weights, preprocessing)
    if name == "pixel":
        return Descriptor(_apply_pixel, None, facts)
    return sscd_descriptor(*load_sscd(str(weights)), facts, dtype)


@jax.jit
def _apply_pixel(variables: None, images: jax.Array) -> jax.Array:
    return pixel_descriptor(images)


def sscd_descriptor(net: SSCD, variables: Any, facts: Facts, dtype: DTypeLike = jnp.float32) -> Descriptor:
    """SSCD from a network and its variables; `facts["preprocessing"]` says how images are resized.

    In float32 products are computed in full float32 on GPU and TPU too, so that a score does not depend on the device.
    In bfloat16 (`dtype`) convolutions round their inputs to 8 bits, in an order of their own on every device: compare
    only descriptors of one dtype and one kind of device. Preprocessing, pooling and the projection stay full float32.
    """
    preprocessing = facts["preprocessing"] or PREPROCESSING[0]

    @jax.jit
    def apply(variables: Any, images: jax.Array) -> Any:
        with jax.default_matmul_precision("float32"):
            return net.apply(variables, sscd_input(images, preprocessing).astype(dtype))

    return Descriptor(apply, jax.device_put(variables), facts)


def feature_descriptor(net: ResNet, variables: Any) -> Descriptor:
    """A classifier's pooled features, before its last layer, at norm 1: what the audit's teacher sees in an image.

    Args:
      net: without time modules.
      variables: {"params": …, "batch_stats": …}.
    """
    if net.time_conditioned:
        raise ValueError("feature_descriptor needs a classifier of clean images, got a time-conditioned one")
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(jax.device_get(variables)):
        digest.update(np.ascontiguousarray(leaf).tobytes())

    @jax.jit
    def apply(variables: Any, images: jax.Array) -> Any:
        with jax.default_matmul_precision("float32"):
            features: Any = net.apply(variables, to_float(images), features=True)
        return unit_rows(features)

    facts: Facts = {"name": "teacher", "weights": None, "sha256": digest.hexdigest(), "preprocessing": None}
    return Descriptor(apply, jax.device_put(variables), facts)
