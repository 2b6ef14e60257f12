"""Equal compute: how many images Random makes for the operations that a guided method takes.

    method    C_surrogate + N c_g      synthesize, label and distill, then N guided images
    Random    N_eq c_u                 unguided images

An image costs its sampling steps, its descriptor and its match. Operations are counted as in the dry run, whatever
their precision: float32 training is not weighted against bfloat16 sampling. The target costs both sides the same.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from side_jax.audit.cost.jobs import Job, Setting, Work, match_flops
from side_jax.audit.stage import Stage
from side_jax.runtime.files import Json

if TYPE_CHECKING:
    from side_jax.audit.options import AuditOptions

_Counted = dict[tuple[str, int], float]  # program and batch -> operations per image


def random_images_at_equal_compute(
    setting: Setting, row: "AuditOptions", num_images: int, surrogate: Sequence[Stage], sweep: Stage
) -> tuple[int, Json]:
    """The number of images beyond N that Random can make with the method's operations.

    Programs are compiled only where the lowered program cannot be counted: half a minute for the paper's UNet.

    Args:
      setting: of the audit, with its UNet, training images and classes as they are.
      row: the method, as `setting.methods()` has it.
      num_images: N, of the method at one λ > 0.
      surrogate: the stages that make the guide.
      sweep: the stage that makes images.

    Returns:
      N_eq − N, N_eq = ⌊(C_surrogate + N c_g) / c_u⌋; and the facts: N, N_eq, and operations of the surrogate and of a
      guided and an unguided image.

    Raises:
      ValueError: if the method has no guide.
    """
    if row.classifier.guide == "none":
        raise ValueError("classifier.guide='none' is Random itself, which equal compute compares others with")
    counted: _Counted = {}
    made, guided = _flops(setting, row, 1.0, counted, surrogate, sweep)
    _, unguided = _flops(setting, row, 0.0, counted, (), sweep)
    random_images = max(num_images, math.floor((made + num_images * guided) / unguided))
    facts = {
        "num_images": num_images,
        "random_images": random_images,
        "surrogate_flops": made,
        "guided_flops_per_image": guided,
        "unguided_flops_per_image": unguided,
    }
    return random_images - num_images, facts


def work(setting: Setting, surrogate: Sequence[Stage], sweep: Stage) -> Work | None:
    """The additional images at λ = 0 that `extract.equal_compute` asks for; None if there are none."""
    options = setting.options.extract
    rows = [row for row in setting.methods().values() if row.classifier.guide != "none"]
    if not options.equal_compute or 0.0 not in options.scales or not rows:
        return None
    counted = [random_images_at_equal_compute(setting, row, options.num_images, surrogate, sweep) for row in rows]
    extra, facts = max(counted, key=lambda one: one[0])
    return Work("extract", "unguided, for equal compute", extra, facts["unguided_flops_per_image"])


def _flops(
    setting: Setting, row: "AuditOptions", scale: float, counted: _Counted, surrogate: Sequence[Stage], sweep: Stage
) -> tuple[float, float]:
    """Operations of the surrogate, and of one image at λ = `scale`, counted on a sweep of one image."""
    alone = dataclasses.replace(row, extract=dataclasses.replace(row.extract, scales=(scale,), num_images=1))
    setting = dataclasses.replace(setting, options=alone)
    stages = [stage for stage in surrogate if stage.taken(alone)]
    made = [job for stage in stages for job in stage.jobs(setting, alone, "") if not job.measurement]
    image = sweep.jobs(setting, alone, "")
    return _total(setting, made, counted), _total(setting, image, counted) + match_flops(setting)


def _total(setting: Setting, jobs: Iterable[Job], counted: _Counted) -> float:
    total = 0.0
    for job in jobs:
        size = setting.per_device(job.batch)
        if (job.key, size) not in counted:
            counted[job.key, size] = job.lower(size).flops()
        total += job.images * job.calls * counted[job.key, size]
    return total
