import dataclasses
import math

import pytest

from configs import smoke
from side_jax.audit.cost import equal_compute
from side_jax.audit.cost.count import audit_cost
from side_jax.audit.cost.equal_compute import random_images_at_equal_compute
from side_jax.audit.cost.jobs import Job, Setting, guide_net
from side_jax.audit.options import AuditOptions
from side_jax.audit.stage import Stage
from side_jax.audit.stages.extract import SURROGATE, ExtractStage
from side_jax.diffusion.schedule import Schedule
from side_jax.targets.target import abstract_target

pytestmark = pytest.mark.optax


LOADED = {"target.source": "load", "target.path": "m", "detect.num_images": 0, "steer.weights": ()}


def setting(num_classes=1000, **changes):
    config = smoke.get_config()
    with config.ignore_type():
        config.update_from_flattened_dict(changes)
    options = AuditOptions.from_config(config)
    net = options.target.make_net(options.dataset.image_size, options.dataset.channels)
    return Setting(options, abstract_target(net, Schedule()), 1, 200, num_classes)


def at_equal_compute(one, num_images=12, method=""):
    return random_images_at_equal_compute(one, one.methods()[method], num_images, SURROGATE, ExtractStage())


@pytest.mark.slow
def test_operations_are_those_of_the_dry_run():
    """But for what the compiler saves: of the surrogate's stages, and of a guided and an unguided image."""
    one = setting(**LOADED)
    extra, facts = at_equal_compute(one)
    works = audit_cost(one).works
    made = [work for work in works if not work.what.startswith("agreement")]  # a measurement of the guide
    surrogate = sum(work.total for work in made if work.stage in ("synthesize", "label", "distill"))
    image = {work.what.split(",")[0].split()[0]: work.flops for work in works if work.stage == "extract"}
    assert facts["surrogate_flops"] == pytest.approx(surrogate, rel=0.03)
    both = image["pixel"] + image["match"]
    assert facts["guided_flops_per_image"] == pytest.approx(image["guided"] + both, rel=0.03)
    assert facts["unguided_flops_per_image"] == pytest.approx(image["unguided"] + both, rel=0.03)
    random_images = (surrogate + 12 * (image["guided"] + both)) / (image["unguided"] + both)
    assert facts["random_images"] == 12 + extra == pytest.approx(random_images, rel=0.03)


class _Counted:
    def __init__(self, flops):
        self.flops = lambda: flops


class Toy(Stage):
    """Programs by hand: images, calls for each, operations; `guided` or `unguided` by the sweep's λ."""

    folder = "toy"

    def __init__(self, name, program, guided=None, unguided=None):
        self.name, self._program, self._by_scale = name, program, (unguided, guided)

    def run(self, audit):
        raise AssertionError("only counted")

    def jobs(self, setting, row, method):
        for program in (self._program, self._by_scale[row.extract.scales[0] > 0]):
            if program:
                images, calls, flops = program
                yield Job(self.name, "", images, f"{self.name} {flops}", lambda size, f=flops: _Counted(f), 1, calls)


def test_extra_images_by_hand(monkeypatch):
    """Surrogate 3 x 10 + 4 x 5 = 50, an image 2 steps of 7 and a descriptor of 1, unguided of 5; N = 10: ⌊200 / 11⌋."""

    surrogate = (Toy("synthesize", (1, 3, 10.0)), Toy("distill", (4, 1, 5.0)))
    sweep = Toy("extract", (1, 1, 1.0), guided=(1, 2, 7.0), unguided=(1, 2, 5.0))
    monkeypatch.setattr(equal_compute, "match_flops", lambda setting: 0.0)
    one = setting()
    extra, facts = random_images_at_equal_compute(one, one.methods()[""], 10, surrogate, sweep)
    assert facts["surrogate_flops"] == 50
    assert (facts["guided_flops_per_image"], facts["unguided_flops_per_image"]) == (15, 11)
    assert facts["random_images"] == math.floor((50 + 150) / 11) == 18
    assert extra == 8


def test_each_method_pays_for_its_own_surrogate():
    """Labels of the data set need no synthetic image and no teacher; the sweep of another method than the main one has
    no unguided images, and they cost the same."""
    table = setting(methods=("random", "side", "ol_ti"))
    (_, side), (_, ol_ti) = (at_equal_compute(table, method=f" ({name})") for name in ("side", "ol_ti"))
    assert ol_ti["unguided_flops_per_image"] == side["unguided_flops_per_image"]
    assert ol_ti["surrogate_flops"] < side["surrogate_flops"] / 2


def test_unet_and_classes_are_the_ones_given():
    few, many = (setting(num_classes, **{"labels.source": "dataset"}) for num_classes in (10, 100_000))
    (row,) = few.options.rows().values()
    assert guide_net(row, few.num_classes).num_classes == 10
    (extra, small), (more, large) = at_equal_compute(few), at_equal_compute(many)
    assert large["guided_flops_per_image"] > small["guided_flops_per_image"]
    assert more > extra
    net = dataclasses.replace(few.target.net, block_out_channels=(64, 64))
    wide = dataclasses.replace(few, target=abstract_target(net, Schedule()))
    assert at_equal_compute(wide)[1]["unguided_flops_per_image"] > 4 * small["unguided_flops_per_image"]


def test_random_itself_is_refused():
    one = setting(**{"classifier.guide": "none", "extract.scales": (0.0,)})
    with pytest.raises(ValueError, match="Random itself"):
        at_equal_compute(one)
