"""The speed of the machine that the dry run runs on, measured in a few seconds."""

import dataclasses
import os
import time
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from side_jax.audit.cost import programs
from side_jax.audit.cost.jobs import Setting
from side_jax.audit.cost.programs import Lowered, abstract
from side_jax.runtime.batch_size import compile_if_it_fits, device_memory, program_bytes
from side_jax.runtime.precision import compute_dtype

_SECONDS, _MOST_CALLS = 0.5, 20  # that a program is timed for, at most
# Operations of the step, and rows of the square matrix product, that are timed: enough to fill a device, but a CPU has
# a hundredth of an accelerator's speed.
_CPU_STEP, _STEP = 5e10, 5e12
_CPU_ROWS, _ROWS = 1_024, 8_192


@dataclasses.dataclass(frozen=True)
class Machine:
    """One device of this machine, as JAX counts them; the whole CPU is one.

    Attributes:
      name: this CPU, 2 cores | this NVIDIA H200.
      speeds: FLOP/s that were measured, by the precisions of `Accelerator.hours`.
      batch: images of the network's step that was timed.
    """

    name: str
    speeds: Mapping[str, float]
    batch: int

    def hours(self, flops: float, precision: str) -> float:
        """Hours of `flops` at the measured speed of a precision."""
        return flops / self.speeds[precision] / 3600


def machine_name() -> str:
    """The device in words."""
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        return f"this {device.device_kind}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"this CPU, {cores} core" + ("s" if cores > 1 else "")


def measure(setting: Setting) -> Machine | None:
    """Times one step of the target's network, or the descriptor without a model, on a few images; and a product.

    Weights are constants and images are black: a device takes as long for any numbers.

    Returns:
      The speeds; None if the step does not fit this machine.
    """
    on_cpu = jax.default_backend() == "cpu"
    dtype = compute_dtype(setting.options.precision)
    batch = _batch(setting, _CPU_STEP if on_cpu else _STEP)
    rows = _CPU_ROWS if on_cpu else _ROWS
    product, default = _speed(_product(rows)), _speed(_step(setting, batch, np.dtype(np.float32)))
    inference = default if dtype == np.float32 else _speed(_step(setting, batch, dtype))
    if product is None or default is None or inference is None:
        return None
    return Machine(machine_name(), {"default": default, "bfloat16": inference, "float32": product}, batch)


def _batch(setting: Setting, flops: float) -> int:
    """Images whose step takes about so many operations; no more than the sweep has on a device."""
    each = _step(setting, 1, np.dtype(np.float32)).flops()
    return max(1, min(int(flops / max(each, 1.0)), setting.per_device(setting.options.extract.batch_size)))


def _step(setting: Setting, batch: int, dtype: np.dtype) -> Lowered:
    if setting.target is None:
        return programs.descriptor(setting.embed, setting.shape, batch)
    return programs.sampling_step(setting.target, batch, dtype=dtype)


def _product(rows: int) -> Lowered:
    """A product of two matrices in full float32, as a match is."""
    square = abstract((rows, rows))
    return Lowered(jax.jit(lambda a, b: jnp.matmul(a, b, precision="float32")).lower(square, square), 1, 0)


def _speed(program: Lowered) -> float | None:
    """Operations per second; None if the program does not fit the device."""
    compiled = compile_if_it_fits(program.lowered)
    if compiled is None or program_bytes(compiled) > device_memory():
        return None
    arguments, keywords = jax.tree.map(_constant, program.lowered.args_info)
    # One operation at least, where the program has none that is counted: a descriptor may only move pixels.
    flops = max(program.flops() * program.batch, 1.0)
    return flops / _seconds(lambda: compiled(*arguments, **keywords))


def _constant(argument: jax.ShapeDtypeStruct) -> jax.Array:
    """Not zero where it may be: zeros take some devices less power, and so less time."""
    return jnp.full(argument.shape, 0.01 if jnp.issubdtype(argument.dtype, jnp.floating) else 0, argument.dtype)


def _seconds(call: Callable[[], PyTree]) -> float:
    """Of one call: the mean of some calls, after one that warms up."""

    def timed(count: int) -> float:
        started = time.perf_counter()
        for _ in range(count):
            jax.block_until_ready(call())
        return (time.perf_counter() - started) / count

    return timed(max(1, min(_MOST_CALLS, int(_SECONDS / timed(1)))))
