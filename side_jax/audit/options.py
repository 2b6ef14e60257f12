"""All options of an audit, as frozen dataclasses that check themselves.

`AuditOptions.from_config` is where ml_collections ends: stage functions see these, never a ConfigDict. Every check that
needs neither data nor weights is made there; errors name the field as the command line does.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from side_jax.audit.dataset import DatasetOptions
from side_jax.audit.samples import SamplesOptions, as_sweep, check_modelless
from side_jax.audit.stages.detect import DetectOptions
from side_jax.audit.stages.distill import ClassifierOptions
from side_jax.audit.stages.extract import ExtractOptions
from side_jax.audit.stages.label import LabelOptions
from side_jax.audit.stages.recall import RecallOptions
from side_jax.audit.stages.report import ReportOptions
from side_jax.audit.stages.sanity import SanityOptions
from side_jax.audit.stages.steer import SteerOptions
from side_jax.audit.stages.synthesize import SynthesizeOptions
from side_jax.audit.stages.target import TargetOptions
from side_jax.diffusion.solvers import SOLVERS
from side_jax.diffusion.transforms import CLIP_ORDERS
from side_jax.matching.descriptors import DESCRIPTORS
from side_jax.runtime.declare import Check, build, each_of, named_in, one_of, option
from side_jax.runtime.precision import PRECISIONS

# Rows of Table 1 (seed 002), the later version's clusters, and the exact guide with its bound and control (DESIGN §4):
# labels.source and classifier.guide of each. `side_repeats` also sets labels.draw to balanced.
METHODS = {
    "random": ("classifier", "none"),
    "ol_ti": ("dataset", "time_independent"),
    "side": ("classifier", "time_dependent"),
    "side_clusters": ("clusters", "time_dependent"),
    "side_exact": ("classifier", "exact"),
    "side_repeats": ("repeats", "exact"),
    "exact_train": ("dataset", "exact"),
    "exact_heldout": ("heldout", "exact"),
    "random_labels": ("random", "time_dependent"),
}


Config = Mapping[str, Any]  # a ConfigDict or a plain mapping, with any of the fields of configs/default.py
_MAIN = ("side_exact", "side")  # the report is about the first of these that the config asks for


@dataclasses.dataclass(frozen=True)
class SamplerOptions:
    """How every image is generated."""

    solver: str = option("ddim", f"how a step is taken: {' | '.join(SOLVERS)}", named_in(SOLVERS))
    clip: str = option(
        "before_guide",
        "when x̂₀ is clipped to the range of the target's scheduler, if that clips: before_guide | after_guide, as a"
        " guided ε̂ passed to diffusers' scheduler | consistent, as guided-diffusion: ε̂ is recomputed | none",
        one_of(*CLIP_ORDERS),
    )


@dataclasses.dataclass(frozen=True)
class AuditOptions:
    """One audit, checked."""

    seed: int = option(
        0,
        "of everything but the split: training, noise, labels",
        Check(lambda value: 0 <= value < 2**31, "in [0, 2^31)"),
    )
    precision: str = option(
        "auto",
        "of the networks in synthesize and extract: float32 | bfloat16 | auto (bfloat16 on GPU and TPU, float32 on"
        " CPU). Training is float32. A workdir begun in one is not continued in the other",
        one_of(*PRECISIONS),
    )
    methods: tuple[str, ...] = option(
        (),
        "rows of Table 1 to compare, each replacing labels.source and classifier.guide: random (λ = 0), ol_ti, side,"
        " side_exact, side_repeats, side_clusters, random_labels, and the exact guide's bound and control, exact_train"
        " and exact_heldout; empty: one audit, with these two fields as they are",
        each_of(*METHODS),
    )
    dataset: DatasetOptions = DatasetOptions()
    target: TargetOptions = TargetOptions()
    samples: SamplesOptions = SamplesOptions()
    sampler: SamplerOptions = SamplerOptions()
    synthesize: SynthesizeOptions = SynthesizeOptions()
    sanity: SanityOptions = SanityOptions()
    labels: LabelOptions = LabelOptions()
    classifier: ClassifierOptions = ClassifierOptions()
    extract: ExtractOptions = ExtractOptions()
    recall: RecallOptions = RecallOptions()
    detect: DetectOptions = DetectOptions()
    steer: SteerOptions = SteerOptions()
    report: ReportOptions = ReportOptions()

    def check(self, _: str) -> None:
        """Refuses values that contradict each other across groups."""
        check_modelless(self)
        if self.modelless:  # what the other rules are about is left out
            return
        scales = self.extract.scales
        if "random" in self.methods and 0.0 not in scales:
            raise ValueError(f"methods has 'random', but extract.scales {scales} lacks its λ, 0")
        if self._guided_methods() and not max(scales) > 0:
            raise ValueError(f"methods {self.methods} needs a λ above 0 in extract.scales, got {scales}")
        if not self.methods and self.classifier.guide == "none" and max(scales) > 0:
            raise ValueError(f"classifier.guide='none' allows λ = 0 only, got extract.scales {scales}")
        guide, source = self.classifier.guide, self.labels.source
        if not self.methods and source in ("heldout", "repeats") and guide not in ("exact", "none"):
            raise ValueError(f"labels.source={source!r} is for classifier.guide='exact' alone, got {guide!r}")
        clusters = source in ("clusters", "repeats") or not {"side_clusters", "side_repeats"}.isdisjoint(self.methods)
        name = self.labels.descriptor
        if clusters and name in DESCRIPTORS and DESCRIPTORS[name].weights and name != self.extract.descriptor:
            raise ValueError(
                f"labels.descriptor={name!r} takes the weights of extract.descriptor={name!r}, got"
                f" {self.extract.descriptor!r}; set both, or leave labels.descriptor empty"
            )
        clusters = source == "clusters" or "side_clusters" in self.methods
        if clusters and self.labels.num_clusters > self.synthesize.num_images:
            raise ValueError(
                f"labels.num_clusters {self.labels.num_clusters} is more than synthesize.num_images"
                f" {self.synthesize.num_images}; lower the one or raise the other"
            )
        if self.steer.weights and 0.0 not in scales:
            raise ValueError(
                f"steer.weights {self.steer.weights} are for unguided images, but extract.scales {scales} lacks their"
                " λ, 0; add it, or set steer.weights=()"
            )

    @property
    def modelless(self) -> bool:
        """True if generated images are audited alone: every stage that needs the model is left out."""
        return self.target.source == "none"

    @property
    def guided(self) -> bool:
        """True if any method has a guide."""
        return any(row.classifier.guide != "none" for row in self.rows().values())

    @property
    def synthetic(self) -> bool:
        """True if any guide learns from synthetic images."""
        rows = self.rows().values()
        return any(row.classifier.guide != "none" and row.labels.source not in ("dataset", "heldout") for row in rows)

    def cluster_descriptor(self) -> tuple[str, str, str]:
        """Name, weights and preprocessing of the descriptor that images are clustered by."""
        name, extract = self.labels.descriptor or self.extract.descriptor, self.extract
        return (name, extract.weights, extract.preprocessing) if name == extract.descriptor else (name, "", "")

    def _guided_methods(self) -> tuple[str, ...]:
        return tuple(method for method in self.methods if method != "random")

    def rows(self) -> "dict[str, AuditOptions]":
        """The options of each method, the main one first (`_MAIN`).

        λ = 0 is the same for all methods, so only the main one has it.
        """
        if self.modelless:
            return {"samples": self}
        if not self.methods:
            chosen = (self.labels.source, self.classifier.guide)
            name = next((name for name, row in METHODS.items() if row == chosen), f"{chosen[0]}, {chosen[1]}")
            return {"random" if self.classifier.guide == "none" else name: self}
        guided = self._guided_methods() or ("random",)
        main = next((name for name in _MAIN if name in guided), guided[0])
        others = [name for name in guided if name != main]
        rows = {main: self._as(main, self.extract.scales if main != "random" else (0.0,))}
        return rows | {name: self._as(name, tuple(s for s in self.extract.scales if s > 0)) for name in others}

    def _as(self, method: str, scales: tuple[float, ...]) -> "AuditOptions":
        source, guide = METHODS[method]
        draw = "balanced" if source == "repeats" else self.labels.draw
        return dataclasses.replace(
            self,
            labels=dataclasses.replace(self.labels, source=source, draw=draw),
            classifier=dataclasses.replace(self.classifier, guide=guide),
            extract=dataclasses.replace(self.extract, scales=scales),
            methods=(),
        )

    @classmethod
    def from_config(cls, config: Config) -> "AuditOptions":
        """Options from a ConfigDict or a plain mapping with any of the fields of configs/default.py.

        Raises:
          ValueError: for an unknown field, or a value out of range.
        """
        return as_sweep(build(cls, config))
