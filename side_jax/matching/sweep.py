"""The sweep: sample, embed and match in one program per batch; rows of the match table leave the devices, no more.

Batches lie on a fixed grid: batch q holds the images qB … qB + B − 1, each always in the same row. A batch with any
missing row is computed whole, and only its missing rows are written. So a resumed sweep equals an uninterrupted one to
the last bit, wherever it stopped.
"""

import collections
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
from etils import epath
from jax import lax
from jax.sharding import Mesh

from side_jax.matching.columns import empty_columns, merged, reference_columns
from side_jax.matching.descriptor import Descriptor
from side_jax.matching.given import GivenBatch, GivenImages
from side_jax.matching.parts import write_part
from side_jax.matching.pool import REFERENCES, UNPAIRED
from side_jax.matching.references import Comparison, References, ReferenceSet, at_positions, compare
from side_jax.matching.search import Found, gathered, list_length, search
from side_jax.runtime import preemption
from side_jax.runtime.arrays import ImageStore
from side_jax.runtime.batching import ROWS, WHOLE, over_devices
from side_jax.runtime.progress import Progress
from side_jax.targets.sampling import Generator, Sampler

_AHEAD = 2  # batches that may wait for the disk


@dataclasses.dataclass(frozen=True)
class Lists:
    """The static part of a batch's program, beside the pytrees: hashable.

    Attributes:
      lengths: prefix and length of the lists of each reference set.
      threshold: in_band lists go down to this score.
      mesh: the devices.
      axis: mesh axis over which references are sharded, if they are.
    """

    lengths: tuple[tuple[str, int], ...]
    threshold: float
    mesh: Mesh
    axis: str | None


class Batch(NamedTuple):
    """The results of a batch, on the devices. `longest` is the length of each set's longest list, on every device."""

    indices: jax.Array
    labels: jax.Array
    images: jax.Array
    descriptors: jax.Array
    found: dict[str, Comparison]
    longest: dict[str, jax.Array]


@functools.partial(jax.jit, static_argnames=("lists",))
def extract_batch(
    generator: Generator | GivenBatch,
    descriptor: Descriptor,
    references: dict[str, References],
    rows: tuple[jax.Array, jax.Array],
    lam: jax.Array,
    *,
    lists: Lists,
) -> Batch:
    """Sample → descriptor → match, for `rows`: index, uint32 [N], and label, int32 [N], of images; split over the mesh.

    Devices exchange nothing but the length of the longest list and, if references are sharded, images, descriptors
    and candidates, after the sampler's last step; and, in every step, what a sharded exact guide needs.
    """

    def shard(
        generator: Generator | GivenBatch,
        descriptor: Descriptor,
        references: dict[str, References],
        rows: tuple[jax.Array, jax.Array],
        lam: jax.Array,
    ) -> Batch:
        images = generator(*rows, lam)
        descriptors = descriptor.queries(images)
        everyone = gathered(images, lists.axis), gathered(descriptors, lists.axis)
        found = {prefix: compare(*everyone, references[prefix], k, lists.threshold) for prefix, k in lists.lengths}
        longest = {prefix: lax.pmax(rows.above.max(), "data") for prefix, rows in found.items()}
        return Batch(*rows, images, descriptors, found, longest)

    sets = {prefix: real.layout() for prefix, real in references.items()}
    layouts: Any = Batch(ROWS, ROWS, ROWS, ROWS, ROWS, WHOLE)  # type: ignore[arg-type]
    program = over_devices(shard, lists.mesh, (generator.layout(), WHOLE, sets, ROWS, WHOLE), layouts)
    return program(generator, descriptor, references, rows, lam)


