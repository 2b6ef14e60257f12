import json
from importlib import resources

import jsonschema
import pytest

from side_jax.report.audit_json import FILE, SCHEMA, SCHEMA_VERSION, read_audit
from side_jax.report.gate_metrics import COMMON, UNGUIDED
from tests.evidence.whole_metrics import at_risk, copying_test, estimate, method, recall
from tests.report.crafted_audit import crafted

MEMBERS = {
    "too_few": None,
    "positives": 90,
    "negatives": 90,
    "rows": [{"name": "loss", "auroc": estimate(0.9), "p": 0.001, "tpr": [{"asked": 0.01, **estimate(0.3)}]}],
}
EVERYTHING = {
    "recall": recall(0.0001),
    "at_risk": at_risk({0.01: 0, 0.05: 25, 0.1: 30}),
    "membership": {"answer": "yes", "p": 0.001, "auroc": estimate(0.9), "attack": "loss"},
    "detect": {"generated": {"calibrated": True, "scale": 0.0, "images": 64, "memorized": 25}, "members": MEMBERS},
    "methods": [method("exact_train", "dataset", 60), method("exact_heldout", "heldout", 10)],
}
SETS = [copying_test("no", 0.5, "A"), copying_test("yes", 0.004, "B")]


@pytest.fixture(scope="module")
def schema():
    return json.loads((resources.files("side_jax.report") / SCHEMA).read_text(encoding="utf-8"))


def strict(schema):
    """The schema, with no field allowed but those that it describes."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: strict(one) for name, one in schema.items()}
    closed = "properties" in schema and "type" in schema and "additionalProperties" not in schema
    return made | {"additionalProperties": False} if closed else made


@pytest.mark.parametrize(
    "changes",
    [{}, EVERYTHING, {"copies": []}, {"copies": SETS}, {"withheld": ["No verdict: noise."]}],
    ids=["clean", "everything", "guided alone", "sets", "withheld"],
)
def test_crafted_audits_are_as_the_schema_says_and_it_describes_every_field(schema, changes):
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(strict(schema)).validate(crafted(**changes))


def test_audit_json_of_a_run_is_as_the_schema_says(schema, finished_smoke):
    found = read_audit(finished_smoke)
    jsonschema.Draft202012Validator(strict(schema)).validate(found)
    metrics = json.loads((finished_smoke / "metrics.json").read_text())
    assert found["metrics"]["ams"]["value"] == metrics["scales"][0]["train"]["bands"]["high"]["ams"]["value"]
    assert found["metrics"]["recall_p"]["value"] == metrics["recall"]["measured"]["excess"]["p"]
    assert found["photos"] == metrics["images"] | {"skipped": 0}
    assert found["verdict"]["withheld"] and found["verdict"]["word"] == "CANNOT TELL"
    assert (finished_smoke / "model_card.md").read_text().startswith("## Training data extraction")


@pytest.mark.parametrize(
    "wrong",
    [
        {"schema_version": 2},
        {"verdict": {"word": "SAFE"}},
        {"metrics": {}},
        {"bands": []},
        {"photos": {"train": -1, "heldout": 0, "paired": 0, "skipped": 0}},
    ],
)
def test_schema_refuses_what_is_none(schema, wrong):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(crafted() | wrong)


def test_value_and_reason_exclude_each_other(schema):
    both = crafted()
    both["metrics"]["p"] = both["metrics"]["p"] | {"reason": "it was not measured"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(both)


def test_schema_knows_every_metric_of_the_gate(schema):
    assert schema["properties"]["metrics"]["required"] == [*UNGUIDED, *COMMON]
    assert schema["properties"]["sets"]["additionalProperties"]["required"] == list(UNGUIDED)
    assert schema["properties"]["schema_version"]["const"] == SCHEMA_VERSION


def test_metrics_have_their_numbers():
    found = crafted(**EVERYTHING)
    value = {name: one["value"] for name, one in found["metrics"].items()}
    assert value["p"] == 0.5 and value["detectable_share"] == 0.004
    assert value["recall_p"] == 0.0001 and value["recall_share"] == 0.02
    assert (value["photos_at_risk"], value["photos_at_risk_sure"], value["photos_listed"]) == (30, 0, 3)
    assert value["membership_auroc"] == 0.9 and value["membership_tpr"] == 0.3
    assert value["memorized_share"] == 25 / 64
    assert value["control_excess"] == pytest.approx(0.6 - 0.2)
    assert (value["copies"], value["nothing_found"], value["cannot_tell"]) == (1, 0, 0)
    assert found["metrics"]["identical_images"]["reason"] == "images of a model are not compared pixel for pixel"
    assert {one["metric"] for one in found["not_measured"]} == {name for name, one in value.items() if one is None}


def test_of_several_sets_the_metrics_are_those_of_the_smallest_p_which_pays_for_all():
    found = crafted(copies=SETS)
    assert list(found["sets"]) == ["A", "B"]
    assert found["metrics"]["p"] == found["sets"]["B"]["p"]
    assert found["sets"]["B"]["p"]["value"] == pytest.approx(2 * 0.004)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "does not exist: the report stage writes audit.json"),
        ("", "is no audit.json: Expecting value"),
        ("[1]", "it has no schema_version"),
        ("{}", "it has no schema_version"),
        ('{"schema_version": 2}', "has schema_version 2, and this side_jax reads 1"),
        ('{"schema_version": "1"}', "has schema_version '1', and this side_jax reads 1"),
    ],
)
def test_what_is_no_audit_json_of_this_version_is_one_line(tmp_path, text, message):
    if text is not None:
        (tmp_path / FILE).write_text(text)
    for path in (tmp_path, tmp_path / FILE):
        if text is not None or path == tmp_path:
            with pytest.raises(ValueError, match=message) as error:
                read_audit(path)
            assert "\n" not in str(error.value)
