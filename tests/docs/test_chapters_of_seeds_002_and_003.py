"""The chapters run small, and their text is complete for what they return."""

import importlib
import json
import re
from pathlib import Path

import jinja2
import pytest

VERDICTS = ("supported", "supported in part", "contradicted", "not significant")


def check(chapter, tmp_path, **sizes):
    """Makes a chapter and renders its text, where an undefined name is an error."""
    numbers = json.loads(json.dumps(importlib.import_module(f"docs.theory.{chapter}").make(tmp_path, **sizes)))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader("docs/theory"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template(f"{chapter}.md.j2").render(n=numbers)
    drawn = {path.name for path in Path(tmp_path).glob("*.svg")}
    assert set(re.findall(r"\(figures/(\w+\.svg)\)", text)) == drawn
    for claim in numbers["claims"]:
        assert claim["verdict"] in VERDICTS and claim["figure"] in drawn
        assert f"**Claim: {claim['claim']}.** {claim['verdict'].capitalize()}: {claim['why']}" in text
    return numbers, text


@pytest.mark.optax
def test_the_relu_autoencoder(tmp_path):
    numbers, _ = check("relu_dae", tmp_path, image_size=8, num_steps=30, seeds=2)
    assert numbers["claims"][0]["verdict"] == "supported"  # exact, whatever the training
    assert numbers["simplex"]["strength"] == pytest.approx(0.96)


@pytest.mark.slow
def test_memorization(tmp_path):
    numbers, _ = check("memorization", tmp_path, num_images=32, num_steps=3, permutations=2)
    assert [layer["people"]["labels"] for layer in numbers["layers"]] == [40, 40, 40]
    assert [layer["random"]["labels"] for layer in numbers["layers"]] == [80, 80, 80]
    assert numbers["broad"]["verdict"] == "fails"