@functools.partial(jax.jit, static_argnames=("k", "lists"))
def _longer_lists(descriptors: jax.Array, references: References, *, k: int, lists: Lists) -> Found:
    """The lists again, k long."""

    def shard(descriptors: jax.Array, references: References) -> Found:
        everyone = gathered(descriptors, lists.axis)
        return search(everyone, references.descriptors, k, lists.threshold, lists.axis)

    return over_devices(shard, lists.mesh, (ROWS, references.layout()))(descriptors, references)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """One sampler, one descriptor and the reference sets, for any number of λ.

    Attributes:
      folder: λ -> the folder that gets a part per batch and process.
      sampler: generates images by index, or reads given ones, for the devices that the references are on.
      embed: the descriptor.
      references: `Pool.groups` on the devices.
      top_k: nearest kept.
      threshold: in_band lists go down to this score.
      save_images: none, matched (those with a list) or all.
      store: opens the image store of a λ.
      descriptors: so many images of each λ, the first, keep their descriptor.
    """

    folder: Callable[[float], epath.Path]
    sampler: Sampler | GivenImages
    embed: Descriptor
    references: dict[str, ReferenceSet]
    top_k: int
    threshold: float
    save_images: str
    store: Callable[[float], ImageStore]
    descriptors: int = 0

    def __call__(self, scale: float, missing: np.ndarray, progress: Progress) -> None:
        """Makes the missing rows of one λ.

        Args:
          scale: λ.
          missing: bool [N_G]; the same on all processes.
          progress: is told of every row written.
        """
        store = self.store(scale) if self.save_images != "none" else None
        launched = (self.launch(start, scale) for start in self._starts(missing))
        waiting: collections.deque[Future[None]] = collections.deque()
        # One thread writes while the devices work. It finishes its work after an error or a SIGTERM too.
        with ThreadPoolExecutor(1, thread_name_prefix="parts") as writer:
            # In pairs, so that the next batch is launched before anything waits for this one.
            for batch, _ in itertools.pairwise(itertools.chain(launched, [None])):
                assert batch is not None
                whole = self._with_whole_lists(batch)
                if len(waiting) == _AHEAD:
                    waiting.popleft().result()
                waiting.append(writer.submit(self._write, whole, scale, missing, store, progress))
            for written in waiting:
                written.result()

    def _starts(self, missing: np.ndarray) -> Iterator[int]:
        """First images of this process's batches with a missing row. Processes that share batches get the same."""
        size = self.sampler.batch_size
        first, processes = (0, 1) if self.lists.axis else (jax.process_index(), jax.process_count())
        for start in range(first * size, len(missing), processes * size):
            if missing[start : start + size].any():
                preemption.check()
                yield start

    @functools.cached_property
    def lists(self) -> Lists:
        """The static part of the programs of all λ."""
        lengths = tuple((prefix, list_length(self.top_k, real.size)) for prefix, real in self.arrays.items())
        axis = next(iter(self.arrays.values())).axis
        return Lists(lengths, self.threshold, self.sampler.mesh, axis)

    @property
    def arrays(self) -> dict[str, References]:
        """The references as an argument of the programs."""
        return {prefix: real.arrays for prefix, real in self.references.items()}

    def launch(self, start: int, scale: float) -> Batch:
        """Starts the batch whose first image is `start`; does not wait for it."""
        indices = np.arange(start, start + self.sampler.batch_size, dtype=np.uint32)
        rows = self.sampler.place(indices), self.sampler.place(self.sampler.draw(indices, scale))
        generator = self.sampler.batch(indices, scale)
        return extract_batch(generator, self.embed, self.arrays, rows, jnp.float32(scale), lists=self.lists)

    def lower(self, batch_size: int, scale: float) -> jax.stages.Lowered:
        """The program for a batch of so many images, ready to compile; nothing is run."""
        rows = self.sampler.abstract(batch_size, np.uint32), self.sampler.abstract(batch_size, np.int32)
        generator = self.sampler.abstract_batch(batch_size, scale)
        return extract_batch.lower(generator, self.embed, self.arrays, rows, jnp.float32(scale), lists=self.lists)

    def _with_whole_lists(self, batch: Batch) -> Batch:
        """Waits for a batch, and makes its lists as long as they have to be."""
        found = dict(batch.found)
        for prefix, references in self.arrays.items():
            longest = int(batch.longest[prefix])
            if longest > found[prefix].scores.shape[1]:
                k = list_length(longest, references.size)
                lists = _longer_lists(batch.descriptors, references, k=k, lists=self.lists)
                found[prefix] = found[prefix]._replace(**lists._asdict())
        return batch._replace(found=found)

    def _write(
        self, batch: Batch, scale: float, missing: np.ndarray, store: ImageStore | None, progress: Progress
    ) -> None:
        """Writes the missing rows of this process as parts, after their images: a part says that those are stored."""
        indices = _local_rows(batch.indices).astype(np.int64)
        wanted = indices < len(missing)
        wanted[wanted] = missing[indices[wanted]]
        labels = _local_rows(batch.labels)
        sets = {
            prefix: at_positions(jax.tree.map(_local_rows, rows), self.references[prefix].members)
            for prefix, rows in batch.found.items()
        }
        sets[""] = functools.reduce(merged, [sets[prefix] for prefix in (UNPAIRED, "paired_") if prefix in sets])
        if store is not None:
            kept = wanted & (sets[""].above > 0) if self.save_images == "matched" else wanted
            if kept.any():
                store.write(indices[kept], _local_rows(batch.images)[kept])
        for rows in _consecutive(indices, wanted):
            columns: dict[str, pa.Array] = {
                "scale": pa.array(np.full(len(rows), scale, np.float32)),
                "index": pa.array(indices[rows]),
                "label": pa.array(labels[rows]),
            }
            for prefix in REFERENCES:
                if prefix in sets:
                    chosen = Comparison(*(column[rows] for column in sets[prefix]))
                    named = reference_columns(chosen, self.top_k)
                else:
                    named = empty_columns(len(rows))
                columns |= {prefix + name: column for name, column in named.items()}
            if indices[rows[0]] < self.descriptors:
                columns["descriptor"] = self._descriptors(batch, rows, indices[rows])
            write_part(self.folder(scale), columns, self.embed.facts)
            progress.update(len(rows) * jax.process_count())  # the others have written as many, or nearly

    def _descriptors(self, batch: Batch, rows: np.ndarray, indices: np.ndarray) -> pa.Array:
        """Of the first images, as they are and not mirrored; null for the others."""
        queries = _local_rows(batch.descriptors)[rows]
        views = queries[:, 0] if queries.ndim == 3 else queries
        kept = [view if i < self.descriptors else None for view, i in zip(views, indices, strict=True)]
        return pa.array(kept, pa.list_(pa.float32()))


def _local_rows(array: jax.Array) -> np.ndarray:
    """Rows of this process of an array that is split along its first axis, in order of row."""
    shards = {shard.index[0].start or 0: shard.data for shard in array.addressable_shards}
    return np.concatenate([np.asarray(shards[start]) for start in sorted(shards)])


def _consecutive(indices: np.ndarray, wanted: np.ndarray) -> Iterator[np.ndarray]:
    """Wanted rows, split at every gap between images, so that a part's name says which images it holds."""
    rows = np.flatnonzero(wanted)
    if len(rows):
        yield from np.split(rows, np.flatnonzero(np.diff(indices[rows]) != 1) + 1)
