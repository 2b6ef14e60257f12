"""Stage 6, extract: generates images for every λ and matches them against training and held-out photos."""

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import jax
import numpy as np
from jax.sharding import Mesh

from side_jax.audit.bands import check_bands, fix_bands
from side_jax.audit.cost import programs
from side_jax.audit.cost.equal_compute import random_images_at_equal_compute
from side_jax.audit.cost.jobs import CLASSES, Job, Setting, inference, sampling
from side_jax.audit.samples import FILE as SAMPLES
from side_jax.audit.samples import keep_facts, other_samples
from side_jax.audit.stage import (
    Audit,
    Stage,
    data_print,
    descriptor_spec,
    paired_positions,
    photo_pool,
    precision_spec,
    sampling_spec,
)
from side_jax.audit.stages.distill import DistillStage
from side_jax.audit.stages.label import LabelStage
from side_jax.audit.stages.synthesize import SynthesizeStage, check_steps
from side_jax.audit.sweep import (
    EQUAL_COMPUTE,
    asked_images,
    descriptor_path,
    image_store,
    lists_from,
    make_source,
    num_images,
    pool_photos,
)
from side_jax.evidence.scores import Band
from side_jax.matching.descriptor import Descriptor
from side_jax.matching.descriptors import DESCRIPTORS, check_descriptor
from side_jax.matching.parts import count_damaged, covered, drop_damaged, images_done, scale_folder
from side_jax.matching.references import ReferenceSet, place_references
from side_jax.matching.sweep import Sweep
from side_jax.runtime.arrays import ImageStore, array_exists, load_array, save_array
from side_jax.runtime.batch_size import check_batch_size, resolve
from side_jax.runtime.declare import (
    AMOUNT,
    CONTENT,
    DISTINCT,
    Check,
    amounts,
    at_least,
    decided,
    one_of,
    option,
    require,
)
from side_jax.runtime.distributed import barrier, broadcast, is_primary, once
from side_jax.runtime.files import Json, fingerprint, names, write_json
from side_jax.runtime.progress import Progress, TimeToGo
from side_jax.runtime.sharding import data_mesh, local_mesh, replicate
from side_jax.targets.target import Target

if TYPE_CHECKING:
    from side_jax.audit.options import AuditOptions

SURROGATE = (SynthesizeStage(), LabelStage(), DistillStage())  # the stages that make the guide
_REFERENCE_SHARE = 1 / 4  # of a device's memory; larger reference sets are split over all devices


@dataclasses.dataclass(frozen=True)
class ExtractOptions:
    """The sweep over λ, and the matching of its images."""

    scales: tuple[float, ...] = option((0.0, 5.0, 6.0, 7.0, 8.0, 9.0), 'λ; 0 is "Random"', DISTINCT, decides=AMOUNT)
    num_images: int = option(50_000, "N_G, per λ", at_least(1), decides=AMOUNT)
    num_steps: int = option(50, "DDIM steps", at_least(1))
    eta: float = option(0.0, "0 DDIM, 1 ancestral", Check(lambda value: 0 <= value <= 1, "in [0, 1]"))
    batch_size: int | str = option(256, 'or "auto": what fits; changes speed and memory, never a result', decides=False)
    descriptor: str = option(
        "pixel", " | ".join(f"{name}: {kind.doc}" for name, kind in DESCRIPTORS.items()), decides=CONTENT
    )
    weights: str = option("", "sscd: its file, such as sscd_disc_mixup.torchvision.pt; pixel has none", decides=CONTENT)
    preprocessing: str = option(
        "", 'sscd: small_edge_288 (what "" means) | square_320; pixel has none', decides=CONTENT
    )
    mirror: bool = option(
        False, "also match generated images mirrored: for a target that was trained with flips, as its copies may be"
    )
    top_k: int = option(10, "nearest training images kept per generated image", at_least(1))
    save_images: str = option(
        "none",
        "none | matched (scores at or above the lowest band as the sweep begins) | all: the others are regenerated when"
        " looked at",
        one_of("none", "matched", "all"),
    )
    quality_images: int = option(
        256,
        "per λ, the first: their descriptors are kept, and measured against photos (KID, Fréchet distance); 0: none",
        Check(lambda value: value == 0 or value >= 3, "0, or at least 3"),
    )
    references: str = option(
        "auto",
        "where real images lie: replicated on every device | sharded over all of them, which waits for all processes at"
        " every batch | auto: sharded where they would take a quarter of a device's memory",
        one_of("auto", "replicated", "sharded"),
        decides=False,
    )
    equal_compute: bool = option(
        False,
        "more images at λ = 0, as many as surrogate and gradients of the costliest method would pay for",
        decides=AMOUNT,
    )
    bands: tuple[Band, ...] = option(
        (),
        "[low, high) of the score; 1.0 closed. Empty: as published for sscd (0.4, 0.5, 0.6); of pixel, what at most 10,"
        " 1 and 0.1 % of the held-out photos reach. Other bands re-filter the matches, down to the lowest at the"
        " sweep's beginning",
        decides=CONTENT,
    )

    def check(self, path: str) -> None:
        """λ, batch size, descriptor and bands."""
        require(Check(bool, "at least one λ"), f"{path}.scales", self.scales)
        for scale in self.scales:
            # Folder names carry two decimals; a finer λ would share a folder with another.
            name = f"{path}.scales: λ"
            require(Check(lambda value: 0 <= value < 1000, "0 or more (and below 1000)"), name, scale)
            require(Check(lambda value: round(value, 2) == value, "given to at most two decimals"), name, scale)
        check_batch_size(f"{path}.batch_size", self.batch_size)
        check_descriptor(self.descriptor, self.weights, self.preprocessing)
        check_bands(self.bands)


