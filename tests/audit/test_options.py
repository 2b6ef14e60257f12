import pytest

from configs import default, orl, smoke
from side_jax.audit.bands import check_bands
from side_jax.audit.options import AuditOptions


@pytest.mark.parametrize("config", [default, orl, smoke])
def test_every_config_is_valid_and_documented(config):
    AuditOptions.from_config(config.get_config())
    for word in ("Command", "Hardware"):
        assert word in config.__doc__


def test_default_is_locked():
    with pytest.raises(AttributeError):
        default.get_config().no_such_field = 1


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("extract.scales", (0.0, -1.0), "extract.scales: λ must be 0 or more .* got -1.0"),
        ("extract.scales", (), "extract.scales must be at least one λ"),
        pytest.param(
            "extract.scales",
            ("a",),
            r"extract.scales must be tuple\[float, ...\], got \('a',\)",
            marks=pytest.mark.given(
                kind=10,
                input="`extract.scales=('a',)`",
                before="\"'<=' not supported between …\"",
                now="\"extract.scales must be tuple[float, ...], got ('a',)\"",
            ),
        ),
        pytest.param(
            "detect.timesteps",
            (10.5,),
            r"detect.timesteps must be tuple\[int, ...\], got \(10.5,\)",
            marks=pytest.mark.given(
                kind=6,
                input="`detect.timesteps=(10.5,)`",
                before="measures t = 10 and prints 10.5",
                now='"detect.timesteps must be tuple[int, ...], got (10.5,)"',
            ),
        ),
        ("extract.num_images", True, "extract.num_images must be int, got True"),
        ("extract.bands", (("low", 0.4),), r"extract.bands must be tuple\[.* got \(\('low', 0.4\),\)"),
        ("dataset.path", None, "dataset.path must be str, got None"),
        pytest.param(
            "dataset.split_seed",
            -1,
            "dataset.split_seed must be at least 0, got -1",
            marks=pytest.mark.given(
                kind=10,
                input="`dataset.split_seed=-1`",
                before="the program's own exception",
                now='"dataset.split_seed must be at least 0, got -1"',
            ),
        ),
        ("extract.scales", (1.0, 1.0), "without repetitions"),
        ("extract.scales", (0.001,), "at most two decimals, got 0.001"),
        ("extract.num_images", 0, "extract.num_images must be at least 1, got 0"),
        ("synthesize.num_images", 0, "synthesize.num_images must be at least 1, got 0"),
        ("extract.top_k", 0, "extract.top_k must be at least 1"),
        ("extract.batch_size", 0, "extract.batch_size must be at least 1, or 'auto', got 0"),
        ("synthesize.batch_size", "large", "synthesize.batch_size must be at least 1, or 'auto', got 'large'"),
        ("extract.eta", 1.5, r"extract.eta must be in \[0, 1\]"),
        ("extract.descriptor", "clip", "extract.descriptor must be pixel or sscd, got 'clip'"),
        ("extract.descriptor", "sscd", "needs its weights: download https://dl.fbaipublicfiles.com/.*MIT licence"),
        ("extract.weights", "x.pt", "the pixel descriptor has no weights, got 'x.pt'"),
        ("extract.preprocessing", "square_320", "the pixel descriptor has no preprocessing, got 'square_320'"),
        (
            "labels.source",
            "oracle",
            "labels.source must be one of classifier, .* heldout, random, got 'oracle'",
        ),
        ("labels.targets", "firm", "labels.targets must be one of soft, hard, got 'firm'"),
        ("labels.descriptor", "clip", "labels.descriptor must be one of '', teacher, pixel, sscd, got 'clip'"),
        ("labels.temperature", 0.0, "labels.temperature must be above 0"),
        ("methods", ("best",), "methods must be some of random, ol_ti, .* got .'best',."),
        ("methods", ("side", "side"), "methods must be some of random, .* without repetitions"),
        ("labels.num_clusters", 1, "labels.num_clusters must be at least 2"),
        ("labels.cohesion", 2.0, "labels.cohesion must be a cosine"),
        ("classifier.arch", "vgg", "classifier.arch must be one of resnet34, .* got 'vgg'"),
        ("classifier.guide", "clip", "classifier.guide must be one of exact, time_dependent, .* got 'clip'"),
        ("classifier.guide", "none", "classifier.guide='none' allows λ = 0 only, got extract.scales"),
        ("classifier.block", 0, "classifier.block must be at least 1, got 0"),
        ("sampler.clip", "never", "sampler.clip must be one of before_guide, .* none, got 'never'"),
        ("target.clip_x0", True, "target.clip_x0 is not a field"),
        ("classifier.train.num_steps", 0, "classifier.train.num_steps must be at least 1, got 0"),
        ("target.source", "steal", "target.source must be one of train, load, none, got 'steal'"),
        ("target.path", "", "target.path is empty"),
        ("dataset.heldout_path", "photos", "exclude each other; set the fraction to 0"),
        ("seed", -1, "seed must be in"),
        ("report.pairs", 0, "report.pairs must be at least 1"),
    ],
)
def test_bad_values_are_named(field, value, message):
    config = orl.get_config()
    with config.ignore_type(), config.unlocked():
        config.update_from_flattened_dict({field: value})
    with pytest.raises(ValueError, match=message):
        AuditOptions.from_config(config)


