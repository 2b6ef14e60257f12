"""The sweep: sample, embed and match in one program per batch; rows of the match table leave the devices, no more.

Batches lie on a fixed grid: batch q holds the images qB … qB + B − 1, each always in the same row. A batch of which
anything is missing is computed whole, and only what is missing is written; so a resumed sweep equals an uninterrupted
one to the last bit, wherever it stopped.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
from etils import epath
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from side_jax import preemption
from side_jax.arrays import ImageStore
from side_jax.extraction.columns import empty_columns, reference_columns
from side_jax.extraction.descriptors import Descriptor
from side_jax.extraction.matching import Found, gathered, list_length, search
from side_jax.extraction.parts import REFERENCES, write_part
from side_jax.extraction.references import Comparison, References, ReferenceSet, compare, layout
from side_jax.progress import Progress
from side_jax.sampling import Recipe, Sampler, Weights, generate

_AHEAD = 2  # batches that may wait for the disk


@dataclasses.dataclass(frozen=True)
class Program:
    """What is static in the program of a batch: hashable.

    Attributes:
      recipe: how images are made.
      embed: `Descriptor.apply`.
      sets: prefix, number of images and length of the lists of each reference set.
      threshold: in_band lists go down to this score.
      mesh: the devices.
      sharded: is every reference set split over them?
    """

    recipe: Recipe
    embed: Callable[[Any, Any], jax.Array]
    sets: tuple[tuple[str, int, int], ...]
    threshold: float
    mesh: Mesh
    sharded: bool

    @property
    def axis(self) -> str | None:
        """Over which references are sharded."""
        return "data" if self.sharded else None


class Batch(NamedTuple):
    """What a batch leaves on the devices. `longest` has the length of each set's longest list, on every device."""

    indices: jax.Array
    images: jax.Array
    labels: jax.Array
    descriptors: jax.Array
    found: dict[str, Comparison]
    longest: dict[str, jax.Array]


@functools.partial(jax.jit, static_argnames=("program",))
def extract_batch(
    weights: Weights,
    variables: Any,
    references: dict[str, References],
    indices: jax.Array,
    labels: jax.Array,
    lam: jax.Array,
    *,
    program: Program,
) -> Batch:
    """Sample → descriptor → match, for images by index, uint32 [N], and label, int32 [N], split over the mesh.

    Devices exchange nothing but the length of the longest list and, where references are sharded, images, descriptors
    and candidates, after the sampler's last step; and, in every step, what a sharded exact guide needs.
    """

    def shard(
        weights: Weights, variables: Any, references: dict[str, References], indices: Any, labels: Any, lam: Any
    ) -> Batch:
        images = generate(program.recipe, weights, indices, labels, lam)
        descriptors = program.embed(variables, images)
        everyone = gathered(images, program.axis), gathered(descriptors, program.axis)
        found = {
            prefix: compare(*everyone, references[prefix], size, k, program.threshold, program.axis)
            for prefix, size, k in program.sets
        }
        longest = {prefix: lax.pmax(rows.above.max(), "data") for prefix, rows in found.items()}
        return Batch(indices, images, labels, descriptors, found, longest)

    one, many = PartitionSpec(), PartitionSpec("data")
    spec = layout(program.sharded)
    sets = {prefix: spec for prefix, _, _ in program.sets}
    mapped = jax.shard_map(
        shard,
        mesh=program.mesh,
        in_specs=(weights.layout(), one, sets, many, many, one),
        out_specs=Batch(many, many, many, many, dict.fromkeys(sets, many), dict.fromkeys(sets, one)),  # type: ignore[arg-type]
        check_vma=False,
    )
    return mapped(weights, variables, references, indices, labels, lam)


