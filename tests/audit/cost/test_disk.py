import dataclasses

import pytest

from configs import smoke
from side_jax.audit.cost.disk import bytes_written
from side_jax.audit.cost.jobs import Setting
from side_jax.audit.cost.programs import tree_size
from side_jax.audit.options import AuditOptions
from side_jax.diffusion.schedule import Schedule
from side_jax.targets.target import abstract_target


@pytest.fixture
def setting():
    options = AuditOptions.from_config(smoke.get_config())
    return Setting(options, abstract_target(options.target.make_net(16, 1), Schedule()), 1, 100)


def test_bytes_by_hand(setting):
    written = bytes_written(setting)
    assert written["photos"] == 2 * 100 * 16 * 16
    assert written["synthetic images"] == 16 * 16 * 16
    assert written["generated images"] == 2 * 12 * 16 * 16
    assert written["descriptors of real images"] == 2 * 100 * 256 * 4
    assert written["descriptors of generated images"] == 2 * 12 * 256 * 4
    weights = 4 * tree_size({"params": setting.target.params})
    # Two checkpoints of weights, average and Adam's two moments, and the export.
    assert written["target"] == pytest.approx((2 * 4 + 1) * weights, abs=100)


def test_a_loaded_target_writes_no_checkpoint_and_images_are_written_only_if_kept(setting):
    target = dataclasses.replace(setting.options.target, source="load", path="m")
    extract = dataclasses.replace(setting.options.extract, save_images="none")
    options = dataclasses.replace(setting.options, target=target, extract=extract)
    written = bytes_written(dataclasses.replace(setting, options=options))
    assert not {"target", "generated images"} & set(written)


def test_rows_of_the_match_table_by_hand(setting):
    """For each reference set two lists of 10 photos and scores, a photo and two ratios; by position, and by id."""
    score, sizes = 4, {"position": 4, "id": 4 + 24}
    rows = [4 + 8 + 4 + 3 * (2 * 10 * (photo + score) + photo + 2 * score) for photo in sizes.values()]
    assert bytes_written(setting)["match tables"] / 24 == pytest.approx(sum(rows), rel=0.1)


def test_without_heldout_images_their_columns_are_empty(setting):
    dataset = dataclasses.replace(setting.options.dataset, heldout_fraction=0.0)
    alone = dataclasses.replace(setting, options=dataclasses.replace(setting.options, dataset=dataset))
    tables = [bytes_written(one)["match tables"] for one in (alone, setting)]
    assert 0.3 < tables[0] / tables[1] < 0.4
