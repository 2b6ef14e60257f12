"""Counts of an audit, from its config alone: parameters, operations, memory."""

import dataclasses
from collections.abc import Iterator

from side_jax.audit.cost import programs
from side_jax.audit.cost.jobs import Job, Setting, Work, guide_net, match_flops, teacher_net
from side_jax.audit.cost.programs import Lowered, Program, tree_size
from side_jax.audit.stages import STAGES


@dataclasses.dataclass(frozen=True)
class Need:
    """Memory that a stage's program takes on each device. `batch` is the config's: images on all devices together."""

    stage: str
    batch: int | str
    program: Program


@dataclasses.dataclass(frozen=True)
class Cost:
    """All counts of one audit.

    Attributes:
      parameters: network -> how many.
      works: what is computed.
      needs: memory.
      devices: that share each batch.
      compiled_count: whether all operations are counted in compiled programs.
    """

    parameters: dict[str, int]
    works: list[Work]
    needs: list[Need]
    devices: int
    compiled_count: bool


def audit_cost(setting: Setting) -> Cost:
    """Compiles the audit's programs, which takes a minute or two for a large UNet, and runs none."""
    jobs = list(audit_jobs(setting))
    keys = [(job.key, setting.per_device(job.batch)) for job in jobs]
    lowered: dict[tuple[str, int], Lowered] = {}
    for job, key in zip(jobs, keys, strict=True):
        if key not in lowered:
            lowered[key] = job.lower(key[1])
    counted = programs.count_all(lowered)
    works = [
        Work(job.stage, job.what, job.images, job.calls * counted[key].flops, job.precision)
        for job, key in zip(jobs, keys, strict=True)
    ]
    needs = _needs([(job, counted[key]) for job, key in zip(jobs, keys, strict=True)])
    compiled_count = all(program.compiled_count for program in counted.values())
    return Cost(_parameters(setting), works + _match_works(setting), needs, setting.devices, compiled_count)


def audit_jobs(setting: Setting) -> Iterator[Job]:
    """The programs of all needed stages. Stages that run once per method come together, method by method."""
    own = [stage for stage in STAGES if stage.per_method]
    for stage in STAGES:
        if stage is own[0]:
            for method, row in setting.methods().items():
                for one in own:
                    if one.taken(row) and not one.idle(row):
                        yield from one.jobs(setting, row, method)
        elif not stage.per_method and stage.taken(setting.options) and not stage.idle(setting.options):
            yield from stage.jobs(setting, setting.options, "")


def _needs(jobs: list[tuple[Job, Program]]) -> list[Need]:
    """One need per stage. Its programs share their weights, which stay in memory while any of them runs."""
    needs: dict[str, Need] = {}
    for job, program in jobs:
        if not job.limits:
            continue
        known = needs.get(job.stage)
        together = _together(known.program, program, job.key == "descriptor") if known else program
        needs[job.stage] = Need(job.stage, job.batch, together)
    return list(needs.values())


def _together(one: Program, other: Program, own_weights: bool) -> Program:
    """Two programs that run one after the other, with the weights of both in memory."""
    weights = one.fixed + other.fixed if own_weights else max(one.fixed, other.fixed)
    working = max(one.bytes - one.fixed, other.bytes - other.fixed)
    return dataclasses.replace(one, bytes=weights + working, fixed=weights)


def _match_works(setting: Setting) -> list[Work]:
    flops = match_flops(setting)
    return [
        Work("extract" + method, "match", len(row.extract.scales) * row.extract.num_images, flops, "float32")
        for method, row in setting.methods().items()
    ]


def _parameters(setting: Setting) -> dict[str, int]:
    """Number of parameters, by network."""
    counts = {"target": tree_size({"params": setting.target.params})} if setting.target else {}
    for method, row in setting.methods().items():
        if row.classifier.guide == "none" or max(row.extract.scales) == 0:
            continue
        if row.labels.has_teacher:
            counts["teacher" + method] = tree_size(
                programs.resnet_variables(teacher_net(row, setting.num_classes), setting.shape)
            )
        if row.classifier.guide == "exact":
            continue
        counts["guide" + method] = tree_size(
            programs.resnet_variables(guide_net(row, setting.num_classes), setting.shape)
        )
    return counts | {"descriptor": tree_size(setting.embed.variables)}
