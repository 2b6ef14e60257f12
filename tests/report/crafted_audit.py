"""audit.json of crafted metrics: a model that withstood everything, changed as `whole_metrics.metrics`."""

from side_jax.report.audit_json import audit_json
from side_jax.report.verdict import whole
from side_jax.runtime.files import plain
from tests.evidence.whole_metrics import metrics

PROVENANCE = {
    "versions": {"side_jax": "0.1.0", "jax": "0.7.0"},
    "config_hash": "67e07cd2f743dba4",
    "commit": None,
    "devices": ["cpu:cpu"],
    "left_out": [],
}
FACTS = {
    "provenance": PROVENANCE,
    "options": {"seed": 0, "dataset": {"split_seed": 0}},
    "stages": {"extract": {"fingerprint": "800e753c82108298"}},
}


def crafted(withheld=(), **changes):
    """Its named sets are `copies` with names, at λ = 0, 1, …"""
    found = metrics(**changes)
    names = [one["set"] for one in found["verdicts"]["copies"] if one["set"]]
    if not found["verdicts"]["copies"]:  # λ = 0 was not asked for
        found["scales"] = found["scales"][1:]
    if names:
        found["scales"] = [found["scales"][0] | {"scale": float(i), "name": name} for i, name in enumerate(names)]
        found |= {"methods": [], "method": "samples"}
    found["verdict"] = whole(found, list(withheld))
    return plain(audit_json(found, FACTS, bool(withheld)))