class ExtractStage(Stage):
    """The sweep."""

    name = "extract"
    folder = "extract"
    needs = ("target", "distill")
    of_model = False
    per_method = True
    version = 5

    def spec(self, audit: Audit) -> Json:
        """Everything but the amounts: more λ or more images extend a sweep."""
        options = audit.options
        extract = options.extract
        generated = sampling_spec(audit) | {"labels": {"draw": options.labels.draw}}
        return {
            "extract": decided(extract, without=("num_steps", "eta") if options.modelless else ()),
            **descriptor_spec(extract.descriptor, extract.weights, extract.preprocessing),
            **(precision_spec(audit) if options.modelless else generated),
            "dataset": decided(options.dataset),
            "train": data_print(audit.split.train),
            "heldout": data_print(audit.split.heldout),
            "paired": fingerprint(paired_positions(audit)),
        }

    def request(self, audit: Audit) -> Json:
        """λ and number of images; or the samples, of which more extend a sweep as more λ do."""
        if audit.options.modelless:
            return {"samples": audit.sample_facts()}
        return amounts(audit.options.extract)

    def check_model(self, options: "AuditOptions", target: Target) -> None:
        """The schedule must allow this number of sampler steps."""
        check_steps(target.schedule, options.extract.num_steps, self.name)

    def check(self, audit: Audit) -> None:
        """The descriptor's weights must fit, and `top_k` must not exceed the number of training photos."""
        options, count = audit.options.extract, len(audit.split.train)
        audit.descriptor()
        if options.top_k > count:
            raise ValueError(f"extract.top_k {options.top_k} is more than the {count} training images")
        if not (options.bands or DESCRIPTORS[options.descriptor].bands or len(audit.split.heldout)):
            raise ValueError(
                f"extract.bands is empty: the {options.descriptor} descriptor has no published bands, and without"
                " held-out photos none can be measured; give them, such as (('high', 0.9, 1.0),), or photos that the"
                " target never saw (dataset.heldout_path)"
            )

    def lacks(self, audit: Audit) -> list[str]:
        """Bands that begin below the lists of the sweep, and samples that are not those of its parts."""
        kept, bands = lists_from(audit), audit.bands()
        below = kept is not None and bands and bands[0][1] < kept
        lacking = [f"extract.bands: the lists of matches begin at {kept:g} -> {bands[0][1]:g}"] if below else []
        samples = audit.sample_facts()
        return lacking + other_samples(audit.folder(self.folder) / SAMPLES, samples)

    def run(self, audit: Audit) -> Json:
        """Computes and keeps the descriptors of the photos, then sweeps over λ."""
        options, folder = audit.options.extract, audit.folder("extract")
        embed = audit.descriptor()
        missing, damaged = _prepare(audit, embed)
        lowest = lists_from(audit)
        assert lowest is not None
        sharded = _sharded(audit, load_array(descriptor_path(audit, "train"), np.arange(1)).shape[1])
        mesh = data_mesh() if sharded else local_mesh()
        sampler = make_source(audit, mesh, sharded)

        def store(scale: float) -> ImageStore:
            return image_store(audit, scale, sampler.batch_size * local_mesh().size // mesh.size)

        sweep = Sweep(
            lambda scale: scale_folder(folder, scale),
            sampler,
            dataclasses.replace(embed, variables=replicate(embed.variables, mesh)),
            _references(audit, mesh, sharded),
            options.top_k,
            lowest,
            options.save_images,
            store,
            options.quality_images,
        )
        largest = max(options.scales)  # the guided program takes the most memory
        lower, program = (
            functools.partial(sweep.lower, scale=largest),
            (sweep.lists, jax.tree.structure(sweep.arrays), embed.facts, sampler.signature(largest)),
        )
        sampler.batch_size = resolve(options.batch_size, lower, program, asked_images(audit, largest), mesh, "extract")
        if options.save_images != "none":
            once(
                "image stores", lambda: [store(scale) for scale in options.scales]
            )  # created once, then opened by every process
        left = int(sum(one.sum() for one in missing.values()))
        to_go = TimeToGo("extract", left, "fewer images, steps or λ (extract.num_images, num_steps, scales)")
        for scale in options.scales:
            count, logs = len(missing[scale]), folder / "logs" / scale_folder(folder, scale).name
            done = count - int(missing[scale].sum())
            with Progress(f"extract λ={scale:g}", count, done, logs=logs, to_go=to_go) as progress:
                sweep(scale, missing[scale], progress)
        return {
            "descriptor": embed.facts,
            "paired_images": len(paired_positions(audit)[0]),
            "damaged_parts": damaged,
            "device_batch": sampler.batch_size // mesh.size,
        }

    def progress(self, audit: Audit) -> Iterator[str]:
        """Number of images of every λ."""
        for scale in audit.options.extract.scales:
            wanted = num_images(audit, scale)
            done = images_done(names(scale_folder(audit.folder(self.folder), scale)), wanted)
            yield f"{audit.options.samples.named.get(scale, f'λ={scale:<6g}')} {done:,} of {wanted:,} images"

    def jobs(self, setting: Setting, row: "AuditOptions", method: str) -> Iterator[Job]:
        """The sampler and the descriptor."""
        extract, stage = row.extract, self.name + method
        unguided = sum(scale == 0 for scale in extract.scales) * extract.num_images
        guided = len(extract.scales) * extract.num_images - unguided
        if unguided and not row.modelless:
            yield sampling(stage, setting, unguided, extract.num_steps, extract.batch_size)
        if guided and not row.modelless:
            yield sampling(stage, setting, guided, extract.num_steps, extract.batch_size, row)
        name = extract.descriptor
        embed = setting.embed
        lower = lambda size: programs.descriptor(embed, setting.shape, size)  # noqa: E731
        precision = inference(row, "float32") if DESCRIPTORS[name].weights else "float32"
        views = (unguided + guided) * (2 if extract.mirror else 1)
        yield Job(stage, f"{name} descriptor", views, "descriptor", lower, extract.batch_size, precision=precision)


def _count_equal_compute(audit: Audit) -> None:
    """Counts for every guided method how many images Random makes with the same compute."""
    rows = [row for row in audit.compared or (audit.options,) if row.classifier.guide != "none"]
    counted = []
    for row in rows:
        labels = audit.split.train.labels
        setting = Setting(
            row,
            audit.target().unsaid(),
            1,  # one device: the number must not depend on the machine
            len(audit.split.train),
            len(np.unique(labels[labels >= 0])) or CLASSES,
        )
        name = {"source": row.labels.source, "guide": row.classifier.guide}
        counted.append(
            name | random_images_at_equal_compute(setting, row, row.extract.num_images, SURROGATE, ExtractStage())[1]
        )
    write_json(audit.workdir / "extract" / EQUAL_COMPUTE, counted)


def _sharded(audit: Audit, width: int) -> bool:
    """True if the photos must be split over the devices of all processes.

    That needs the least memory, but every batch then waits for all processes.
    """
    options, train = audit.options.extract, audit.split.train
    if options.references != "auto":
        return options.references == "sharded"
    stats = jax.local_devices()[0].memory_stats() or {}  # None on CPU
    needed = (len(train) + len(paired_positions(audit)[1])) * (4 * width + math.prod(train.images.shape[1:]))
    return needed > _REFERENCE_SHARE * stats.get("bytes_limit", math.inf)


def _references(audit: Audit, mesh: Mesh, sharded: bool) -> dict[str, ReferenceSet]:
    photos = pool_photos(audit)
    groups = photo_pool(audit).groups()
    return {prefix: place_references(photos, members, mesh, sharded) for prefix, members in groups.items()}


def _prepare(audit: Audit, embed: Descriptor) -> tuple[dict[float, np.ndarray], int]:
    """Missing images of each λ, bool [N_G], the same on all processes; and the number of damaged parts so far."""
    options, split, folder = audit.options.extract, audit.split, audit.folder("extract")
    damaged = 0
    if is_primary():
        if audit.samples:
            keep_facts(folder / SAMPLES, audit.sample_facts())
        if options.equal_compute and 0.0 in options.scales:
            _count_equal_compute(audit)
        for name, images in (("train", split.train), ("heldout", split.heldout)):
            if not array_exists(descriptor_path(audit, name)):
                save_array(descriptor_path(audit, name), embed(images.images))
        fix_bands(audit)
        damaged = count_damaged(folder, sum(drop_damaged(scale_folder(folder, scale)) for scale in options.scales))
    barrier("extract: descriptors and parts")
    missing = {scale: ~covered(scale_folder(folder, scale), num_images(audit, scale)) for scale in options.scales}
    return broadcast(missing), damaged
