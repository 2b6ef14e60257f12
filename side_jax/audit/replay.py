"""--replay: makes one match again from (seed, index, λ), and compares it with what the sweep recorded."""

import dataclasses
import io

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from etils import epath
from jax.sharding import AxisType, Mesh

from side_jax.audit.options import AuditOptions, Config
from side_jax.audit.pipeline import changed_fields, prepare
from side_jax.audit.stage import Audit, photo_pool
from side_jax.audit.sweep import kept_image, make_sampler, pool_photos
from side_jax.evidence.same_picture import pixel_difference, score_difference
from side_jax.evidence.table import RANDOM
from side_jax.report.replayed import NearestPhoto, Replayed, draw_path
from side_jax.runtime.files import SPEC, Json, read_json, write_bytes
from side_jax.runtime.precision import inference_precision
from side_jax.targets.path import denoising_path

FOLDER, _MATCHES = "replay", "matches.parquet"
_TOLD = ("inputs", "precision")  # fields of specs: prints of other specs, and what is told by itself
_BLOCK = 65_536  # descriptors of photos in memory at once


def replay(config: Config, workdir: epath.PathLike, asked: str) -> str:
    """Makes a match again, and writes WORKDIR/replay/match-N.png: its denoising path beside the nearest photos.

    Args:
      config: of the workdir.
      workdir: of a finished audit.
      asked: a row of matches.parquet, "17"; or λ:index, "2:5", of the main method; or method:λ:index.

    Returns:
      What is said of it, in lines; the last one is the path of the picture.

    Raises:
      ValueError: for a match that does not exist, an audit without a model, or a config that is not the workdir's.
    """
    root = epath.Path(workdir)
    if AuditOptions.from_config(config).modelless:
        raise ValueError("--replay needs the model: in an audit of samples alone there is none to make a match again")
    match = find_match(root, asked)
    recorded = read_json(root / "extract" / SPEC)["precision"]  # of every method; "auto" would be that of this machine
    audit = prepare({**config, "precision": recorded.split()[0]}, root)
    method = _of_method(audit, match.method)
    otherwise = _otherwise(audit, method.branch)
    if (precision := inference_precision(method.options.precision)) != recorded:
        otherwise.append(f"precision: {recorded} -> {precision}")
    made = _replayed(method, match, otherwise)
    picture = root / FOLDER / f"match-{match.number}.png"
    write_bytes(picture, draw_path(made))
    return f"{made.describe()}\npicture: {picture}"


@dataclasses.dataclass(frozen=True)
class Match:
    """A row of matches.parquet.

    Attributes:
      number: of the row, from 0.
      method, scale, index: of its image.
      row: all of it.
    """

    number: int
    method: str
    scale: float
    index: int
    row: Json


def find_match(workdir: epath.Path, asked: str) -> Match:
    """The row that `--replay` asks for. Raises `ValueError`, saying which rows exist."""
    path = workdir / _MATCHES
    if not path.exists():
        raise ValueError(f"--replay needs a finished audit: {workdir} has no {_MATCHES}")
    file = pq.ParquetFile(io.BytesIO(path.read_bytes()))
    names = file.read(["method", "scale", "index"])
    number = _row_number(names, asked)
    group, start = 0, 0
    while number >= start + file.metadata.row_group(group).num_rows:
        start += file.metadata.row_group(group).num_rows
        group += 1
    (row,) = file.read_row_group(group).slice(number - start, 1).to_pylist()
    return Match(number, row["method"], round(row["scale"], 2), row["index"], row)


