"""Stage 2, synthesize: generates unguided images, the surrogate's training set."""

import dataclasses
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from side_jax.audit.cost.jobs import Job, Setting, sampling
from side_jax.audit.stage import Audit, Stage, sampling_spec
from side_jax.diffusion.schedule import Schedule
from side_jax.runtime.arrays import ImageStore, fill
from side_jax.runtime.batch_size import check_batch_size, resolve
from side_jax.runtime.declare import at_least, decided, option
from side_jax.runtime.distributed import once
from side_jax.runtime.files import Json, names, read_json
from side_jax.runtime.sharding import stage_key
from side_jax.targets.sampling import Sampler
from side_jax.targets.target import Target

if TYPE_CHECKING:
    from side_jax.audit.options import AuditOptions

_CHUNK = re.compile(r"(\d+)(\.0)+")  # name of a zarr chunk; chunks are split along the first axis alone


@dataclasses.dataclass(frozen=True)
class SynthesizeOptions:
    """The surrogate's training set: unguided images of the target."""

    num_images: int = option(50_000, "how many", at_least(1))
    num_steps: int = option(50, "DDIM steps", at_least(1))
    batch_size: int | str = option(256, 'or "auto": what fits', decides=False)

    def check(self, path: str) -> None:
        """Refuses a bad batch size."""
        check_batch_size(f"{path}.batch_size", self.batch_size)


class SynthesizeStage(Stage):
    """Generates unguided images of the target."""

    name = "synthesize"
    folder = "synthetic"
    needs = ("target",)
    for_guide = True

    def needed(self, options: "AuditOptions") -> bool:
        """True if any guide learns from synthetic images."""
        return options.synthetic

    def spec(self, audit: Audit) -> Json:
        """Options and sampler. The batch size changes no image."""
        return {"synthesize": decided(audit.options.synthesize)} | sampling_spec(audit)

    def check_model(self, options: "AuditOptions", target: Target) -> None:
        """The schedule must allow this number of sampler steps."""
        check_steps(target.schedule, options.synthesize.num_steps, self.name)

    def run(self, audit: Audit) -> Json:
        """Writes images.zarr."""
        options = audit.options.synthesize
        target = audit.target()
        key = stage_key(audit.options.seed, "synthesize")
        sampler = Sampler(target, key, audit.sampling(options.num_steps))
        rows = resolve(
            options.batch_size,
            lambda size: sampler.lower(size, 0.0),
            sampler.signature(0.0),
            options.num_images,
            sampler.mesh,
            "synthesize",
        )
        folder = audit.folder("synthetic")

        def store() -> ImageStore:
            return ImageStore(folder / "images.zarr", options.num_images, target.image_shape, rows)

        once("synthetic images", store)  # created once, then opened by every process
        sampler.batch_size = store().chunk_rows  # as the array was created, perhaps by a run with another batch size
        fill(store(), folder, lambda indices: sampler(indices, 0.0))
        return {"num_images": options.num_images}

    def progress(self, audit: Audit) -> Iterator[str]:
        """Number of images in complete chunks."""
        folder, total = audit.folder(self.folder) / "images.zarr", audit.options.synthesize.num_images
        rows = read_json(folder / ".zarray")["chunks"][0] if (folder / ".zarray").exists() else 0
        chunks = [int(match[1]) for match in map(_CHUNK.fullmatch, names(folder)) if match]
        yield f"{sum(min(rows, total - chunk * rows) for chunk in chunks):,} of {total:,} images"

    def jobs(self, setting: Setting, row: "AuditOptions", method: str) -> Iterator[Job]:
        """The sampler."""
        options = setting.options.synthesize
        yield sampling(self.name, setting, options.num_images, options.num_steps, options.batch_size)


def check_steps(schedule: Schedule, num_steps: int, stage: str) -> None:
    """Raises `ValueError`, naming the stage's field, if the schedule does not allow this number of steps."""
    try:
        schedule.ddim_timesteps(num_steps)
    except ValueError as error:
        raise ValueError(f"{stage}.{error}") from error