def test_more_clusters_than_synthetic_images_are_refused():
    config = orl.get_config()
    config.labels.update({"source": "clusters", "num_clusters": 2_000})
    with pytest.raises(ValueError, match="num_clusters 2000 is more than synthesize.num_images 1024"):
        AuditOptions.from_config(config)


def test_clusters_by_sscd_need_the_weights_of_the_scores():
    config = orl.get_config()
    config.labels.update({"source": "clusters", "num_clusters": 4, "descriptor": "sscd"})
    with pytest.raises(
        ValueError, match="labels.descriptor='sscd' takes the weights of extract.descriptor='sscd', got"
    ):
        AuditOptions.from_config(config)
    config.labels.descriptor = ""
    config.extract.update({"descriptor": "sscd", "weights": "sscd.pt"})
    assert AuditOptions.from_config(config).cluster_descriptor() == ("sscd", "sscd.pt", "")
    config.labels.descriptor = "pixel"
    assert AuditOptions.from_config(config).cluster_descriptor() == ("pixel", "", "")


@pytest.mark.given(
    kind=13,
    input="`run({...})` with some fields",
    before="wants every field",
    now="the others have their defaults; an unknown one is named",
)
def test_missing_fields_have_their_defaults_and_unknown_ones_are_named():
    fields = orl.get_config().to_dict()
    fields["extract"]["lambda"] = 3
    with pytest.raises(ValueError, match="extract.lambda is not a field; known: bands, batch_size"):
        AuditOptions.from_config(fields)
    del fields["extract"]["lambda"], fields["labels"]["source"], fields["steer"]
    options = AuditOptions.from_config(fields)
    assert (options.labels.source, options.steer) == (AuditOptions().labels.source, AuditOptions().steer)
    assert AuditOptions.from_config({}) == AuditOptions()


def test_unknown_unet_option_is_named():
    config = orl.get_config()
    with config.unlocked():
        config.target.unet.width = 3
    with pytest.raises(ValueError, match="target.unet.width is not a field"):
        AuditOptions.from_config(config).target.make_net(32, 1)


@pytest.mark.parametrize("prediction_type", ["v_prediction", "sample"])
def test_training_predicts_epsilon_only(prediction_type):
    config = orl.get_config()
    with config.unlocked():
        config.target.schedule.prediction_type = prediction_type
    with pytest.raises(ValueError, match=f"prediction_type is '{prediction_type}', but a target is trained to predict"):
        AuditOptions.from_config(config).target.make_schedule()


def test_training_knows_no_classes():
    config = orl.get_config()
    with config.unlocked():
        config.target.unet.num_class_embeds = 10
    with pytest.raises(ValueError, match="num_class_embeds is 10, but a target is trained without classes"):
        AuditOptions.from_config(config).target.make_net(32, 1)


