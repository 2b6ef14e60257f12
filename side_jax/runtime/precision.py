"""The dtype of networks at inference: the target and the guide in sampling, and descriptors.

In bfloat16 the convolutions and the attention of their blocks have bfloat16 inputs and outputs. Parameters, ᾱ, the
DDIM state and its arithmetic, the guided sum, timestep embeddings, normalisation, softmax, pooling, the UNet's first
and last layer, the last of classifiers and descriptors, and scores stay float32. Training is float32 throughout.

Float32 says of what numbers are, and not how they are multiplied: at JAX's default precision a GPU since Ampere rounds
the factors of float32 matrix products and convolutions to TF32 (10 bits of mantissa), and a TPU to bfloat16 (7 bits).
`inference_precision` says so. Descriptors' networks and scores ask for full float32 products everywhere.
"""

import jax
import jax.numpy as jnp
import numpy as np

PRECISIONS = ("auto", "float32", "bfloat16")


def compute_dtype(precision: str) -> np.dtype:
    """The dtype of a `precision`: "auto" is bfloat16 on GPU and TPU, and float32 on CPU, where bfloat16 gains nothing.

    Raises:
      ValueError: for an unknown precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if precision == "auto":
        precision = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return jnp.dtype(precision)


_ONE_PASS = frozenset({None, "default", "bfloat16"})  # lax.Precision.DEFAULT; that of the next line is HIGH
_THREE_PASSES = frozenset({"high", "tensorfloat32"})


def inference_precision(precision: str) -> str:
    """The dtype of `compute_dtype`, and how products of float32 are made on this machine if they are not float32.

    On a GPU or TPU and with "float32" it depends on `jax_default_matmul_precision`; on a CPU it is the dtype alone.

    Raises:
      ValueError: for an unknown precision.
    """
    name, products = compute_dtype(precision).name, jax.config.jax_default_matmul_precision
    if name != "float32":
        return name
    backend, device = jax.default_backend(), jax.local_devices()[0]
    if backend == "gpu" and products in _ONE_PASS | _THREE_PASSES and _has_tf32(device):
        return "float32 (TF32 products)"
    if backend == "tpu" and products in _ONE_PASS:
        return "float32 (bfloat16 products)"
    if backend == "tpu" and products in _THREE_PASSES:
        return "float32 (products of 3 bfloat16 passes)"
    return name


def _has_tf32(device: jax.Device) -> bool:
    """True for NVIDIA's GPUs since Ampere, compute capability 8."""
    capability = getattr(device, "compute_capability", None)  # of a ROCm device it is a name, such as gfx942
    major = str(capability).partition(".")[0]
    return major.isdigit() and int(major) >= 8
