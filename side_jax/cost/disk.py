"""Bytes that an audit writes, by what they are."""

import io
import math
from typing import Any

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from side_jax.cost import programs
from side_jax.cost.jobs import Setting, guide_net, guide_of, set_images, soft, teacher_net
from side_jax.cost.programs import tree_bytes
from side_jax.extraction.parts import SCHEMA
from side_jax.options import AuditOptions
from side_jax.training import TrainOptions, init_state

ID_CHARACTERS = 24  # assumed of a training image's name
_KEPT_CHECKPOINTS = 2  # of each training
_ROWS = 1024  # of the part that is encoded to see how long a row is


def bytes_written(setting: Setting) -> dict[str, int]:
    """What -> bytes; arrays before the compression that zarr adds."""
    options, pixels = setting.options, math.prod(setting.shape)
    rows = list(options.rows().values())
    guided = [row for row in rows if row.classifier.guide != "none"]
    written = {}
    if options.target.source == "train":
        params = programs.unet_variables(setting.unet, setting.shape)
        written["target"] = _training(params, options.target.train)
    if any(row.labels.source not in ("dataset", "heldout") for row in guided):
        written["synthetic images"] = options.synthesize.num_images * pixels
    written["labels and teacher"] = sum(_label_bytes(setting, row) for row in guided)
    written["guide"] = sum(_guide_bytes(setting, row) for row in guided)
    written["descriptors of real images"] = setting.num_train * (1 + setting.has_heldout) * setting.dimensions * 4
    generated = sum(len(row.extract.scales) for row in rows) * options.extract.num_images
    written["match tables"] = int(generated * _row_bytes(options.extract.top_k, setting.has_heldout))
    if options.extract.save_images != "none":  # at most, where only those with a match are kept
        written["generated images"] = generated * pixels
    return {what: size for what, size in written.items() if size}


def _training(variables: Any, train: TrainOptions) -> int:
    """Checkpoints, and the trained network."""
    state = jax.eval_shape(lambda v: init_state(v, train), variables)
    return _KEPT_CHECKPOINTS * tree_bytes(state) + tree_bytes(variables)


def _guide_bytes(setting: Setting, row: AuditOptions) -> int:
    if row.classifier.guide != "exact":
        net = guide_net(row, setting.num_classes)
        return _training(programs.resnet_variables(net, setting.shape), row.classifier.train)
    photos = row.labels.source in ("dataset", "heldout")  # synthetic images are there already
    pixels = math.prod(setting.shape) if photos else 0
    return set_images(setting, row) * (pixels + 4 * (guide_of(setting, row).num_classes if soft(row) else 1))


def _label_bytes(setting: Setting, row: AuditOptions) -> int:
    classes = guide_net(row, setting.num_classes).num_classes if row.labels.source in ("classifier", "clusters") else 1
    labels = 4 * row.synthesize.num_images * classes
    if not row.has_teacher:
        return labels
    return labels + _training(
        programs.resnet_variables(teacher_net(row, setting.num_classes), setting.shape), row.labels.train
    )


def _row_bytes(top_k: int, has_heldout: bool) -> float:
    """Bytes of a row of a part of random names and scores, `top_k` in every list, as Parquet encodes it."""
    rng = np.random.default_rng(0)

    def column(field: pa.Field) -> pa.Array:
        if not has_heldout and field.name.startswith(("paired_", "heldout_")):
            return pa.array([[] if pa.types.is_list(field.type) else None] * _ROWS, field.type)
        length = top_k if pa.types.is_list(field.type) else 1
        kind = field.type.value_type if pa.types.is_list(field.type) else field.type
        values: np.ndarray = rng.random((_ROWS, length)).astype(np.float32)
        if pa.types.is_string(kind):
            values = np.array([rng.bytes(ID_CHARACTERS // 2).hex() for _ in range(values.size)]).reshape(values.shape)
        elif pa.types.is_integer(kind):
            values = np.arange(_ROWS)[:, None]
        return pa.array(values.tolist() if pa.types.is_list(field.type) else values[:, 0].tolist(), field.type)

    buffer = io.BytesIO()
    pq.write_table(pa.table([column(field) for field in SCHEMA], schema=SCHEMA), buffer)
    return len(buffer.getvalue()) / _ROWS
