"""Counts of an audit, from its config alone: parameters, operations, memory."""

import dataclasses
import math

from side_jax.cost import programs
from side_jax.cost.jobs import Job, Setting, detect_jobs, guide_net, method_jobs, shared_jobs, steer_jobs, teacher_net
from side_jax.cost.programs import Lowered, Program, tree_size
from side_jax.extraction.parts import REFERENCES
from side_jax.models.sscd import SSCD


@dataclasses.dataclass(frozen=True)
class Work:
    """Images that a stage computes, and at what.

    Attributes:
      stage: its name, with the method if there are several.
      what: done to each image.
      images: how many, every time counted.
      flops: operations per image.
      precision: of the matrix products, as `Accelerator.hours` names it.
    """

    stage: str
    what: str
    images: int
    flops: float
    precision: str = "default"

    @property
    def total(self) -> float:
        """Operations of the whole stage."""
        return self.images * self.flops


@dataclasses.dataclass(frozen=True)
class Need:
    """Memory that a stage's program takes on each device; `batch` is the config's, for all devices together."""

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
    jobs = [*shared_jobs(setting)]
    for method, row in setting.methods().items():
        jobs += method_jobs(setting, row, method)
    jobs += detect_jobs(setting)
    jobs += steer_jobs(setting)
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


def _needs(jobs: list[tuple[Job, Program]]) -> list[Need]:
    """One per stage. What one stage's programs have in common, the weights, stays while any of them runs."""
    needs: dict[str, Need] = {}
    for job, program in jobs:
        if not job.limits:
            continue
        known = needs.get(job.stage)
        together = _together(known.program, program, job.key == "descriptor") if known else program
        needs[job.stage] = Need(job.stage, job.batch, together)
    return list(needs.values())


def _together(one: Program, other: Program, own_weights: bool) -> Program:
    """Two programs of which one runs at a time; the weights of both stay."""
    weights = one.fixed + other.fixed if own_weights else max(one.fixed, other.fixed)
    working = max(one.bytes - one.fixed, other.bytes - other.fixed)
    return dataclasses.replace(one, bytes=weights + working, fixed=weights)


def match_flops(setting: Setting) -> float:
    """Dot products of descriptors, and of pixels with their squared norms (`nearest_l2`): 2·M·(D + P + 1) an image."""
    sets = len(REFERENCES) if setting.has_heldout else 1
    return 2.0 * sets * setting.num_train * (setting.dimensions + math.prod(setting.shape) + 1)


def _match_works(setting: Setting) -> list[Work]:
    flops = match_flops(setting)
    return [
        Work("extract" + method, "match", len(row.extract.scales) * row.extract.num_images, flops, "float32")
        for method, row in setting.methods().items()
    ]


def _parameters(setting: Setting) -> dict[str, int]:
    """Network -> parameters."""
    counts = {"target": tree_size(programs.unet_variables(setting.unet, setting.shape))}
    for method, row in setting.methods().items():
        if row.classifier.guide == "none":
            continue
        if row.has_teacher:
            counts["teacher" + method] = tree_size(
                programs.resnet_variables(teacher_net(row, setting.num_classes), setting.shape)
            )
        if row.classifier.guide == "exact":
            continue
        counts["guide" + method] = tree_size(
            programs.resnet_variables(guide_net(row, setting.num_classes), setting.shape)
        )
    sscd = setting.options.extract.descriptor == "sscd"
    return counts | {"descriptor": tree_size(programs.sscd_variables(SSCD())) if sscd else 0}
