import dataclasses

import numpy as np
import pytest

from configs import smoke
from side_jax.cost.disk import bytes_written
from side_jax.cost.jobs import Setting
from side_jax.cost.programs import tree_size, unet_variables
from side_jax.extraction.parts import read_parts, write_part
from side_jax.extraction.sweep import Reference, reference_columns
from side_jax.options import AuditOptions


@pytest.fixture
def setting():
    options = AuditOptions.from_config(smoke.get_config())
    return Setting(options, options.target.make_unet(16, 1), 1, 100)


def test_bytes_by_hand(setting):
    written = bytes_written(setting)
    assert written["synthetic images"] == 16 * 16 * 16
    assert written["generated images"] == 2 * 12 * 16 * 16
    assert written["descriptors of real images"] == 2 * 100 * 256 * 4
    weights = 4 * tree_size(unet_variables(setting.unet, setting.shape))
    # Two checkpoints of weights, average and Adam's two moments, and the export.
    assert written["target"] == pytest.approx((2 * 4 + 1) * weights, abs=100)


def test_a_loaded_target_writes_no_checkpoint_and_images_are_written_only_if_kept(setting):
    target = dataclasses.replace(setting.options.target, source="load", path="m")
    extract = dataclasses.replace(setting.options.extract, save_images=False)
    options = dataclasses.replace(setting.options, target=target, extract=extract)
    written = bytes_written(dataclasses.replace(setting, options=options))
    assert not {"target", "generated images"} & set(written)


def test_rows_of_the_match_table_are_as_long_as_real_ones(setting, tmp_path):
    """Real parts of unrelated images, `top_k` of them in band."""
    rng = np.random.default_rng(0)
    count, top_k = 500, setting.options.extract.top_k
    pixels = rng.integers(0, 256, (count, 4, 4, 1), np.uint8)
    vectors = rng.normal(size=(count, 16)).astype(np.float32)
    ids = np.array([rng.bytes(12).hex() for _ in range(count)], object)
    reference = Reference(ids, vectors, pixels.reshape(count, -1).astype(np.float32) / 255)
    columns = {
        "scale": np.ones(count, np.float32),
        "index": np.arange(count),
        "label": rng.integers(0, 1000, count).astype(np.int32),
    }
    threshold = np.sort(vectors @ vectors.T, axis=1)[:, -top_k].mean()
    for prefix in ("", "paired_", "heldout_"):
        columns |= reference_columns(pixels, vectors, reference, top_k, threshold, prefix)
    write_part(tmp_path, columns, {})
    (part,) = tmp_path.iterdir()
    assert len(read_parts(tmp_path)) == count
    predicted = bytes_written(setting)["match tables"] / 24
    assert 0.3 < (part.stat().st_size / count) / predicted < 1.2
