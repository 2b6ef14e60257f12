"""Stage 7, recall: asks the target for each photo, by the exact posterior over training and held-out photos together.

    g = α_t / σ_t² (x_c − Σ_i w_i x_i),      w_i ∝ N(x_t; α_t x_i, σ_t² I)

The guide does not know which photos were trained on, so training photos that come out more surely than held-out ones
were learnt one by one (`evidence.recall`). One photo of each picture is in its set, and is asked for.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import jax
import numpy as np
import pyarrow as pa
from etils import epath

from side_jax.audit.asked_photos import AskedPhotos
from side_jax.audit.cost import programs
from side_jax.audit.cost.jobs import Job, Setting, inference
from side_jax.audit.stage import Audit, Stage
from side_jax.audit.sweep import descriptor_path
from side_jax.evidence.recall import Asked
from side_jax.matching.parts import covered, drop_damaged, images_done, read_rows, scale_folder, write_rows
from side_jax.runtime.arrays import load_array
from side_jax.runtime.declare import AMOUNT, DISTINCT, SOME, WINDOW, Check, amounts, at_least, decided, option, require
from side_jax.runtime.files import MANIFEST, AuditError, Json, fingerprint, names, read_json
from side_jax.runtime.progress import Progress
from side_jax.runtime.sharding import stage_key
from side_jax.surrogate.exact import ExactGuide, make_exact_guide
from side_jax.targets.sampling import Sampler
from side_jax.targets.steering import steered_steps
from side_jax.targets.target import Target

if TYPE_CHECKING:
    from side_jax.audit.options import AuditOptions

_SCHEMA = pa.schema(
    [
        ("index", pa.int64()),  # of the image
        ("pair", pa.int32()),  # place of its photo in the order in which photos are asked for
        ("member", pa.bool_()),
        ("photo", pa.int32()),  # position among the training photos, or among the held-out ones
        ("score", pa.float32()),  # with the photo that was asked for
        ("rank", pa.int32()),  # of that photo among all photos of the set, 1 for the nearest
    ]
)


@dataclasses.dataclass(frozen=True)
class RecallOptions:
    """Asking for each photo, training and held-out alike."""

    num_photos: int = option(
        500,
        "training photos that are asked for, and as many held-out ones, at most; spread over the classes; 0: no recall"
        " stage",
        Check(lambda value: value >= 0, "0 (no recall stage) or more"),
        decides=AMOUNT,
    )
    num_images: int = option(
        2, "images for each photo and λ, at most; how many count is chosen", at_least(1), decides=AMOUNT
    )
    scales: tuple[float, ...] = option(
        (2.0, 4.0), "λ, of which the best is chosen on one half of the photos", DISTINCT, decides=AMOUNT
    )
    window: tuple[float, float] = option(
        (0.0, 0.5),  # chosen on one half of the ORL photos, measured on the other: docs/evidence.md
        "from which to which share of the sampler's steps images are guided",
        WINDOW,
    )

    def check(self, path: str) -> None:
        """Refuses a λ that guides nothing, or none at all."""
        require(SOME, f"{path}.scales", self.scales)
        require(Check(lambda scales: min(scales) > 0, "all above 0"), f"{path}.scales", self.scales)


class RecallStage(Stage):
    """Recall of photos, one by one."""

    name = "recall"
    folder = "recall"
    needs = ("target", "extract")  # the sweep has the descriptors of all photos
    alone = True

    def needed(self, options: "AuditOptions") -> bool:
        """True if any photo is to be asked for and any is held out."""
        return options.recall.num_photos > 0 and options.dataset.held_out

    def spec(self, audit: Audit) -> Json:
        """Everything but the amounts, and the photos in their order. The spec of extract covers the rest."""
        asked = fingerprint(AskedPhotos.of(audit.split).order)
        return {
            "recall": decided(audit.options.recall),
            "num_steps": audit.options.extract.num_steps,
            "photos asked for, by class": asked,
        }

    def request(self, audit: Audit) -> Json:
        """The amounts."""
        return amounts(audit.options.recall)

    def check_model(self, options: "AuditOptions", target: Target) -> None:
        """The window must contain a step."""
        try:
            steered_steps(options.recall.window, options.extract.num_steps)
        except ValueError as error:
            raise ValueError(f"recall.{error}") from error

    def run(self, audit: Audit) -> Json:
        """Writes a row for each image, and returns the numbers of photos and of damaged parts."""
        audit = audit.main()
        photos, damaged = AskedPhotos.of(audit.split), 0
        sampler, references = _sampler(audit, photos), _references(audit, photos)
        for scale in audit.options.recall.scales:
            folder = scale_folder(audit.folder(self.folder), scale)
            folder.mkdir(parents=True, exist_ok=True)
            damaged += drop_damaged(folder)
            wanted = _wanted(audit, photos)
            held = covered(folder, int(wanted[-1]) + 1)
            missing = wanted[~held[wanted]]
            with Progress(f"recall λ={scale:g}", len(wanted), len(wanted) - len(missing)) as progress:
                for run in np.split(missing, np.flatnonzero(np.diff(missing) > 1) + 1):
                    for indices, images in sampler(run, scale, photos.position(run).astype(np.int32)):
                        write_rows(folder, _rows(audit, photos, references, indices, images))
                        progress.update(len(indices))
        return {
            "photos": photos.count(audit.options.recall.num_photos),
            "set": len(photos.classes),
            "damaged_parts": damaged,
        }

    def progress(self, audit: Audit) -> Iterator[str]:
        """Images by λ."""
        wanted = _wanted(audit, AskedPhotos.of(audit.split))
        for scale in audit.options.recall.scales:
            done = images_done(names(scale_folder(audit.folder(self.folder), scale)), int(wanted[-1]) + 1)
            yield f"λ = {scale:g}: {done} of {len(wanted)} images"

    def jobs(self, setting: Setting, row: "AuditOptions", method: str) -> Iterator[Job]:
        """Guided sampling. As many photos are assumed to be held out as there are training photos."""
        options, extract = setting.options.recall, setting.options.extract
        count = 2 * min(options.num_photos, setting.num_train) * options.num_images * len(options.scales)
        guide = programs.exact_guide(
            2 * setting.num_train, 2 * setting.num_train, False, setting.options.classifier.block, setting.shape
        )
        lower = functools.partial(programs.sampling_step, setting.model, guide=guide)
        what, precision = f"guided to photos, {extract.num_steps} steps", inference(setting.options, "default")
        key = f"step of {programs.name_of(guide)}"
        yield Job(self.name, what, count, key, lower, extract.batch_size, extract.num_steps, precision)


def _wanted(audit: Audit, photos: AskedPhotos) -> np.ndarray:
    """Indices of all images that are asked for."""
    options = audit.options.recall
    return photos.indices(options.num_photos, options.num_images)


def _sampler(audit: Audit, photos: AskedPhotos) -> Sampler:
    options = audit.options
    guide: ExactGuide = make_exact_guide(
        photos.images(), photos.classes, audit.target().schedule.process(), options.classifier.block
    )
    batch = read_json(audit.folder("extract") / MANIFEST)["facts"]["device_batch"] * jax.local_device_count()
    how = audit.sampling(options.extract.num_steps, options.extract.eta)
    how = dataclasses.replace(how, window=options.recall.window, batch_size=batch)
    return Sampler(audit.target(), stage_key(options.seed, "recall"), how, guide)


def _references(audit: Audit, photos: AskedPhotos) -> np.ndarray:
    """Descriptors of the set, float32 [P', D]."""
    sets = (("train", photos.train), ("heldout", photos.heldout))
    return np.concatenate([load_array(descriptor_path(audit, name), chosen) for name, chosen in sets])


def _rows(
    audit: Audit, photos: AskedPhotos, references: np.ndarray, indices: np.ndarray, images: np.ndarray
) -> pa.Table:
    """Score and rank of the photo that each image was guided to, among all photos of the set."""
    queries = audit.descriptor().host_queries(images)
    views = queries.reshape(len(images), -1, queries.shape[-1])  # mirrored, if copies are matched so
    position = photos.position(indices)
    scores = np.max([views[:, i] @ references.T for i in range(views.shape[1])], axis=0)
    score = scores[np.arange(len(scores)), position]
    member = position < len(photos.train)
    return pa.table(
        {
            "index": indices,
            "pair": (indices % photos.order.size // 2).astype(np.int32),
            "member": member,
            "photo": np.concatenate([photos.train, photos.heldout])[position].astype(np.int32),
            "score": score.astype(np.float32),
            "rank": (1 + (scores > score[:, None]).sum(1)).astype(np.int32),
        },
        schema=_SCHEMA,
    )


@dataclasses.dataclass(frozen=True)
class Recalled:
    """What the stage found.

    Attributes:
      asked: scores of the photos, which are the training and then the held-out photos, in their order of pairs.
      photo: position of each photo in its set, int [P].
      ranks: λ -> rank of the photo among all photos, of each image: int [R, P].
    """

    asked: Asked
    photo: np.ndarray
    ranks: dict[float, np.ndarray]


def read_recall(audit: Audit) -> Recalled:
    """The scores of every photo that was asked for, by λ and round. Raises `AuditError` if rows are missing."""
    audit = audit.main()
    photos, options = AskedPhotos.of(audit.split), audit.options
    wanted = _wanted(audit, photos)
    scores, ranks = {}, {}
    for scale in options.recall.scales:
        table = _complete(audit.folder("recall"), scale, wanted)
        scores[scale], ranks[scale] = (
            table[name].to_numpy().reshape(options.recall.num_images, -1) for name in ("score", "rank")
        )
    first = table.slice(0, 2 * photos.count(options.recall.num_photos))
    member, photo = (first[name].to_numpy(zero_copy_only=False) for name in ("member", "photo"))
    train, heldout = photos.split.strata()
    strata = np.where(member, train[np.where(member, photo, 0)], heldout[np.where(member, 0, photo)])
    return Recalled(Asked(scores, member, first["pair"].to_numpy() % 2, strata), photo, ranks)


def _complete(folder: epath.Path, scale: float, wanted: np.ndarray) -> pa.Table:
    table = read_rows(scale_folder(folder, scale), _SCHEMA)
    table = table.filter(np.isin(table["index"].to_numpy(), wanted))
    if len(table) != len(wanted):
        (folder / MANIFEST).unlink(missing_ok=True)  # the stage is no longer complete
        raise AuditError(
            f"{len(wanted) - len(table)} of the {len(wanted)} rows of recall, λ = {scale:g}, are damaged or missing;"
            " --stages=recall,report makes them again"
        )
    return table
