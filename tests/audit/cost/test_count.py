import dataclasses

import jax
import jax.numpy as jnp
import pytest

from configs import celeba_hq, smoke
from side_jax.audit.cost.count import audit_cost, audit_jobs
from side_jax.audit.cost.jobs import Setting, guide_net
from side_jax.audit.options import AuditOptions
from side_jax.diffusion.schedule import Schedule
from side_jax.targets.target import abstract_target


def setting(module=smoke, devices=1, **changes):
    config = module.get_config()
    with config.ignore_type():
        config.update_from_flattened_dict(changes)
    options = AuditOptions.from_config(config)
    net = options.target.make_net(options.dataset.image_size, options.dataset.channels)
    return Setting(options, abstract_target(net, Schedule()), devices, 1000)


UNGUIDED = {"target.source": "load", "target.path": "m", "classifier.guide": "none", "extract.scales": (0.0,)}


def sweep(rows):
    """The first row of the sweep."""
    return next(row for row in rows if row.stage == "extract")


def test_every_step_of_the_sampler_is_counted():
    """Against the loop written out; XLA counts the body of a scan once."""
    few = setting(**UNGUIDED, **{"extract.num_steps": 3})
    x = jax.ShapeDtypeStruct((8, 16, 16, 1), jnp.float32)

    def loop(target, x_t):
        for t in (2, 1, 0):
            x_t = x_t - target.eps(x_t, jnp.full(8, t))
        return x_t

    written_out = jax.jit(loop).lower(few.target, x).compile().cost_analysis()["flops"] / 8
    three = sweep(audit_cost(few).works)
    thirty = sweep(audit_cost(setting(**UNGUIDED, **{"extract.num_steps": 30})).works)
    assert three.flops == pytest.approx(written_out, rel=0.01)
    assert thirty.flops == pytest.approx(10 * three.flops)
    assert three.images == few.options.extract.num_images


def jobs(setting):
    found = [job for job in audit_jobs(setting) if job.stage not in ("sanity", "recall", "detect", "steer")]
    return [(job.stage, job.what, job.images, job.calls) for job in found]


def test_images_of_the_papers_sweep():
    many = {"extract.scales": tuple(map(float, range(51))), "extract.descriptor": "pixel"}
    assert jobs(setting(celeba_hq, **many)) == [
        ("target", "train, 258,000 steps", 258_000 * 64, 1),
        ("synthesize", "unguided, 50 steps", 50_000, 50),
        ("label", "train teacher, 10,000 steps", 640_000, 1),
        ("label", "label", 50_000, 1),
        ("distill", "agreement of the exact guide at 10 noise levels", 5_000, 10),
        ("distill", "train, 50,000 steps", 3_200_000, 1),
        ("distill", "agreement at 10 noise levels", 5_000, 10),
        ("extract", "unguided, 50 steps", 50_000, 50),
        ("extract", "guided, 50 steps", 50 * 50_000, 50),
        ("extract", "pixel descriptor", 51 * 50_000, 1),
    ]


def test_sanity_samples_only_where_no_guide_needs_synthetic_images():
    def counted(**changes):
        found = [job for job in audit_jobs(setting(**changes)) if job.stage == "sanity"]
        return [(job.what, job.images, job.calls) for job in found]

    photos = [("photos, 4 forward passes", 8, 4), ("by 7 other recipes, 24 forward passes", 8, 24)]
    assert counted() == photos
    assert counted(**UNGUIDED) == counted(**{"extract.scales": (0.0,)}) == [("unguided, 3 steps", 8, 3), *photos]
    assert counted(**{"dataset.name": "npz"}) == photos[:1]  # which holds pixels


def test_recall_asks_for_as_many_held_out_photos_as_training_photos():
    """24 of each, 3 images at 2 λ, guided by the exact posterior over all photos: 3 products with each a step."""
    asked = setting(**{"recall.num_images": 3, "recall.scales": (1.0, 2.0)})
    (job,) = [one for one in audit_jobs(asked) if one.stage == "recall"]
    assert (job.what, job.images, job.calls) == ("guided to photos, 3 steps", 2 * 24 * 3 * 2, 3)
    unguided = next(one for one in audit_jobs(asked) if one.what == "unguided, 3 steps")
    guide = job.lower(8).count().flops - unguided.lower(8).count().flops
    assert 4 * 2_000 * 256 < guide < 8 * 2_000 * 256  # a product with the set, and one back
    assert not [one for one in audit_jobs(setting(**{"recall.num_photos": 0})) if one.stage == "recall"]
    assert not [one for one in audit_jobs(setting(**{"dataset.heldout_fraction": 0.0})) if one.stage == "recall"]


def test_steered_images_and_their_direction_are_counted():
    """Two weights of 4 of 6 odd images; those not kept are sampled again, of both kinds and at α = 0."""
    steer = {"steer.weights": (-1.0, 1.0), "steer.num_images": 4, "extract.num_steps": 20}

    def counted(kept):
        steered = setting(**UNGUIDED, **steer, **{"extract.save_images": kept})
        found = [job for job in audit_jobs(steered) if job.stage == "steer"]
        return [(job.what, job.images, job.calls) for job in found]

    direction = ("direction, 9 forward passes", 8, 9)
    assert counted("all") == [("unguided, 20 steps", 8, 20), direction]
    assert counted("none") == [("unguided, 20 steps", 8 + 12, 20), direction]
    assert "steer" not in {job.stage for job in audit_jobs(setting(**{"steer.weights": ()}))}


