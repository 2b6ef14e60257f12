"""Generated images alone: their options, and their reading for an audit that has no model.

Every set of images is a λ of the sweep (`SamplesOptions.scales`). So everything that goes through the λ of a sweep,
from the match to the page, goes through the sets.
"""

import dataclasses
import logging
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from etils import epath

from side_jax.data.generated import load_generated
from side_jax.data.images import ImageSet
from side_jax.data.load import location
from side_jax.data.splitting import Split
from side_jax.runtime.declare import CONTENT, DISTINCT, Check, option, require
from side_jax.runtime.files import Json, fingerprint, is_local, open_atomic, read_json, write_json

if TYPE_CHECKING:
    from side_jax.audit.options import AuditOptions

_log = logging.getLogger(__name__)
_LAMBDA = re.compile(r"(?:λ|lambda|scale) ?= ?(\d+(?:\.\d{1,2})?)")
_NAMED = 5  # images that a message names
FILE = "samples.json"
TABLE = "samples.parquet"
Samples = Mapping[float, ImageSet]  # scale -> images; empty where a model makes them


@dataclasses.dataclass(frozen=True)
class SamplesOptions:
    """Generated images that are audited alone, for target.source="none"."""

    paths: tuple[tuple[str, str], ...] = option(
        (),
        "(name, path) of each set: a folder, an .npz as of dataset.name, or a zarr array such as images.zarr of a"
        ' workdir. Sets of one model are named by their λ, as (("λ=0", "gen0"), ("λ=2", "gen2")); others are compared'
        " with the first",
        Check(lambda paths: all(name and path for name, path in paths), "names and paths that are not empty"),
        decides=CONTENT,
    )

    def check(self, path: str) -> None:
        """Refuses a name, a λ or a path that is there twice."""
        for what, values in (("names", [name for name, _ in self.paths]), ("paths", [one for _, one in self.paths])):
            require(DISTINCT, f"{path}.paths: {what}", tuple(values))
        require(DISTINCT, f"{path}.paths: λ", self.scales)
        require(Check(lambda scales: max(scales, default=0) < 1000, "below 1000"), f"{path}.paths: λ", self.scales)

    @property
    def scales(self) -> tuple[float, ...]:
        """The λ that each set is in the sweep: that of its name, or if any name has none its position."""
        found = [_LAMBDA.fullmatch(name) for name, _ in self.paths]
        return tuple(float(match[1] if all(found) and match else k) for k, match in enumerate(found))

    @property
    def named(self) -> dict[float, str]:
        """The name of each set by its λ; empty if the λ themselves say what they are."""
        if all(_LAMBDA.fullmatch(name) for name, _ in self.paths):
            return {}
        return {scale: name for scale, (name, _) in zip(self.scales, self.paths, strict=True)}

    def name(self, scale: float) -> Json:
        """{"name": that of the set} for a row of metrics.json; nothing where the λ says what it is."""
        return {"name": self.named[scale]} if scale in self.named else {}

    def title(self, scale: float) -> str:
        """What a person reads of a λ."""
        return self.named.get(scale, f"λ = {scale:g}")


def check_modelless(options: "AuditOptions") -> None:
    """Refuses options that contradict each other where there is no model, or samples where there is one."""
    if not options.modelless:
        if options.samples.paths:
            raise ValueError(
                f"samples.paths names generated images, but target.source={options.target.source!r} generates its own;"
                " set target.source='none', or leave samples.paths empty"
            )
        return
    if not options.samples.paths:
        raise ValueError(
            "samples.paths is empty; target.source='none' audits generated images that are there, such as"
            " (('samples', 'generated'),)"
        )
    if options.methods:
        raise ValueError(f"methods {options.methods} make guides, but target.source='none' has no model to guide")
    if options.dataset.heldout_fraction:
        raise ValueError(
            f"dataset.heldout_fraction={options.dataset.heldout_fraction:g} would hold out photos that the model of"
            " these samples may have been trained on; name photos that it never saw in dataset.heldout_path, or set"
            " dataset.heldout_fraction=0, which calibrates nothing"
        )


def as_sweep(options: "AuditOptions") -> "AuditOptions":
    """The options with the sets as the λ of the sweep, where there is no model; else as they are."""
    if not options.modelless:
        return options
    extract = dataclasses.replace(
        options.extract, scales=options.samples.scales, save_images="none", equal_compute=False
    )
    guide = dataclasses.replace(options.classifier, guide="none")
    return dataclasses.replace(options, extract=extract, classifier=guide)


