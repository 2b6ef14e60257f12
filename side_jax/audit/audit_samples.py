"""`audit_samples`: an audit of generated images alone, in one call."""

import os
from collections.abc import Mapping

import numpy as np
from etils import epath

from side_jax.audit import pipeline
from side_jax.audit.options import AuditOptions
from side_jax.data.generated import native_shape
from side_jax.evidence.scores import Band
from side_jax.runtime import files
from side_jax.runtime.declare import as_config
from side_jax.runtime.distributed import is_primary, once

Images = str | os.PathLike[str] | np.ndarray  # a path, or uint8 [N, H, W, C]
_GIVEN = "given"  # folder of the workdir for what comes as an array


def audit_samples(
    generated: Images | Mapping[str, Images],
    train: Images,
    heldout: Images | None = None,
    *,
    workdir: epath.PathLike,
    descriptor: str = "pixel",
    weights: str = "",
    bands: tuple[Band, ...] = (),
    fields: Mapping[str, object] | None = None,
) -> epath.Path:
    """Audits generated images without the model that made them; the same call again resumes.

    It matches them with the photos and writes the report. What needs a model is left out, and named on the page. It is
    `run` of configs/samples_only.py.

    Args:
      generated: a folder, an .npz file or a zarr array (as `samples.paths`), or uint8 [N, H, W, C], H = W. Or several
        by name: the λ of one model ("λ=0", "λ=2"), or any names, which are compared with the first.
      train: the photos that the model was trained on: a folder, an .npz file or uint8 [M, H, W, C].
      heldout: photos of the same kind that it never saw, in the same form; None: nothing calibrates the scores.
      workdir: where artifacts go, arrays that are given among them.
      descriptor: of the scores, as `extract.descriptor`.
      weights: of the descriptor, as `extract.weights`.
      bands: (name, low, high) of the score; empty: as published, or measured on the held-out photos.
      fields: other fields of configs/default.py, such as {"dataset.prepare": "diffusers"}.

    Returns:
      The workdir, with report.html, metrics.json and matches.parquet; samples.parquet names the file of each image.

    Raises:
      ValueError: for bad input, before any compute.

    Example:
      >>> import tempfile, side_jax
      >>> photos = side_jax.load_images("orl", None, image_size=32, channels=1).images
      >>> generated = photos[:8] // 2 * 2  # copies of training photos, but for a gray level
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     bands = (("high", 0.98, 1.0),)
      ...     workdir = side_jax.audit_samples(
      ...         generated, photos[:100], photos[300:], workdir=folder + "/audit", bands=bands
      ...     )
      ...     print(*sorted(path.name for path in workdir.iterdir() if path.suffix))
      at_risk.csv audit.json config.json matches.parquet metrics.json model_card.md report.html samples.parquet
    """
    sets = generated if isinstance(generated, Mapping) else {"samples": generated}
    if not sets:
        raise ValueError("audit_samples: generated has no images; give a path, an array, or some of them by name")
    root = epath.Path(workdir)
    files.check_workdir(root)
    kinds = {_kind(photos) for photos in (train, heldout) if photos is not None}
    if len(kinds) > 1:
        raise ValueError("audit_samples: train and heldout must both be folders, or both .npz files or arrays")
    arrays = {f"{name!r} of generated": images for name, images in sets.items()} | {"train": train, "heldout": heldout}
    for name, images in arrays.items():
        _check_array(name, images)
    existed, written = root.exists(), [_stored(root, images) for images in arrays.values()]
    try:
        height, width, channels = native_shape(f"{next(iter(sets))!r} of generated:", written[0])
        if height != width:
            raise ValueError(f"audit_samples: generated images must be square, got {height}x{width}")
        *paths, train_path, heldout_path = written
        config = as_config(AuditOptions())
        changes = {
            "dataset.name": kinds.pop(),
            "dataset.path": train_path,
            "dataset.heldout_path": heldout_path,
            "dataset.heldout_fraction": 0.0,
            "dataset.image_size": height,
            "dataset.channels": channels,
            "target.source": "none",
            "samples.paths": tuple(zip(sets, paths, strict=True)),
            "extract.descriptor": descriptor,
            "extract.weights": weights,
            "extract.bands": bands,
        }
        with config.ignore_type():
            config.update_from_flattened_dict(changes | dict(fields or {}))
        audit = pipeline.prepare(config, root)
    except (ValueError, KeyError):
        if is_primary() and not existed and root.exists():
            root.rmtree()
        raise
    return pipeline.execute(audit)


def _kind(photos: Images) -> str:
    """What `dataset.name` calls it."""
    array = isinstance(photos, np.ndarray)
    return "npz" if array or epath.Path(photos).suffix == ".npz" else "image_folder"


def _check_array(name: str, images: Images | None) -> None:
    if isinstance(images, np.ndarray) and (images.dtype != np.uint8 or images.ndim != 4 or not len(images)):
        raise ValueError(
            f"audit_samples: {name} must be uint8 [N, H, W, C] with N > 0, got {images.dtype} {list(images.shape)}"
        )


def _stored(root: epath.Path, images: Images | None) -> str:
    """The path of images; an array is written into the workdir, under a name of its content."""
    if images is None:
        return ""
    if not isinstance(images, np.ndarray):
        return os.fspath(images)
    images = np.ascontiguousarray(images)
    path = root / _GIVEN / f"{files.array_hash(images)}.npz"

    def write() -> None:
        with files.open_atomic(path) as file:
            np.savez(file, images=images)

    if not path.exists():
        once("given images", write)
    return str(path)
