"""The largest batch that fits, by the compiled program's own memory analysis."""

import functools
import logging
import math
import os
from collections.abc import Callable, Hashable
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from side_jax.runtime.distributed import gather

AUTO = "auto"
_SECOND = 8  # images per device of the second program that is compiled; the first has 1
CEILING = 1024  # images per device: more make no device faster, and a stop waits for the end of a batch
# Two batches overlap a little, and memory is fragmented: one program cannot have all that a device offers.
_DEVICE_SHARE = 0.9
_HOST_SHARE = 0.5  # of a machine's available memory, on a CPU
_MEMINFO = Path("/proc/meminfo")

_log = logging.getLogger(__name__)


def check_batch_size(field: str, value: int | str) -> None:
    """Raises `ValueError`, naming `field`, unless `value` is a number of images or "auto"."""
    if value != AUTO and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ValueError(f"{field} must be at least 1, or 'auto', got {value!r}")


def program_bytes(compiled: jax.stages.Compiled | None) -> float:
    """Bytes that a program holds on each of its devices: arguments, outputs and temporaries. None does not fit: inf."""
    if compiled is None:
        return math.inf
    memory = compiled.memory_analysis()
    if memory is None:
        raise ValueError(f"{jax.default_backend()} gives no memory analysis; set batch_size to a number of images")
    kept = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return kept + memory.temp_size_in_bytes


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
    """Bytes that a program may use on each device: the least of all processes, so that all choose alike.

    A GPU or TPU reports its memory. CPU devices share half of the memory that their machine has available, as if all
    processes were on one machine. All processes must make the first call.
    """
    stats = jax.local_devices()[0].memory_stats() if jax.default_backend() != "cpu" else None
    if stats and "bytes_limit" in stats:
        least = int(_DEVICE_SHARE * stats["bytes_limit"])
    else:
        least = int(_HOST_SHARE * _available()) // jax.device_count()
    mebibytes = gather(np.int32(least >> 20))  # bytes would not fit JAX's integers
    return int(mebibytes.min()) << 20


def _available() -> int:
    """Bytes of this machine's memory that are not in use."""
    for line in _MEMINFO.read_text().splitlines() if _MEMINFO.exists() else []:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # macOS


def largest_batch(bytes_at: Callable[[int], float], limit: float, ceiling: int) -> int:
    """The largest power of two, up to `ceiling`, whose program fits in `limit` bytes.

    Two small programs give memory as an affine function of the batch. Then the chosen program is compiled too, and
    halved until it fits.

    Args:
      bytes_at: batch -> bytes of its program; compiles it.
      limit: bytes available.
      ceiling: at least 1.

    Raises:
      ValueError: if one image does not fit, with the memory that it needs.
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
    return 1 << (number.bit_length() - 1)


_resolved: dict[Hashable, int] = {}


def resolve(
    batch_size: int | str,
    lower: Callable[[int], jax.stages.Lowered],
    program: Hashable,
    num_images: int,
    mesh: Mesh,
    stage: str,
) -> int:
    """The batch for the devices of a mesh: their share of a number; for "auto" the largest that fits, which is logged.

    Args:
      batch_size: from the config, for all devices.
      lower: batch -> the stage's program for a batch of so many images.
      program: everything that the program depends on; for an equal one the choice is made once.
      num_images: how many the stage makes; no batch is larger than these need.
      mesh: the devices that run the program: all devices, or those of this process.
      stage: for the log and the error.

    Raises:
      ValueError: if one image on each device does not fit.
    """
    devices = mesh.size
    if not isinstance(batch_size, str):
        return devices * -(-min(batch_size, num_images) // jax.device_count())
    key = (stage, program, num_images, mesh)
    if key in _resolved:
        return _resolved[key]
    limit = device_memory()
    enough = 1 << (-(-num_images // jax.device_count()) - 1).bit_length()  # a power of two
    try:
        each = largest_batch(
            lambda size: program_bytes(compile_if_it_fits(lower(size * devices))), limit, min(CEILING, enough)
        )
    except ValueError as error:
        raise ValueError(f"{stage}.batch_size 'auto': {error}") from error
    text = "%s: batch of %d images, %d on each of %d devices with %.3g GiB"
    _log.info(text, stage, each * devices, each, devices, limit / 2**30)
    _resolved[key] = each * devices
    return each * devices
