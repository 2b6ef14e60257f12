import dataclasses

import pytest

from configs import smoke
from side_jax.cost.disk import bytes_written
from side_jax.cost.jobs import Setting
from side_jax.cost.programs import tree_size, unet_variables
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
    extract = dataclasses.replace(setting.options.extract, save_images="none")
    options = dataclasses.replace(setting.options, target=target, extract=extract)
    written = bytes_written(dataclasses.replace(setting, options=options))
    assert not {"target", "generated images"} & set(written)


def test_rows_of_the_match_table_by_hand(setting):
    """For each set of real images two lists of 10 names and scores, a name and two ratios; names have 24 bytes."""
    name, score = 4 + 24, 4
    references = 2 * 10 * (name + score) + name + 2 * score
    row = 4 + 8 + 4 + 3 * references
    assert bytes_written(setting)["match tables"] / 24 == pytest.approx(row, rel=0.1)


def test_without_heldout_images_their_columns_are_empty(setting):
    dataset = dataclasses.replace(setting.options.dataset, heldout_fraction=0.0)
    alone = dataclasses.replace(setting, options=dataclasses.replace(setting.options, dataset=dataset))
    tables = [bytes_written(one)["match tables"] for one in (alone, setting)]
    assert 0.3 < tables[0] / tables[1] < 0.4
