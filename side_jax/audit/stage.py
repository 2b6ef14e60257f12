"""The interface of a stage, the audit that every stage gets, and specs that several stages share."""

import abc
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from etils import epath

from side_jax.audit.samples import FILE as SAMPLES
from side_jax.audit.samples import Samples, sample_facts
from side_jax.audit.target_files import load_target
from side_jax.data.images import ImageSet
from side_jax.data.splitting import Split, whole_groups
from side_jax.diffusion.solvers import SOLVERS
from side_jax.evidence.scores import Band
from side_jax.matching.descriptors import DESCRIPTORS, Descriptor, descriptor_facts, load_descriptor
from side_jax.matching.pool import Pool
from side_jax.runtime.declare import decided
from side_jax.runtime.files import MANIFEST, Json, fingerprint, plain, read_json
from side_jax.runtime.precision import inference_precision
from side_jax.targets.sampling import Sampling
from side_jax.targets.target import Target, abstract_target

if TYPE_CHECKING:  # the options import the stages
    from side_jax.audit.cost.jobs import Job, Setting
    from side_jax.audit.options import AuditOptions


@dataclasses.dataclass(frozen=True)
class Audit:
    """Everything a stage gets: checked options, the workdir, the photos, the target and the descriptor.

    A comparison of several methods (Table 1) is one audit per method. All share target, synthetic images and report.
    A method other than the main one is named by `branch`, and has labels, classifier and sweep of its own. `compared`
    holds the options of all methods. `samples` are generated images by λ, where there is no model.
    """

    options: "AuditOptions"
    workdir: epath.Path
    split: Split
    branch: str = ""
    compared: "tuple[AuditOptions, ...]" = ()
    samples: Samples = dataclasses.field(default_factory=dict)
    _read: Json = dataclasses.field(default_factory=dict, repr=False, compare=False)

    def target(self) -> Target:
        """The model under audit, read once per run. A target that is trained here exists only after its stage."""
        options = self.options.target
        if "target" not in self._read:
            loaded = load_target(options.path if options.source == "load" else self.workdir)
            self._read["target"] = dataclasses.replace(loaded, classes=options.classes or loaded.classes)
        target: Target = self._read["target"]
        return target

    def model(self) -> Target:
        """The target; with abstract parameters if it is trained here. Raises `ValueError`."""
        options, dataset = self.options.target, self.options.dataset
        if options.source == "load":
            return self.target()
        net = options.make_net(dataset.image_size, dataset.channels)
        net.check(dataset.image_size, dataset.channels)
        return abstract_target(net, options.make_schedule())

    def sampling(self, num_steps: int, eta: float = 0.0) -> Sampling:
        """Options of the sampler, the same for every image of this audit."""
        options = self.options
        solver, clip = SOLVERS[options.sampler.solver](eta), options.sampler.clip
        return Sampling(num_steps, solver, clip, options.precision, options.labels.draw)

    def descriptor(self) -> Descriptor:
        """The descriptor of the scores, read once per run."""
        extract, precision = self.options.extract, self.options.precision
        if "descriptor" not in self._read:
            loaded = load_descriptor(extract.descriptor, extract.weights, extract.preprocessing, precision)
            self._read["descriptor"] = dataclasses.replace(loaded, mirror=extract.mirror)
        descriptor: Descriptor = self._read["descriptor"]
        return descriptor

    def bands(self) -> tuple[Band, ...]:
        """Bands of the scores: the config's, else those published of the descriptor, else those measured on photos.

        The latter are empty until the sweep begins, which measures them before it generates an image.
        """
        extract = self.options.extract
        given = extract.bands or DESCRIPTORS[extract.descriptor].bands
        return given or tuple(
            (name, low, high) for name, low, high in (self.measured_bands() or {"bands": ()})["bands"]
        )

    def measured_bands(self) -> Json | None:
        """What bands.json of the sweep says; None if that is not begun, or its bands were not measured."""
        path = self.workdir / "extract" / BANDS
        return read_json(path) if path.exists() else None

    def sample_facts(self) -> Json:
        """What samples.json says of each set of given images; empty with a model. For `--status`, what it says now."""
        path = self.workdir / "extract" / SAMPLES
        if self.options.modelless and not self.samples:
            return read_json(path) if path.exists() else {}
        return sample_facts(self.options, self.samples)

    def folder(self, name: str) -> epath.Path:
        """The folder of an artifact. A branch has its own `labels`, `classifier` and `extract` below methods/BRANCH."""
        return (self.workdir / "methods" / self.branch if self.branch and name in _OWN else self.workdir) / name

    def methods(self) -> "dict[str, Audit]":
        """One audit per method, the main one first."""
        rows = self.options.rows()
        main = next(iter(rows))
        return {
            name: dataclasses.replace(
                self, options=options, branch="" if name == main else name, compared=tuple(rows.values())
            )
            for name, options in rows.items()
        }

    def main(self) -> "Audit":
        """The audit of the main method."""
        return next(iter(self.methods().values()))


