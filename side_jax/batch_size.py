"""How many images fit: the largest batch by the compiled program's own memory analysis."""

import functools
import logging
import math
import os
from collections.abc import Callable, Hashable
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

AUTO = "auto"
_SECOND = 8  # images per device of the second program that is compiled; the first has 1
CEILING = 1024  # images per device: more keep no device busier, and a stop waits for the batch
# Two batches overlap a little, and memory is in pieces: not all that a device offers can be one program's.
_DEVICE_SHARE = 0.9
_HOST_SHARE = 0.5  # of a machine's available memory, on a CPU
_MEMINFO = Path("/proc/meminfo")

_log = logging.getLogger(__name__)


def check_batch_size(field: str, value: int | str) -> None:
    """Raises `ValueError`, naming `field`, unless `value` is a number of images or "auto"."""
    number = isinstance(value, int) and not isinstance(value, bool)
    if value != AUTO and not (number and int(value) >= 1):
        raise ValueError(f"{field} must be at least 1, or 'auto', got {value!r}")


def program_bytes(compiled: jax.stages.Compiled) -> int:
    """Bytes that a compiled program holds on each of its devices: arguments, outputs and temporaries."""
    memory = compiled.memory_analysis()
    if memory is None:
        raise ValueError(f"{jax.default_backend()} gives no memory analysis; set batch_size to a number of images")
    kept = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return int(kept + memory.temp_size_in_bytes)


def compile_if_it_fits(lowered: jax.stages.Lowered) -> jax.stages.Compiled | None:
    """The compiled program; None if the compiler, as a TPU's does, refuses one that is too large."""
    try:
        return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return None


@functools.cache  # what is available changes; a run chooses once
def device_memory() -> int:
    """Bytes that a program may use on each device: the least of any process's, so that all choose alike.

    A GPU or TPU says what it offers. CPU devices share half of the memory that their machine has available; processes
    are taken to be on one machine. The first call must be made by all processes.
    """
    stats = jax.local_devices()[0].memory_stats() if jax.default_backend() != "cpu" else None
    if stats and "bytes_limit" in stats:
        least = int(_DEVICE_SHARE * stats["bytes_limit"])
    else:
        least = int(_HOST_SHARE * _available()) // jax.device_count()
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        mebibytes = multihost_utils.process_allgather(np.int32(least >> 20))  # bytes would not fit JAX's integers
        least = int(mebibytes.min()) << 20
    return least


def _available() -> int:
    """Bytes of memory that programs could still get from this machine."""
    for line in _MEMINFO.read_text().splitlines() if _MEMINFO.exists() else []:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # macOS


def largest_batch(bytes_at: Callable[[int], float], limit: float, ceiling: int) -> int:
    """The largest power of two, up to `ceiling`, whose program fits in `limit` bytes.

    Memory is taken to be affine in the batch, from two small programs. The program chosen is then compiled too, and
    halved until it fits.

    Args:
      bytes_at: batch -> bytes of its program; compiles it.
      limit: bytes that there are.
      ceiling: at least 1.

    Raises:
      ValueError: if not even one image fits, saying what it needs.
    """
    one = bytes_at(1)
    if one > limit:
        needs = f"{one / 2**30:.3g} GiB of memory" if math.isfinite(one) else "more memory than the compiler finds"
        raise ValueError(f"one image needs {needs} on a device, which offers {limit / 2**30:.3g} GiB")
    second = min(_SECOND, _power_of_two(ceiling))
    if second == 1:
        return 1
    more = bytes_at(second)
    if more > limit:
        chosen = second // 2
    else:
        each = (more - one) / (second - 1)
        chosen = _power_of_two(min(ceiling, int((limit - one) / each) + 1 if each > 0 else ceiling))
        chosen = max(chosen, second)
    while chosen not in (1, second) and bytes_at(chosen) > limit:
        chosen //= 2
    return chosen


def _power_of_two(number: int) -> int:
    """The largest power of two that is not above `number`."""
    return 1 << (int(number).bit_length() - 1)


_resolved: dict[Hashable, int] = {}


def resolve(
    batch_size: int | str,
    lower: Callable[[int], jax.stages.Lowered],
    program: Hashable,
    num_images: int,
    mesh: Mesh,
    stage: str,
) -> int:
    """The share of `batch_size` that belongs to the devices of a mesh, or for "auto" the largest that fits on them.

    The latter is logged.

    Args:
      batch_size: from the config.
      lower: batch -> the stage's program for a batch of so many images.
      program: what that program depends on; for the same one the choice is made once.
      num_images: how many the stage makes; no batch is larger than these need.
      mesh: the devices that run the program: all that there are, or those of this process.
      stage: for the log and the error.

    Raises:
      ValueError: if not one image a device fits.
    """
    devices = mesh.size
    if not isinstance(batch_size, str):
        return devices * -(-min(batch_size, num_images) // jax.device_count())
    key = (stage, program, num_images, mesh)
    if key in _resolved:
        return _resolved[key]
    limit = device_memory()
    enough = 1 << (-(-num_images // jax.device_count()) - 1).bit_length()  # a power of two

    def bytes_at(size: int) -> float:
        compiled = compile_if_it_fits(lower(size * devices))
        return program_bytes(compiled) if compiled else math.inf

    try:
        each = largest_batch(bytes_at, limit, min(CEILING, enough))
    except ValueError as error:
        raise ValueError(f"{stage}.batch_size 'auto': {error}") from error
    _log.info(
        "%s: batch of %d images, %d on each of %d devices with %.3g GiB",
        stage,
        each * devices,
        each,
        devices,
        limit / 2**30,
    )
    _resolved[key] = each * devices
    return each * devices
