"""`--dry_run`: the cost of an audit as text.

It reads the data and the model that the config names, needs neither, runs no stage and writes nothing.
"""

import copy
from collections.abc import Iterable, Mapping

import jax

from side_jax.audit.cost import equal_compute
from side_jax.audit.cost.accelerators import ACCELERATORS
from side_jax.audit.cost.count import Cost, Need, audit_cost
from side_jax.audit.cost.disk import ID_CHARACTERS, bytes_written
from side_jax.audit.cost.inputs import ABSENT, read_inputs
from side_jax.audit.cost.jobs import AUTO_BATCH, Setting
from side_jax.audit.cost.machine import Machine, machine_name, measure
from side_jax.audit.options import AuditOptions, Config
from side_jax.audit.provenance import left_out
from side_jax.audit.stages.extract import SURROGATE, ExtractStage
from side_jax.matching.descriptors import DESCRIPTORS
from side_jax.runtime.batch_size import AUTO, CEILING, largest_batch
from side_jax.runtime.files import Json

UTILISATION = 0.2  # of the peak; an assumption, not a measurement


def dry_run(config: Config, utilisation: float = UTILISATION) -> str:
    """What the audit of a config will cost, as text.

    Args:
      config: a ConfigDict or mapping with the fields of configs/default.py. Paths may be empty, or lead nowhere: what
        is then assumed is said first. Where they lead to photos or to a model, photos are counted and the model's
        configuration is read.
      utilisation: share of an accelerator's peak speed that is reached, in (0, 1].

    Raises:
      ValueError: for a bad config, or photos or a model that do not fit it, as an audit would.
    """
    if not 0 < utilisation <= 1:
        raise ValueError(f"--utilisation must be above 0 and at most 1, got {utilisation}")
    inputs = read_inputs(_options(config))
    setting = inputs.setting
    cost, written = audit_cost(setting), bytes_written(setting)
    if more := equal_compute.work(setting, SURROGATE, ExtractStage()):
        cost.works.append(more)
    machine = measure(setting)
    return "\n".join(
        [
            "Dry run: counted from compiled programs. No stage is run, nothing is written.",
            *inputs.lines,
            "",
            *_parameter_lines(cost, inputs.source),
            "",
            *_work_lines(cost),
            "",
            *_need_lines(cost),
            "",
            *_table([["Bytes written", ""], *([what, _decimal(size) + "B"] for what, size in written.items())]),
            "",
            *_hour_lines(cost, utilisation, machine),
            "",
            *_machine_lines(setting, machine),
            *_assumption_lines(setting, cost),
        ]
    )


def _options(config: Config) -> AuditOptions:
    """Checked options. A path that is still empty counts as given."""
    plain: Json = copy.deepcopy(config.to_dict() if hasattr(config, "to_dict") else dict(config))
    target, extract, samples = (plain.get(group) for group in ("target", "extract", "samples"))
    if isinstance(target, Mapping) and target.get("source") == "load":
        plain["target"] = {**target, "path": target.get("path") or ABSENT}
    if isinstance(target, Mapping) and target.get("source") == "none":
        given = dict(samples or {}).get("paths")
        plain["samples"] = {"paths": given or (("samples", ABSENT),)}
    if isinstance(extract, Mapping) and (kind := DESCRIPTORS.get(str(extract.get("descriptor")))) and kind.weights:
        plain["extract"] = {**extract, "weights": extract.get("weights") or ABSENT}
    return AuditOptions.from_config(plain)


def _parameter_lines(cost: Cost, source: str) -> list[str]:
    rows = [["Parameters", ""]] + [[name, f"{count:,}"] for name, count in cost.parameters.items()]
    lines = _table(rows)
    lines[1] += f"   ({source})"
    return lines


def _work_lines(cost: Cost) -> list[str]:
    rows = [["Operations (FLOP)", "", "images", "an image", "in all"]]
    for work in cost.works:
        rows.append([work.stage, work.what, f"{work.images:,}", _decimal(work.flops), _decimal(work.total)])
    rows.append(["in all", "", "", "", _decimal(sum(work.total for work in cost.works))])
    return _table(rows, left=2)


