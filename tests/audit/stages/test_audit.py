"""Bad input that is refused before any compute, where it takes the data to see it."""

import dataclasses

import numpy as np
import pytest

from configs import orl
from side_jax.audit.dataset import load_split
from side_jax.audit.options import AuditOptions
from side_jax.audit.pipeline import check
from side_jax.audit.stage import Audit
from side_jax.data.splitting import Split


@pytest.fixture(scope="module")
def split():
    return load_split(AuditOptions.from_config(orl.get_config()).dataset)


def audit(split, methods=("random", "exact_train", "exact_heldout")):
    config = orl.get_config()
    config.methods = methods
    return Audit(AuditOptions.from_config(config), None, split)


def without(images, label):
    return images[np.flatnonzero(images.labels != label)]


def relabelled(images, label):
    return dataclasses.replace(images, labels=np.full(len(images), label))


def test_photos_of_every_class_are_enough_for_bound_and_control(split):
    check(audit(split))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: Split(s.train, s.heldout[np.arange(0)], ()), "needs held-out images, and there are none"),
        (lambda s: Split(s.train, without(s.heldout, 7), ()), "'heldout'.* class 7 of 40 has no held-out photo"),
        (lambda s: Split(without(s.train, 7), s.heldout, ()), "'dataset'.* class 7 of 40 has no training photo"),
        (lambda s: Split(s.train, relabelled(s.heldout, -1), ()), "needs labels of its photos, in class folders"),
    ],
)
def test_exact_guide_without_a_set_is_refused_in_one_line(split, change, message):
    made = audit(change(split))
    trained_here = dataclasses.replace(made.options.target, source="train")  # so that any photos will do
    with pytest.raises(ValueError, match=message) as error:
        check(dataclasses.replace(made, options=dataclasses.replace(made.options, target=trained_here)))
    assert "\n" not in str(error.value)
