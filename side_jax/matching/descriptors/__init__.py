"""Descriptors by name. A new one is a file here with its `Kind`, and a line in `DESCRIPTORS`."""

import jax
from etils import epath

from side_jax.matching.descriptor import Descriptor, DescriptorFacts, Kind
from side_jax.matching.descriptors.pixel import PIXEL
from side_jax.matching.descriptors.sscd import SSCD
from side_jax.runtime.files import file_hash
from side_jax.runtime.precision import compute_dtype

DESCRIPTORS: dict[str, Kind] = {"pixel": PIXEL, "sscd": SSCD}


def check_descriptor(name: str, weights: str | None, preprocessing: str | None) -> None:
    """Raises `ValueError` if the three do not go together. Opens no file."""
    if name not in DESCRIPTORS:
        raise ValueError(f"extract.descriptor must be {' or '.join(DESCRIPTORS)}, got {name!r}")
    kind = DESCRIPTORS[name]
    for field, value, known in (
        ("weights", weights, kind.weights),
        ("preprocessing", preprocessing, kind.preprocessing),
    ):
        if value and not known:
            raise ValueError(f"the {name} descriptor has no {field}, got {value!r}; leave extract.{field} empty")
    if preprocessing and preprocessing not in kind.preprocessing:
        raise ValueError(f"extract.preprocessing must be {' or '.join(kind.preprocessing)}, got {preprocessing!r}")
    if kind.weights and not weights:
        raise ValueError(
            f"the {name} descriptor needs its weights: download {kind.weights} and set extract.weights to the file"
        )


def descriptor_facts(name: str, weights: str | None = None, preprocessing: str | None = None) -> DescriptorFacts:
    """The `facts` of `load_descriptor`, without loading the network.

    Raises:
      ValueError: as `load_descriptor`, except for the content of the file.
    """
    check_descriptor(name, weights, preprocessing)
    chosen = preprocessing or next(iter(DESCRIPTORS[name].preprocessing), None)
    if not weights:
        return DescriptorFacts(name, preprocessing=chosen)
    file = epath.Path(weights)
    if not file.exists() or file.is_dir():
        raise ValueError(f"extract.weights {weights!r} is no file; those of {name} are at {DESCRIPTORS[name].weights}")
    return DescriptorFacts(name, file.name, file_hash(file, 64), chosen)


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

    Example:
      >>> import numpy as np, side_jax
      >>> photos = side_jax.load_images("orl", None, image_size=32, channels=1)
      >>> vectors = side_jax.load_descriptor("pixel")(photos.images[:2])
      >>> vectors.shape, np.linalg.norm(vectors, axis=1).round(3).tolist()
      ((2, 1024), [1.0, 1.0])
    """
    dtype, facts = compute_dtype(precision), descriptor_facts(name, weights, preprocessing)
    apply, variables = DESCRIPTORS[name].load(weights or "", facts.preprocessing or "", dtype)
    return Descriptor(jax.device_put(variables), apply, facts)


def abstract_descriptor(name: str, preprocessing: str) -> Descriptor:
    """A descriptor without numbers, whose weights need not be there."""
    kind = DESCRIPTORS[name]
    apply, variables = kind.abstract(preprocessing or next(iter(kind.preprocessing), ""))
    return Descriptor(variables, apply, DescriptorFacts(name))