def _row_number(names: pa.Table, asked: str) -> int:
    *method, scale, index = asked.split(":") if ":" in asked else ("", asked)
    try:
        number, level = int(index), float(scale) if scale else None
    except ValueError:
        number, level = -1, None
    if number < 0 or len(method) > 1 or (level is None and ":" in asked):
        raise ValueError(
            f"--replay takes a row of {_MATCHES} such as 17, λ:index such as 2:5, or method:λ:index, got {asked!r}"
        )
    if level is None:
        if number >= len(names):
            raise ValueError(f"--replay={asked}: {_MATCHES} has the rows 0 … {len(names) - 1}")
        return number
    here = (names["scale"].to_numpy() == np.float32(level)) & (names["index"].to_numpy() == number)
    methods = names["method"].to_numpy(zero_copy_only=False)
    if method:
        here &= methods == method[0]
    if not here.any():
        sweeps = dict.fromkeys(zip(methods, names["scale"].to_numpy(), strict=True))
        known = ", ".join(f"{name}:{found:g}" for name, found in sweeps)
        raise ValueError(f"--replay={asked}: {_MATCHES} has no such image; it has images of {known}")
    return int(np.flatnonzero(here)[0])  # the main method's rows come first


def _of_method(audit: Audit, name: str) -> Audit:
    """The audit of one method."""
    methods = audit.methods()
    method = audit.main() if name == RANDOM else methods.get(name)
    if method is None:
        raise ValueError(f"the match is of the method {name!r}, which this config has not: {', '.join(methods)}")
    return method


def _otherwise(audit: Audit, branch: str) -> list[str]:
    """Versions of software that differ from those of the sweep. Raises `ValueError` for anything else that differs."""
    differing = [field for field in changed_fields(audit, branch, "extract") if not field.startswith(_TOLD)]
    if refused := [field for field in differing if not field.startswith("software")]:
        raise ValueError(
            f"{audit.workdir} was made with another config, weights or version ({'; '.join(refused[:3])}); --replay"
            " without --config takes the config of the workdir"
        )
    return differing


def _replayed(audit: Audit, match: Match, otherwise: list[str]) -> Replayed:
    mesh = Mesh(np.array(jax.local_devices()[:1]), ("data",), axis_types=(AxisType.Auto,))  # one image, one device
    path = denoising_path(make_sampler(audit, 1, mesh), match.index, match.scale)
    recorded = kept_image(audit, match.scale, match.index, match.row["scores"][0])
    scores = _scores(audit, path.image)
    position = {name: i for i, name in enumerate(photo_pool(audit).ids)}
    named = _listed(match.row, "") + _listed(match.row, "heldout_")
    if lost := [name for name, _ in named if name not in position]:
        raise ValueError(f"{audit.workdir / _MATCHES} names the photo {lost[0]!r}, which is none of this data set")
    today = np.array([scores[position[name]] for name, _ in named], np.float32)
    return Replayed(
        match.number,
        match.method,
        match.scale,
        match.index,
        path,
        recorded,
        None if recorded is None else pixel_difference(path.image, recorded),
        score_difference(today, np.array([score for _, score in named], np.float32)),
        _nearest(audit, scores, match.row, heldout=False),
        _nearest(audit, scores, match.row, heldout=True) if match.row["heldout_ids"] else None,
        tuple(otherwise),
    )


def _listed(row: Json, prefix: str) -> list[tuple[str, float]]:
    """The nearest photos of one set as they were recorded, with their scores."""
    return list(zip(row[f"{prefix}ids"], row[f"{prefix}scores"], strict=True))


def _scores(audit: Audit, image: np.ndarray) -> np.ndarray:
    """The scores of an image with every photo of the pool, float32 [P]; of a mirrored one, the better."""
    views = np.atleast_2d(audit.descriptor().host_queries(image[None])[0])
    photos, count = pool_photos(audit), len(photo_pool(audit).ids)
    blocks = (np.arange(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK))
    return np.concatenate([(photos.descriptors(block) @ views.T).max(1) for block in blocks])


def _nearest(audit: Audit, scores: np.ndarray, row: Json, heldout: bool) -> NearestPhoto:
    """The nearest photo of one kind, today and as recorded."""
    pool, split = photo_pool(audit), audit.split
    start = pool.num_train if heldout else 0
    best = start + int(scores[start : None if heldout else pool.num_train].argmax())
    photos = split.heldout if heldout else split.train
    recorded_id, recorded_score = _listed(row, "heldout_" if heldout else "")[0]
    pixels = photos.images[photos.ids.index(pool.ids[best])]
    return NearestPhoto(np.asarray(pixels), pool.ids[best], float(scores[best]), recorded_id, recorded_score)