def test_methods_share_target_and_synthetic_images_and_each_has_its_sweep():
    stages = [stage for stage, *_ in jobs(setting(methods=("random", "side", "ol_ti")))]
    assert stages == (
        ["target", "synthesize", "label (side)", "label (side)", *3 * ["distill (side)"]]
        + 3 * ["extract (side)"]
        + 3 * ["distill (ol_ti)"]
        + 2 * ["extract (ol_ti)"]
    )


@pytest.mark.parametrize(
    ("changes", "stages"),
    [
        (UNGUIDED, {"extract"}),
        ({"labels.source": "dataset"}, {"target", "distill", "extract"}),
        (
            {"labels.source": "clusters", "labels.num_clusters": 3},
            {"target", "synthesize", "label", "distill", "extract"},
        ),
        ({"labels.source": "random"}, {"target", "synthesize", "distill", "extract"}),
        ({"classifier.guide": "time_independent"}, {"target", "synthesize", "label", "distill", "extract"}),
    ],
)
def test_only_stages_that_compute_cost(changes, stages):
    assert {stage for stage, *_ in jobs(setting(**changes))} == stages


@pytest.mark.optax
@pytest.mark.parametrize("guide", ["time_dependent", "time_independent"])
def test_agreement_of_the_guide_is_a_forward_pass_at_every_noise_level(guide):
    """Of every tenth of 25 synthetic images, the first included; as many operations as the guide's own program."""
    few = setting(**{"synthesize.num_images": 25, "classifier.guide": guide})
    row = few.options
    (job,) = [one for one in audit_jobs(few) if one.what == "agreement at 10 noise levels"]
    net = guide_net(row)
    assert net.time_conditioned == (guide == "time_dependent")
    x, t = jax.ShapeDtypeStruct((256, 16, 16, 1), jnp.float32), jax.ShapeDtypeStruct((256,), jnp.int32)
    times = t if net.time_conditioned else None
    variables = jax.eval_shape(lambda: net.lazy_init(jax.random.key(0), x, times))
    forward = jax.jit(net.apply).lower(variables, x, times).compile().cost_analysis()["flops"] / 256
    assert (job.stage, job.images, job.calls) == ("distill", 3, 10)
    assert job.lower(256).count().flops == pytest.approx(forward, rel=0.02)


@pytest.mark.slow
@pytest.mark.optax
def test_ceiling_of_a_student_needs_memory_and_what_it_learns_of_it_operations():
    """A look at the exact guide is a dot product with each of 1,000 images; a student also takes its exponential."""

    def distill(**changes):
        found = audit_jobs(setting(**{"synthesize.num_images": 1_000, **changes}))
        by_name = {job.what.split(",")[0]: job for job in found if job.stage == "distill"}
        return [by_name[what].lower(8).count().flops for what in ("train", _CEILING)]

    (labels, look), (posterior, _) = distill(), distill(**{"classifier.learn": "posterior"})
    assert look == pytest.approx(2 * 1_000 * 16 * 16, rel=0.5)
    assert look < posterior - labels < 1.5 * look
    exact = audit_jobs(setting(**{"classifier.guide": "exact"}))
    assert [job.limits for job in exact if job.stage == "distill"] == [True]


_CEILING = "agreement of the exact guide at 10 noise levels"


def test_match_is_counted_by_hand():
    """1,000 training photos and as many held out, descriptors and pixels of 16x16, and squared norms."""
    match = audit_cost(setting(**UNGUIDED)).works[-1]
    assert (match.what, match.flops) == ("match", 2 * 2 * 1000 * (256 + 256 + 1))


@pytest.mark.slow
def test_memory_falls_with_the_devices_that_share_a_batch():
    changes = UNGUIDED | {"extract.batch_size": 64}
    one, eight = (sweep(audit_cost(setting(devices=devices, **changes)).needs).program for devices in (1, 8))
    assert eight.batch == 8
    assert eight.fixed == one.fixed
    assert eight.bytes < one.bytes / 2


@pytest.mark.slow
def test_weights_of_the_descriptor_lie_beside_the_unets():
    pixel = setting(**UNGUIDED)
    sscd_options = dataclasses.replace(pixel.options.extract, descriptor="sscd", weights="w.pt", batch_size=1)
    sscd = dataclasses.replace(pixel, options=dataclasses.replace(pixel.options, extract=sscd_options))
    costs = [audit_cost(one) for one in (pixel, sscd)]
    statistics = 53_120 * 4  # mean and variance of ResNet50's 26,560 normalised channels
    added = sweep(costs[1].needs).program.fixed - sweep(costs[0].needs).program.fixed
    assert added == 4 * costs[1].parameters["descriptor"] + statistics