def _need_lines(cost: Cost) -> list[str]:
    devices = f"{cost.devices} device" + ("s" if cost.devices > 1 else "")
    names = [accelerator.name for accelerator in ACCELERATORS]
    rows = [["Memory per device", "batch", "needs", *names]]
    rows.append(["for JAX to use", "", "", *(_gibibytes(one.memory) for one in ACCELERATORS)])
    warnings = []
    for need in cost.needs:
        fits = [_largest(need, one.memory, cost.devices) for one in ACCELERATORS]
        if isinstance(need.batch, str):
            rows.append([need.stage, AUTO, "", *map(str, fits)])
            continue
        short = [need.program.bytes > one.memory for one in ACCELERATORS]
        size = _gibibytes(need.program.bytes)
        rows.append([need.stage, str(need.batch), size, *("no" if one else "fits" for one in short)])
        for accelerator, count, too_small in zip(ACCELERATORS, fits, short, strict=True):
            if too_small:
                room = _gibibytes(accelerator.memory)
                remedy = f"a batch of {count} would" if count else "not even one image a device does"
                warnings.append(
                    f"{need.stage}: batch {need.batch} needs {size} a device and does not fit {accelerator.name}, where"
                    f" JAX has {room}; {remedy}"
                )
    return [*_table(rows), f"A batch is split over {devices}, parameters are on each.", *warnings]


def _largest(need: Need, memory: int, devices: int) -> int:
    """About the largest batch that fits; 0 if one image per device is too much."""
    try:
        return devices * largest_batch(need.program.bytes_at, memory, CEILING)
    except ValueError:
        return 0


def _hour_lines(cost: Cost, utilisation: float, machine: Machine | None) -> list[str]:
    """Hours on the accelerators by their data sheets and, in the last column, on this machine as it was measured."""
    names = [*(one.name for one in ACCELERATORS), *([machine.name] if machine else ())]
    rows = [[f"Device-hours at {utilisation:.0%} of peak", *names]]
    stages = dict.fromkeys(work.stage for work in cost.works)
    totals = [0.0] * len(names)
    for stage in stages:
        works = [work for work in cost.works if work.stage == stage]
        hours = [sum(one.hours(w.total, w.precision, utilisation) for w in works) for one in ACCELERATORS]
        hours += [sum(machine.hours(w.total, w.precision) for w in works)] if machine else []
        totals = [total + more for total, more in zip(totals, hours, strict=True)]
        rows.append([stage, *(f"{value:,.3g}" for value in hours)])
    rows.append(["in all", *(f"{value:,.3g}" for value in totals)])
    return _table(rows)


def _machine_lines(setting: Setting, machine: Machine | None) -> list[str]:
    """What the column of this machine is."""
    what = "the descriptor" if setting.options.modelless else "one step of the target's network"
    if machine is None:
        return [f"No hours on {machine_name()}: {what} does not fit its memory."]
    images = f"{machine.batch} image" + ("s" if machine.batch > 1 else "")
    step, product = (_decimal(machine.speeds[precision]) for precision in ("bfloat16", "float32"))
    return [
        f"Measured now on {machine.name}: {step}FLOP/s in {what} on {images}, {product}FLOP/s in a matrix product.",
        "Its hours are at these speeds; --utilisation is for the others.",
    ]


def _assumption_lines(setting: Setting, cost: Cost) -> list[str]:
    """The assumptions behind the numbers."""
    options = setting.options
    kind = jax.devices()[0].device_kind
    counted = "as compiled" if cost.compiled_count else "as given to the compiler, which hides some in custom calls"
    lines = [
        f"Counted {counted}, for {kind}: another device's compiler fuses otherwise, and its memory differs.",
        f"{setting.num_train:,} training and {setting.heldout:,} held-out photos; names of {ID_CHARACTERS} characters:",
        "match, descriptors of real images and match tables depend on them.",
        "Speed: products of float32 as JAX multiplies by default, TF32 on a GPU and one pass of bfloat16 on a TPU;",
        "those of matches in full float32. The share of the peak is assumed too: --utilisation.",
    ]
    if options.precision != "float32" and not options.modelless:
        lines.append("The sampler and SSCD in bfloat16; their memory is counted in float32, which is more.")
    if options.modelless:
        lines.append(f"Left out, as there is no model: {', '.join(left_out(options))}.")
    if AUTO in (options.synthesize.batch_size, options.extract.batch_size):
        lines.append(f"Batch {AUTO}: the largest that fits, estimated from a batch of {AUTO_BATCH}.")
    return lines


def _table(rows: Iterable[list[str]], left: int = 1) -> list[str]:
    """Aligned lines. The first `left` columns are aligned left, the others right."""
    rows = list(rows)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            f"{cell:{'<' if i < left else '>'}{width}}" for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _decimal(value: float) -> str:
    """1.23e13 -> "12.3 T"."""
    for prefix, size in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:,.3g} {prefix}" if value < 1000 * size else f"{value / size:,.0f} {prefix}"
    return f"{value:.3g} "


def _gibibytes(size: float) -> str:
    return f"{size / 2**30:.3g} GiB"
