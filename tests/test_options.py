import pytest

from configs import default, orl, smoke
from side_jax.options import AuditOptions, check_bands


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
        ("extract.scales", (1.0, 1.0), "without repetitions"),
        ("extract.scales", (0.001,), "at most two decimals, got 0.001"),
        ("extract.num_images", 0, "extract.num_images must be at least 1, got 0"),
        ("synthesize.num_images", 0, "synthesize.num_images must be at least 1, got 0"),
        ("extract.top_k", 0, "extract.top_k must be at least 1"),
        ("extract.eta", 1.5, r"extract.eta must be in \[0, 1\]"),
        ("extract.descriptor", "clip", "extract.descriptor must be pixel or sscd, got 'clip'"),
        ("extract.descriptor", "sscd", "needs its weights: download https://dl.fbaipublicfiles.com/.*MIT licence"),
        ("extract.weights", "x.pt", "the pixel descriptor has no weights, got 'x.pt'"),
        ("extract.preprocessing", "square_320", "the pixel descriptor has no preprocessing, got 'square_320'"),
        ("labels.source", "oracle", "labels.source must be classifier or clusters, got 'oracle'"),
        ("labels.num_clusters", 1, "labels.num_clusters must be at least 2"),
        ("labels.cohesion", 2.0, "labels.cohesion must be a cosine"),
        ("classifier.arch", "vgg", "classifier.arch must be one of resnet34, .* got 'vgg'"),
        ("classifier.guide", "none", "classifier.guide must be time_dependent, got 'none'"),
        ("classifier.train.num_steps", 0, "classifier.train.num_steps must be at least 1, got 0"),
        ("target.source", "steal", "target.source must be train or load, got 'steal'"),
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


def test_pretrained_weights_without_a_teacher_are_refused():
    config = orl.get_config()
    config.labels.source = "clusters"
    config.classifier.pretrained = "resnet34.pth"
    with pytest.raises(ValueError, match="'resnet34.pth' is the teacher's start, and labels.source 'clusters' has no"):
        AuditOptions.from_config(config)


def test_unknown_and_missing_fields_are_named():
    fields = orl.get_config().to_dict()
    fields["extract"]["lambda"] = 3
    with pytest.raises(ValueError, match="extract.lambda is not a field; known: bands, batch_size"):
        AuditOptions.from_config(fields)
    del fields["extract"]["lambda"], fields["labels"]["source"]
    with pytest.raises(ValueError, match="labels.source is missing from the config"):
        AuditOptions.from_config(fields)


def test_unknown_unet_option_is_named():
    config = orl.get_config()
    with config.unlocked():
        config.target.unet.width = 3
    with pytest.raises(ValueError, match="target.unet.width is not a field"):
        AuditOptions.from_config(config).target.make_unet(32, 1)


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        ((("low", 0.4, 0.5), ("mid", 0.45, 0.6)), "'low' and 'mid' overlap or descend: 0.5 > 0.45"),
        ((("low", 0.5, 0.4),), r"low < high <= 1, got \('low', 0.5, 0.4\)"),
        ((("low", 0.5, 1.5),), "high <= 1"),
        ((), "at least one"),
    ],
)
def test_bad_bands_are_named(bands, message):
    with pytest.raises(ValueError, match=message):
        check_bands(bands)


def test_touching_bands_are_fine():
    assert check_bands((("low", 0.4, 0.5), ("high", 0.5, 1.0))) is None
