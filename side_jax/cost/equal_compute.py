"""Equal compute: how many images Random makes for the operations that a guided method takes.

    method    C_surrogate + N c_g      synthesize, label and distill, then N guided images
    Random    N_eq c_u                 unguided images

An image is its sampling steps, its descriptor and its match. Operations are the dry run's, whatever their precision:
training, of which float32 takes longer than the sampler's bfloat16, is not weighted. The target costs both alike.
"""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

from side_jax.cost.count import Work, match_flops
from side_jax.cost.jobs import Job, Setting, method_jobs, shared_jobs
from side_jax.options import AuditOptions

_Counted = dict[tuple[str, int], float]  # program and batch -> operations per image


def random_images_at_equal_compute(setting: Setting, row: AuditOptions, num_images: int) -> tuple[int, dict[str, Any]]:
    """The images that Random gets beyond N, if it may take as many operations as the method.

    Programs are lowered and, where that suffices for a count, not compiled: half a minute for the paper's UNet.

    Args:
      setting: of the audit, with its UNet, training images and classes as they are.
      row: the method, as `setting.methods()` has it.
      num_images: N, of the method at one λ > 0.

    Returns:
      N_eq − N, N_eq = ⌊(C_surrogate + N c_g) / c_u⌋; and the facts: N, N_eq, and operations of the surrogate and of a
      guided and an unguided image.

    Raises:
      ValueError: if the method has no guide.
    """
    if row.classifier.guide == "none":
        raise ValueError("classifier.guide='none' is Random itself, which equal compute compares others with")
    counted: _Counted = {}
    surrogate, guided = _flops(setting, row, 1.0, counted)
    _, unguided = _flops(setting, row, 0.0, counted)
    random_images = max(num_images, math.floor((surrogate + num_images * guided) / unguided))
    facts = {
        "num_images": num_images,
        "random_images": random_images,
        "surrogate_flops": surrogate,
        "guided_flops_per_image": guided,
        "unguided_flops_per_image": unguided,
    }
    return random_images - num_images, facts


def work(setting: Setting) -> Work | None:
    """What `extract.equal_compute` adds to an audit: more images at λ = 0. None if it adds nothing."""
    options = setting.options.extract
    rows = [row for row in setting.methods().values() if row.classifier.guide != "none"]
    if not options.equal_compute or 0.0 not in options.scales or not rows:
        return None
    extra, facts = max((random_images_at_equal_compute(setting, row, options.num_images) for row in rows), key=_extra)
    return Work("extract", "unguided, for equal compute", extra, facts["unguided_flops_per_image"])


def _extra(counted: tuple[int, dict[str, Any]]) -> int:
    return counted[0]


def _flops(setting: Setting, row: AuditOptions, scale: float, counted: _Counted) -> tuple[float, float]:
    """Operations of the surrogate, and of one image of the method at λ = `scale`: from a sweep of that image alone."""
    alone = dataclasses.replace(row, extract=dataclasses.replace(row.extract, scales=(scale,), num_images=1))
    setting = dataclasses.replace(setting, options=alone)
    jobs = [*shared_jobs(setting), *method_jobs(setting, alone, "")]
    image = [job for job in jobs if job.stage == "extract"]
    made = [job for job in jobs if job.stage not in ("target", "extract") and not job.measurement]
    surrogate = made if scale else []
    return _total(setting, surrogate, counted), _total(setting, image, counted) + match_flops(setting)


def _total(setting: Setting, jobs: Iterable[Job], counted: _Counted) -> float:
    total = 0.0
    for job in jobs:
        size = setting.per_device(job.batch)
        if (job.key, size) not in counted:
            counted[job.key, size] = job.lower(size).flops()
        total += job.images * job.calls * counted[job.key, size]
    return total
