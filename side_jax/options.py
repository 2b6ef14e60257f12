"""What a config may say, as frozen dataclasses that check themselves.

`AuditOptions.from_config` is where ml_collections ends: stage functions see these, never a ConfigDict. Every check that
needs neither data nor weights is made here and in `stage_options`; errors name the field as the command line does.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from side_jax.fields import build
from side_jax.precision import PRECISIONS
from side_jax.stage_options import (
    ClassifierOptions,
    DatasetOptions,
    DetectOptions,
    ExtractOptions,
    LabelOptions,
    ReportOptions,
    SamplerOptions,
    SteerOptions,
    SynthesizeOptions,
    TargetOptions,
    one_of,
    require,
)

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


_MAIN = ("side_exact", "side")  # the first of them that is asked for is what the report speaks of


@dataclasses.dataclass(frozen=True)
class AuditOptions:
    """One audit, checked."""

    seed: int
    precision: str
    dataset: DatasetOptions
    target: TargetOptions
    sampler: SamplerOptions
    synthesize: SynthesizeOptions
    labels: LabelOptions
    classifier: ClassifierOptions
    extract: ExtractOptions
    detect: DetectOptions
    steer: SteerOptions
    report: ReportOptions

    methods: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**31, "seed", self.seed, "in [0, 2^31)")
        one_of(PRECISIONS, "precision", self.precision)
        for method in self.methods:
            one_of(tuple(METHODS), "methods: a row of Table 1", method)
        require(len(set(self.methods)) == len(self.methods), "methods", self.methods, "without repetitions")
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
        if clusters and self.labels.descriptor == "sscd" != self.extract.descriptor:
            raise ValueError(
                f"labels.descriptor='sscd' takes the weights of extract.descriptor='sscd', got"
                f" {self.extract.descriptor!r}; set both, or leave labels.descriptor empty"
            )
        clusters = source == "clusters" or "side_clusters" in self.methods
        if clusters and self.labels.num_clusters > self.synthesize.num_images:
            raise ValueError(
                f"labels.num_clusters {self.labels.num_clusters} is more than synthesize.num_images"
                f" {self.synthesize.num_images}; lower the one or raise the other"
            )

    @property
    def has_teacher(self) -> bool:
        """Is a classifier of the training images needed, for labels or as a descriptor?"""
        source = self.labels.source
        return source == "classifier" or (source in ("clusters", "repeats") and self.labels.descriptor == "teacher")

    def cluster_descriptor(self) -> tuple[str, str, str]:
        """Name, weights and preprocessing of the descriptor that clusters are found by."""
        name, extract = self.labels.descriptor or self.extract.descriptor, self.extract
        return (name, extract.weights, extract.preprocessing) if name == extract.descriptor else (name, "", "")

    def _guided_methods(self) -> tuple[str, ...]:
        return tuple(method for method in self.methods if method != "random")

    def rows(self) -> "dict[str, AuditOptions]":
        """The audits that make up this one, by method: the main one first (`_MAIN`), then the others.

        λ = 0 is the same for all methods, and in the main one only.
        """
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
    def from_config(cls, config: Mapping[str, Any]) -> "AuditOptions":
        """From a ConfigDict or a plain mapping with the fields of configs/default.py.

        Raises:
          ValueError: for an unknown or missing field, or a value out of range.
        """
        options = build(cls, config)
        weights, scales = options.steer.weights, options.extract.scales
        if weights and 0.0 not in scales:  # of the whole audit: rows of Table 1 other than the main one never have it
            raise ValueError(
                f"steer.weights {weights} are for unguided images, but extract.scales {scales} lacks their λ, 0; add"
                " it, or set steer.weights=()"
            )
        return options