def counted(options: "AuditOptions", samples: Samples) -> "AuditOptions":
    """The options with the size of the largest set as the number of images; as they are with a model."""
    if not samples:
        return options
    extract = dataclasses.replace(options.extract, num_images=max(map(len, samples.values())))
    return dataclasses.replace(options, extract=extract)


def load_samples(options: "AuditOptions", split: Split) -> Samples:
    """The sets of images by λ, prepared as the photos; empty with a model.

    Raises:
      ValueError: for a set that cannot be read, that does not fit the photos, or that is one of their folders.
    """
    dataset = options.dataset
    samples = {}
    for scale, (name, path) in zip(options.samples.scales, options.samples.paths, strict=True):
        _check_apart(name, path, options)
        field = f"samples.paths {name!r}:"
        loaded = load_generated(
            field, path, dataset.image_size, dataset.channels, dataset.recipe(), resize=bool(dataset.resize)
        )
        for kind, photos in (("training", split.train), ("held-out", split.heldout)):
            known = set(photos.hashes)
            same = [one for one, content in zip(loaded.ids, loaded.hashes, strict=True) if content in known]
            if len(same) == len(loaded):
                raise ValueError(
                    f"{field} {path!r}: all of its {len(loaded)} images are {kind} photos, pixel for pixel; name"
                    " generated images"
                )
            if same:
                more = " …" if len(same) > _NAMED else ""
                names = ", ".join(same[:_NAMED])
                of = f"{len(same)} of {len(loaded)} images"
                _log.warning("%s %s: %s photos, pixel for pixel: %s%s", field, of, kind, names, more)
        samples[scale] = loaded
    return samples


def _check_apart(name: str, path: str, options: "AuditOptions") -> None:
    """Refuses a folder of photos as samples."""
    dataset = options.dataset
    folders = {"dataset.path": dataset.path, "dataset.heldout_path": dataset.heldout_path}
    for field, folder in folders.items():
        if not folder and dataset.name != "orl":
            continue
        other = location(dataset.name, folder, dataset.data_dir)
        if is_local(path) and is_local(other) and os.path.realpath(path) == os.path.realpath(other):
            raise ValueError(f"samples.paths {name!r}: {path!r} is {field} itself; name generated images")


def sample_facts(options: "AuditOptions", samples: Samples) -> dict[str, Json]:
    """For samples.json: path, λ, number and content of each set, by name."""
    if not samples:
        return {}
    return {
        name: {
            "path": path,
            "scale": scale,
            "num_images": len(samples[scale]),
            "content": fingerprint([samples[scale].ids, samples[scale].hashes]),
        }
        for scale, (name, path) in zip(options.samples.scales, options.samples.paths, strict=True)
    }


def other_samples(path: epath.Path, wanted: Mapping[str, Json]) -> list[str]:
    """Which of the wanted sets (`sample_facts`) are not those of samples.json at `path`, as `Stage.lacks` says it."""
    known: Mapping[str, Json] = read_json(path) if path.exists() else {}
    place = {one["scale"]: name for name, one in known.items()}

    def content(facts: Json) -> Json:
        return {name: value for name, value in facts.items() if name != "path"}  # it may have moved

    other = [
        name
        for name, one in wanted.items()
        if place.get(one["scale"], name) != name or (name in known and content(known[name]) != content(one))
    ]
    return [f"samples.paths: other images in {name!r}, or another order" for name in other]


def keep_facts(path: epath.Path, facts: Json) -> None:
    """Writes samples.json, with the sets of earlier runs, whose parts are still there."""
    write_json(path, (read_json(path) if path.exists() else {}) | facts)


def write_table(path: epath.Path, options: "AuditOptions", samples: Samples) -> None:
    """samples.parquet: which file is the image of an index in matches.parquet: scale, index, name, id, hash."""
    schema = pa.schema({"scale": pa.float32(), "index": pa.int64(), "name": pa.string()})
    schema = schema.append(pa.field("id", pa.string())).append(pa.field("hash", pa.string()))
    with open_atomic(path) as file, pq.ParquetWriter(file, schema) as writer:
        for (name, _), (scale, images) in zip(options.samples.paths, samples.items(), strict=True):
            count = len(images)
            columns = [np.full(count, scale, np.float32), np.arange(count), [name] * count, images.ids, images.hashes]
            writer.write_table(pa.table([pa.array(column) for column in columns], schema=schema))
