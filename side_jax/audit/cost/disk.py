"""Bytes that an audit writes, by kind."""

import io
import math

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import PyTree

from side_jax.audit.cost import programs
from side_jax.audit.cost.jobs import Setting, guide_net, guide_of, set_images, soft, teacher_net
from side_jax.audit.cost.programs import tree_bytes
from side_jax.audit.options import AuditOptions
from side_jax.matching.columns import with_ids
from side_jax.matching.parts import SCHEMA
from side_jax.runtime.training import TrainOptions, init_state

ID_CHARACTERS = 24  # the length assumed of a photo's id
_KEPT_CHECKPOINTS = 2  # per training
_ROWS = 1024  # rows in the part that is encoded to measure the size of a row


def bytes_written(setting: Setting) -> dict[str, int]:
    """Bytes by kind of artifact. Arrays are counted before zarr compresses them."""
    options, pixels = setting.options, math.prod(setting.shape)
    rows = list(options.rows().values())
    guided = [row for row in rows if row.classifier.guide != "none" and max(row.extract.scales) > 0]
    photos = setting.num_train + setting.heldout
    written = {"photos": photos * pixels}
    if options.target.source == "train":
        written["target"] = _training({"params": setting.model.params}, options.target.train)
    if any(row.labels.source not in ("dataset", "heldout") for row in guided):
        written["synthetic images"] = options.synthesize.num_images * pixels
    written["labels and teacher"] = sum(_label_bytes(setting, row) for row in guided)
    written["guide"] = sum(_guide_bytes(setting, row) for row in guided)
    dims = setting.dimensions * 4  # bytes of a descriptor
    written["descriptors of real images"] = photos * dims
    generated = sum(len(row.extract.scales) for row in rows) * options.extract.num_images
    written["match tables"] = int(generated * _row_bytes(options.extract.top_k, setting.has_heldout))
    kept = min(options.extract.quality_images, options.extract.num_images)
    written["descriptors of generated images"] = sum(len(row.extract.scales) for row in rows) * kept * dims
    if options.extract.save_images != "none":  # an upper bound: "matched" keeps fewer
        written["generated images"] = generated * pixels
    return {what: size for what, size in written.items() if size}


def _training(variables: PyTree, train: TrainOptions) -> int:
    """Checkpoints, and the trained network."""
    state = jax.eval_shape(lambda v: init_state(v, train), variables)
    return _KEPT_CHECKPOINTS * tree_bytes(state) + tree_bytes(variables)


def _guide_bytes(setting: Setting, row: AuditOptions) -> int:
    if row.classifier.guide != "exact":
        net = guide_net(row, setting.num_classes)
        return _training(programs.resnet_variables(net, setting.shape), row.classifier.train)
    photos = row.labels.source in ("dataset", "heldout")  # synthetic images are already counted
    pixels = math.prod(setting.shape) if photos else 0
    return set_images(setting, row) * (pixels + 4 * (guide_of(setting, row).num_classes if soft(row) else 1))


def _label_bytes(setting: Setting, row: AuditOptions) -> int:
    classes = guide_net(row, setting.num_classes).num_classes if row.labels.source in ("classifier", "clusters") else 1
    labels = 4 * row.synthesize.num_images * classes
    if not row.labels.has_teacher:
        return labels
    return labels + _training(
        programs.resnet_variables(teacher_net(row, setting.num_classes), setting.shape), row.labels.train
    )


def _row_bytes(top_k: int, has_heldout: bool) -> float:
    """Bytes of one row, in its part and in matches.parquet together, measured on random matches."""
    for_people = with_ids(SCHEMA.empty_table(), []).schema
    return sum(_encoded(schema, top_k, has_heldout) for schema in (SCHEMA, for_people)) / _ROWS


def _encoded(schema: pa.Schema, top_k: int, has_heldout: bool) -> int:
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
            values = rng.integers(0, 2**31, values.shape)
        return pa.array(values.tolist() if pa.types.is_list(field.type) else values[:, 0].tolist(), field.type)

    buffer = io.BytesIO()
    pq.write_table(pa.table([column(field) for field in schema], schema=schema), buffer)
    return len(buffer.getvalue())
