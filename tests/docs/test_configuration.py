from configs import default
from docs import configuration
from side_jax.audit.options import AuditOptions
from side_jax.runtime.declare import as_config


def test_default_config_and_page_are_those_that_the_options_declare():
    """Made again by python -m docs.configuration."""
    assert configuration.DEFAULT.read_text(encoding="utf-8") == configuration.default_config()
    assert configuration.PAGE.read_text(encoding="utf-8") == configuration.page()


def test_default_config_holds_the_declared_defaults():
    assert default.get_config().to_dict() == as_config(AuditOptions()).to_dict()
