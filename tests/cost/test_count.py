import dataclasses

import jax
import jax.numpy as jnp
import pytest

from configs import celeba_hq, smoke
from side_jax.cost.count import audit_cost
from side_jax.cost.jobs import Setting, guide_net, method_jobs, shared_jobs, steer_jobs
from side_jax.diffusion.process import Process
from side_jax.options import AuditOptions
from side_jax.target import predict


def setting(module=smoke, devices=1, **changes):
    config = module.get_config()
    with config.ignore_type():
        config.update_from_flattened_dict(changes)
    options = AuditOptions.from_config(config)
    unet = options.target.make_unet(options.dataset.image_size, options.dataset.channels)
    return Setting(options, unet, devices, 1000)


UNGUIDED = {"target.source": "load", "target.path": "m", "classifier.guide": "none", "extract.scales": (0.0,)}


def test_every_step_of_the_sampler_is_counted():
    """Against the loop written out; XLA counts the body of a scan once."""
    few = setting(**UNGUIDED, **{"extract.num_steps": 3})
    unet, x = few.unet, jax.ShapeDtypeStruct((8, 16, 16, 1), jnp.float32)
    params = jax.eval_shape(lambda: unet.lazy_init(jax.random.key(0), x, jax.ShapeDtypeStruct((8,), jnp.int32)))

    process = Process(jnp.ones(1000))

    def loop(params, x_t):
        for t in (2, 1, 0):
            x_t = x_t - predict(unet, params, process, "epsilon", x_t, jnp.full(8, t)).eps
        return x_t

    written_out = jax.jit(loop).lower(params["params"], x).compile().cost_analysis()["flops"] / 8
    three = audit_cost(few).works[0]
    thirty = audit_cost(setting(**UNGUIDED, **{"extract.num_steps": 30})).works[0]
    assert three.flops == pytest.approx(written_out, rel=0.01)
    assert thirty.flops == pytest.approx(10 * three.flops)
    assert three.images == few.options.extract.num_images


def jobs(setting):
    found = [*shared_jobs(setting)]
    for method, row in setting.methods().items():
        found += method_jobs(setting, row, method)
    return [(job.stage, job.what, job.images, job.calls) for job in found]


def test_images_of_the_papers_sweep():
    sweep = {"extract.scales": tuple(map(float, range(51))), "extract.descriptor": "pixel"}
    assert jobs(setting(celeba_hq, **sweep)) == [
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


def test_steered_images_and_their_direction_are_counted():
    """Two weights of 4 of 6 odd images; those not kept are sampled again, of both kinds and at α = 0."""
    steer = {"steer.weights": (-1.0, 1.0), "steer.num_images": 4, "extract.num_steps": 20}

    def counted(kept):
        found = steer_jobs(setting(**UNGUIDED, **steer, **{"extract.save_images": kept}))
        return [(job.what, job.images, job.calls) for job in found]

    direction = ("direction, 9 forward passes", 8, 9)
    assert counted("all") == [("unguided, 20 steps", 8, 20), direction]
    assert counted("none") == [("unguided, 20 steps", 8 + 12, 20), direction]
    assert not list(steer_jobs(setting(**{"steer.weights": ()})))


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
    (work,) = [one for one in audit_cost(few).works if one.what == "agreement at 10 noise levels"]
    net = guide_net(row)
    assert net.time_conditioned == (guide == "time_dependent")
    x, t = jax.ShapeDtypeStruct((256, 16, 16, 1), jnp.float32), jax.ShapeDtypeStruct((256,), jnp.int32)
    times = t if net.time_conditioned else None
    variables = jax.eval_shape(lambda: net.lazy_init(jax.random.key(0), x, times))
    forward = jax.jit(net.apply).lower(variables, x, times).compile().cost_analysis()["flops"] / 256
    assert (work.stage, work.images) == ("distill", 3)
    assert work.flops == pytest.approx(10 * forward, rel=0.02)


@pytest.mark.optax
def test_ceiling_of_a_student_needs_memory_and_what_it_learns_of_it_operations():
    """A look at the exact guide is a dot product with each of 1,000 images; a student also takes its exponential."""

    def distill(**changes):
        cost = audit_cost(setting(**{"synthesize.num_images": 1_000, **changes}))
        works = {work.what.split(",")[0]: work for work in cost.works if work.stage == "distill"}
        return works["train"].flops, works["agreement of the exact guide at 10 noise levels"]

    labels, ceiling = distill()
    posterior, _ = distill(**{"classifier.learn": "posterior"})
    look = ceiling.flops / 10
    assert look == pytest.approx(2 * 1_000 * 16 * 16, rel=0.5)
    assert look < posterior - labels < 1.5 * look
    exact = audit_cost(setting(**{"classifier.guide": "exact"}))
    assert "distill" in {need.stage for need in exact.needs}


def test_match_is_counted_by_hand():
    """1,000 training images and as many held out and paired, descriptors and pixels of 16x16, and squared norms."""
    match = audit_cost(setting(**UNGUIDED)).works[-1]
    assert (match.what, match.flops) == ("match", 2 * 3 * 1000 * (256 + 256 + 1))


def test_memory_falls_with_the_devices_that_share_a_batch():
    changes = UNGUIDED | {"extract.batch_size": 64}
    one, eight = (audit_cost(setting(devices=devices, **changes)).needs[0].program for devices in (1, 8))
    assert eight.batch == 8
    assert eight.fixed == one.fixed
    assert eight.bytes < one.bytes / 2


def test_weights_of_the_descriptor_lie_beside_the_unets():
    pixel = setting(**UNGUIDED)
    sscd_options = dataclasses.replace(pixel.options.extract, descriptor="sscd", weights="w.pt", batch_size=1)
    sscd = dataclasses.replace(pixel, options=dataclasses.replace(pixel.options, extract=sscd_options))
    costs = [audit_cost(one) for one in (pixel, sscd)]
    statistics = 53_120 * 4  # mean and variance of ResNet50's 26,560 normalised channels
    added = costs[1].needs[0].program.fixed - costs[0].needs[0].program.fixed
    assert added == 4 * costs[1].parameters["descriptor"] + statistics