BANDS = "bands.json"
_OWN = ("labels", "classifier", "extract")


class Stage(abc.ABC):
    """One step of the flow. Each is one file of `audit/stages`, which also declares its options.

    Attributes:
      name: as in `--stages`.
      folder: its folder in the workdir.
      needs: stages whose artifacts it reads.
      version: of its results. Raise it when they change by more than rounding, with a line in CHANGELOG.md; then make
        the golden run again (`python -m tests.golden.make_smoke_run`). Moving or rewording code changes no version.
      per_method: True if each compared method has its own, False if all share one.
      of_model: True if it needs the model under audit, as most do. An audit of images alone leaves it out.
      for_guide: True if it makes the guide. It is not run while no λ above 0 is asked for.
      alone: True if the primary process does it while the others wait.
      remade: True for a cheap stage that is made again where others are refused, and after any other stage.
    """

    name: ClassVar[str]
    folder: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    version: ClassVar[int] = 1
    per_method: ClassVar[bool] = False
    of_model: ClassVar[bool] = True
    for_guide: ClassVar[bool] = False
    alone: ClassVar[bool] = False
    remade: ClassVar[bool] = False

    @abc.abstractmethod
    def run(self, audit: Audit) -> Json:
        """Does the work, and returns facts for the manifest."""

    def needed(self, options: "AuditOptions") -> bool:
        """True if an audit of a model with these options needs the stage."""
        return True

    def taken(self, options: "AuditOptions") -> bool:
        """True if an audit with these options has the stage: it is needed, and not left out for want of a model."""
        return self.needed(options) and not (self.of_model and options.modelless)

    def idle(self, options: "AuditOptions") -> bool:
        """True if the stage is needed, but nothing that is asked for uses its result yet: it is not run."""
        return self.for_guide and max(options.extract.scales) == 0

    def spec(self, audit: Audit) -> Json:
        """Everything its result depends on besides the stages it needs. A change is refused."""
        return {}

    def request(self, audit: Audit) -> Json:
        """The amount that is wanted. A change makes the stage run on."""
        return {}

    def check_model(self, options: "AuditOptions", target: Target) -> None:
        """Raises `ValueError`, naming the field, for options that do not fit the target's architecture."""
        return

    def check(self, audit: Audit) -> None:
        """Raises `ValueError` for options that do not fit the images, or a file that they name."""
        return

    def lacks(self, audit: Audit) -> list[str]:
        """What is asked that its artifacts neither hold nor are extended by, as `files.differences` says it."""
        return []

    def progress(self, audit: Audit) -> Iterator[str]:
        """Its progress, for `--status`, from the names of files alone."""
        yield from ()

    def jobs(self, setting: "Setting", row: "AuditOptions", method: str) -> "Iterator[Job]":
        """The programs that it calls, for `--dry_run`; `method` is the suffix of the stage's name."""
        yield from ()

    def wanted(self, audit: Audit) -> Json:
        """The request of a complete manifest, as JSON types. A `remade` stage also names what it was made from."""
        wanted = self.request(audit)
        if self.remade:
            wanted = wanted | {"made_from": _finished(audit.workdir, self.folder)}
        made: Json = plain(wanted)
        return made

    def complete(self, audit: Audit) -> Json | None:
        """Its manifest if the stage is needed and has done what this audit asks for, else None."""
        manifest = audit.folder(self.folder) / MANIFEST
        if not self.taken(audit.options) or not manifest.exists():
            return None
        found: Json = read_json(manifest)
        return found if found["request"] == self.wanted(audit) else None