@functools.partial(jax.jit, static_argnames=("k", "program"))
def _longer_lists(descriptors: jax.Array, references: References, *, k: int, program: Program) -> Found:
    """The lists again, k long."""

    def shard(descriptors: jax.Array, references: References) -> Found:
        everyone = gathered(descriptors, program.axis)
        return search(everyone, references.descriptors, references.bias, k, program.threshold, None, program.axis)

    many = PartitionSpec("data")
    specs = (many, layout(program.sharded))
    mapped = jax.shard_map(shard, mesh=program.mesh, in_specs=specs, out_specs=many, check_vma=False)
    return mapped(descriptors, references)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """One sampler, one descriptor and the reference sets, for any number of λ.

    Attributes:
      folder: gets a part per batch and process; with images also images.zarr. Maps λ to a folder.
      sampler: generates images by index, on the devices that the references are on.
      embed: the descriptor.
      references: column prefix -> images to match against; sets without images are left out.
      sharded: are the references split over the devices?
      top_k: nearest kept.
      threshold: in_band lists go down to this score.
      save_images: none, matched (those with a list) or all.
      store: opens the image store of a λ.
    """

    folder: Callable[[float], epath.Path]
    sampler: Sampler
    embed: Descriptor
    references: dict[str, ReferenceSet]
    sharded: bool
    top_k: int
    threshold: float
    save_images: str
    store: Callable[[float], ImageStore]

    def __call__(self, scale: float, missing: np.ndarray, progress: Progress) -> None:
        """Makes the missing rows of one λ.

        Args:
          scale: λ.
          missing: bool [N_G]; the same on all processes.
          progress: is told of every row written.
        """
        store = self.store(scale) if self.save_images != "none" else None
        launched: Batch | None = None
        with _Writer() as writer:
            for start in self._starts(missing):
                preemption.check()
                # The next batch is on its way before anything waits for this one.
                following = self.launch(start, scale)
                if launched is not None:
                    self._hand_over(launched, scale, missing, store, writer, progress)
                launched = following
            if launched is not None:
                self._hand_over(launched, scale, missing, store, writer, progress)

    def _starts(self, missing: np.ndarray) -> Iterator[int]:
        """First images of this process's batches that lack something. Processes that share batches get the same."""
        size, processes = self.sampler.batch_size, 1 if self.sharded else jax.process_count()
        first = 0 if self.sharded else jax.process_index() * size
        for start in range(first, len(missing), processes * size):
            if missing[start : start + size].any():
                yield start

    def program(self, scale: float) -> tuple[Program, Weights]:
        """The program of a batch at one λ, and its weights."""
        recipe, weights = self.sampler.program(scale)
        sets = tuple(
            (prefix, len(real), list_length(self.top_k, len(real))) for prefix, real in self.references.items()
        )
        return Program(recipe, self.embed.apply, sets, self.threshold, self.sampler.mesh, self.sharded), weights

    def launch(self, start: int, scale: float) -> Batch:
        """Starts the batch whose first image is `start`; does not wait for it."""
        indices = np.arange(start, start + self.sampler.batch_size, dtype=np.uint32)
        rows = (self.sampler.place(indices), self.sampler.place(self.sampler.draw(indices, scale)))
        return self._call(extract_batch, rows, scale)

    def lower(self, batch_size: int, scale: float) -> jax.stages.Lowered:
        """The program for a batch of so many images, ready to compile; nothing is run."""
        rows = tuple(self.sampler.abstract(batch_size, dtype) for dtype in (np.uint32, np.int32))
        return self._call(extract_batch.lower, rows, scale)

    def _call(self, function: Callable[..., Any], rows: tuple[Any, ...], scale: float) -> Any:
        program, weights = self.program(scale)
        arrays = {prefix: real.arrays for prefix, real in self.references.items()}
        return function(weights, self.embed.variables, arrays, *rows, jnp.float32(scale), program=program)

    def _hand_over(
        self,
        batch: Batch,
        scale: float,
        missing: np.ndarray,
        store: ImageStore | None,
        writer: "_Writer",
        progress: Progress,
    ) -> None:
        """Waits for a batch, makes its lists as long as they have to be, and leaves the rest to the writer's thread."""
        program, _ = self.program(scale)
        found = dict(batch.found)
        for prefix, real in self.references.items():
            longest = int(batch.longest[prefix])
            if longest > found[prefix].scores.shape[1]:
                k = list_length(longest, len(real))
                lists = _longer_lists(batch.descriptors, real.arrays, k=k, program=program)
                found[prefix] = found[prefix]._replace(**lists._asdict())
        whole = batch._replace(found=found)
        writer.submit(lambda: self._write(whole, scale, missing, store, progress))

    def _write(
        self, batch: Batch, scale: float, missing: np.ndarray, store: ImageStore | None, progress: Progress
    ) -> None:
        """Writes the missing rows of this process as parts, after their images: a part says that those are there."""
        indices = _local_rows(batch.indices).astype(np.int64)
        wanted = indices < len(missing)
        wanted[wanted] = missing[indices[wanted]]
        labels = _local_rows(batch.labels)
        found = {prefix: jax.tree.map(_local_rows, rows) for prefix, rows in batch.found.items()}
        if store is not None:
            kept = wanted & (found[""].above > 0) if self.save_images == "matched" else wanted
            if kept.any():
                store.write(indices[kept], _local_rows(batch.images)[kept])
        for rows in _consecutive(indices, wanted):
            columns: dict[str, pa.Array] = {
                "scale": pa.array(np.full(len(rows), scale, np.float32)),
                "index": pa.array(indices[rows]),
                "label": pa.array(labels[rows]),
            }
            for prefix in REFERENCES:
                if prefix in found:
                    some = jax.tree.map(lambda column, rows=rows: column[rows], found[prefix])
                    named = reference_columns(some, self.references[prefix].ids, self.top_k)
                else:
                    named = empty_columns(len(rows))
                columns |= {prefix + name: column for name, column in named.items()}
            write_part(self.folder(scale), columns, self.embed.facts)
            progress.update(len(rows) * jax.process_count())  # the others are as far, or nearly


def _local_rows(array: jax.Array) -> np.ndarray:
    """What this process's devices hold of an array that is split along its first axis, in order of row."""
    shards = {shard.index[0].start or 0: shard.data for shard in array.addressable_shards}
    return np.concatenate([np.asarray(shards[start]) for start in sorted(shards)])


def _consecutive(indices: np.ndarray, wanted: np.ndarray) -> Iterator[np.ndarray]:
    """Rows that are wanted, split where a gap is, so that a part's name says which images it holds."""
    rows = np.flatnonzero(wanted)
    if len(rows):
        yield from np.split(rows, np.flatnonzero(np.diff(indices[rows]) != 1) + 1)


class _Writer:
    """One thread that writes while the devices work. At most `_AHEAD` batches wait for it; its errors come out here."""

    def __enter__(self) -> "_Writer":
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="parts")
        self._waiting: list[Future[None]] = []
        return self

    def submit(self, write: Callable[[], None]) -> None:
        """Runs `write` after all before it."""
        while len(self._waiting) >= _AHEAD:
            self._waiting.pop(0).result()
        self._waiting.append(self._pool.submit(write))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Finishes what was handed over, also on the way out of an error or a SIGTERM."""
        self._pool.shutdown(wait=True)
        if kind is None:
            for future in self._waiting:
                future.result()
