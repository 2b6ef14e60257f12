"""What accelerators offer, from their vendors' data sheets: dense peak speed and memory."""

import dataclasses

_TERA, _GIB = 1e12, 2**30
# JAX reserves three quarters of a GPU's memory (XLA_PYTHON_CLIENT_MEM_FRACTION raises that). A TPU's runtime keeps up
# to 1.25 GiB for itself.
_GPU_SHARE, _TPU_RESERVED = 0.75, 1.25


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """One device as JAX counts them: a GPU, or a TPU chip.

    Attributes:
      name: as printed.
      bfloat16: peak of matrix products of bfloat16, FLOP/s, dense.
      default: of float32 operands at JAX's default precision: TF32 on a GPU, one pass of bfloat16 on a TPU.
      float32: of float32 operands at precision "float32": ordinary FP32 on a GPU, six passes of bfloat16 on a TPU.
      memory: bytes that JAX may use of it.
    """

    name: str
    bfloat16: float
    default: float
    float32: float
    memory: int

    def hours(self, flops: float, precision: str, utilisation: float) -> float:
        """Device-hours of `flops` at a share of the peak of `precision`: "bfloat16", "default" or "float32"."""
        peak: float = getattr(self, precision)
        return flops / (peak * utilisation) / 3600


def _gpu(name: str, bfloat16: float, tf32: float, float32: float, gib: int) -> Accelerator:
    return Accelerator(name, bfloat16 * _TERA, tf32 * _TERA, float32 * _TERA, int(_GPU_SHARE * gib * _GIB))


def _tpu(name: str, bfloat16: float, gib: int) -> Accelerator:
    peak = bfloat16 * _TERA
    return Accelerator(name, peak, peak, peak / 6, int((gib - _TPU_RESERVED) * _GIB))


# SXM modules, from NVIDIA's data sheets "A100 Tensor Core GPU" (nvidia-a100-datasheet-us-nvidia-1758950-r4) and "H100
# Tensor Core GPU"; the latter's tensor-core figures are with sparsity, twice the dense ones here. TPUs: "Peak compute
# per chip (bf16)" and "HBM capacity per chip" in docs.cloud.google.com/tpu/docs/v4, /v5e and /v6e.
ACCELERATORS = (
    _gpu("A100 40 GB", 312, 156, 19.5, 40),
    _gpu("A100 80 GB", 312, 156, 19.5, 80),
    _gpu("H100 80 GB", 989.5, 494.5, 67, 80),
    _tpu("TPU v4", 275, 32),
    _tpu("TPU v5e", 197, 16),
    _tpu("TPU v6e", 918, 32),
)