def _finished(workdir: epath.Path, but: str) -> dict[str, str]:
    """When each artifact of the workdir was finished, except the folder `but`."""
    manifests = [path for pattern in (f"*/{MANIFEST}", f"methods/*/*/{MANIFEST}") for path in workdir.glob(pattern)]
    names = {str(path.parent)[len(str(workdir)) + 1 :]: path for path in manifests if path.parent.name != but}
    return {name: read_json(path)["finished"] for name, path in sorted(names.items())}


def paired_positions(audit: Audit) -> tuple[np.ndarray, np.ndarray]:
    """Positions of equally many training and held-out photos, one per near-duplicate group; ascending.

    They are drawn with the split's seed. A picture that is many times in a folder counts once, on either side.
    """
    return _equally_many(audit, *audit.split.representatives())


def control_positions(audit: Audit) -> np.ndarray:
    """Positions of about as many held-out photos as there are training photos, or of all; ascending.

    Repeats count on both sides: near-duplicate groups are taken as a whole.
    """
    return _equally_many(audit, np.arange(len(audit.split.train)), np.arange(len(audit.split.heldout)))[1]


def _equally_many(audit: Audit, train: np.ndarray, heldout: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of both, as many as of the fewer, as far as whole near-duplicate groups allow."""
    split, rng = audit.split, np.random.default_rng((audit.options.dataset.split_seed, 1))
    size, count = min(len(train), len(heldout)), len(split.train)
    groups = np.arange(count + len(split.heldout)) if split.groups is None else split.groups
    sides = ((train, groups[:count]), (heldout, groups[count:]))
    kept_train, kept_heldout = (np.sort(whole_groups(members, of, size, rng)) for members, of in sides)
    return kept_train, kept_heldout


def photo_pool(audit: Audit) -> Pool:
    """The photos that images are matched against."""
    split, (in_train, in_heldout) = audit.split, paired_positions(audit)
    ids = (*split.train.ids, *(split.heldout.ids[i] for i in in_heldout))
    return Pool(ids, len(split.train), in_train)


def data_print(images: ImageSet) -> str:
    """Fingerprint of the ids and pixels of an image set."""
    return fingerprint([images.ids, images.hashes])


def classes_spec(audit: Audit, *photos: ImageSet) -> Json:
    """Spec of what asks the target about photos: their classes, if it is class-conditional."""
    if audit.model().net.num_classes is None:
        return {}
    return {"classes": fingerprint([some.labels for some in photos])}


def descriptor_spec(name: str, weights: str, preprocessing: str) -> Json:
    """Spec of the scores: the hash of the descriptor's weights, not their path, because files move."""
    facts = descriptor_facts(name, weights, preprocessing)
    files = {"weights": facts.sha256, "preprocessing": facts.preprocessing} if facts.sha256 else {}
    return {"descriptor": facts.name} | files


def precision_spec(audit: Audit) -> dict[str, str]:
    """Spec of inference: the dtype and the products on this machine, not `auto`."""
    return {"precision": inference_precision(audit.options.precision)}


def sampling_spec(audit: Audit) -> Json:
    """Spec of every generated image."""
    return {"seed": audit.options.seed, "sampler": decided(audit.options.sampler)} | precision_spec(audit)