def test_betas_may_be_given_one_by_one():
    config = orl.get_config()
    with config.unlocked():
        config.target.schedule.update({"num_train_timesteps": 2, "trained_betas": [0.5, 0.5]})
    assert AuditOptions.from_config(config).target.make_schedule().alpha_bar().tolist() == [0.5, 0.25]


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        ((("low", 0.4, 0.5), ("mid", 0.45, 0.6)), "'low' and 'mid' overlap or descend: 0.5 > 0.45"),
        ((("low", 0.5, 0.4),), r"low < high <= 1, got \('low', 0.5, 0.4\)"),
        ((("low", 0.5, 1.5),), "high <= 1"),
    ],
)
def test_bad_bands_are_named(bands, message):
    with pytest.raises(ValueError, match=message):
        check_bands(bands)


def test_touching_bands_are_fine():
    assert check_bands((("low", 0.4, 0.5), ("high", 0.5, 1.0))) is None


SCALES = (0.0, 1.0, 5.0, 9.0)


def options(**changes):
    """A student with a teacher's labels, whatever the demo's own guide and λ are."""
    config = orl.get_config()
    changes = {"classifier.guide": "time_dependent", "extract.scales": SCALES} | changes
    with config.ignore_type():
        config.update_from_flattened_dict(changes)
    return AuditOptions.from_config(config)


def test_methods_are_the_rows_of_table_1():
    rows = options(methods=("random", "ol_ti", "side", "random_labels")).rows()
    chosen = {name: (row.labels.source, row.classifier.guide, row.extract.scales) for name, row in rows.items()}
    assert next(iter(rows)) == "side"
    assert chosen == {
        "side": ("classifier", "time_dependent", (0.0, 1.0, 5.0, 9.0)),
        "ol_ti": ("dataset", "time_independent", (1.0, 5.0, 9.0)),
        "random_labels": ("random", "time_dependent", (1.0, 5.0, 9.0)),
    }


def test_exact_methods_are_the_surrogate_its_bound_and_the_bounds_control():
    rows = options(methods=("random", "exact_heldout", "exact_train", "side_exact")).rows()
    chosen = {name: (row.labels.source, row.classifier.guide, row.extract.scales) for name, row in rows.items()}
    assert next(iter(rows)) == "side_exact"
    assert chosen == {
        "side_exact": ("classifier", "exact", (0.0, 1.0, 5.0, 9.0)),
        "exact_heldout": ("heldout", "exact", (1.0, 5.0, 9.0)),
        "exact_train": ("dataset", "exact", (1.0, 5.0, 9.0)),
    }
    assert not rows["exact_train"].labels.has_teacher and not rows["exact_heldout"].labels.has_teacher


def test_report_speaks_of_the_exact_guide_if_there_is_one_and_of_the_student_if_not():
    """So a student can be added to a finished audit."""
    assert next(iter(options(methods=("random", "side", "side_exact")).rows())) == "side_exact"
    assert next(iter(options(methods=("random", "ol_ti", "side")).rows())) == "side"
    assert next(iter(options(methods=("exact_train", "side_exact")).rows())) == "side_exact"
    assert next(iter(options(methods=("exact_train", "exact_heldout")).rows())) == "exact_train"


@pytest.mark.parametrize(
    ("source", "method"), [("classifier", "side_exact"), ("dataset", "exact_train"), ("heldout", "exact_heldout")]
)
def test_exact_guide_without_methods_is_named_after_its_set(source, method):
    assert list(options(**{"classifier.guide": "exact", "labels.source": source}).rows()) == [method]


def test_default_order_clips_before_the_guide():
    assert options().sampler.clip == "before_guide"


def test_one_method_is_one_config_value():
    assert options(methods=("random",)).rows()["random"].extract.scales == (0.0,)
    row = options(methods=("ol_ti",)).rows()["ol_ti"]
    assert (row.labels.source, row.classifier.guide) == ("dataset", "time_independent")
    assert list(options().rows()) == ["side"]
    assert list(options(**{"labels.source": "clusters", "labels.num_clusters": 4}).rows()) == ["side_clusters"]


def test_methods_that_lack_their_scale_are_refused():
    with pytest.raises(ValueError, match="methods has 'random', but extract.scales .* lacks its λ, 0"):
        options(**{"methods": ("random", "side"), "extract.scales": (5.0,)})
    with pytest.raises(ValueError, match="needs a λ above 0 in extract.scales"):
        options(**{"methods": ("side",), "extract.scales": (0.0,)})
