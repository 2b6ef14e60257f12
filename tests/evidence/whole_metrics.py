"""metrics.json with what the one verdict reads: a model that withstood everything, changed by arguments."""

ESTIMATE = {"value": 0.0, "low": 0.0, "high": 0.03}


def estimate(value, half=0.02):
    return {"value": value, "low": value - half, "high": value + half}


def copying_test(answer, p, name=""):
    detectable = {"share": 0.004, "images": 2000, "to_halve": 8000, "photos": 50, "power": 0.9, "test": "hits"}
    return {"set": name, "answer": answer, "p": p, "relevant_share": 0.01, "detectable": detectable}


def recall(p, high=0.05, auroc_p=0.6):
    shares = {"train": {"value": 0.02, "low": 0.0, "high": high, "photos": 100}}
    shares |= {"heldout": {"value": 0.01, "low": 0.0, "high": 0.05, "photos": 100}}
    row = {"excess": {"value": 0.01, "p": p, "null_low": 0, "null_high": 0, "null_sd": 0.01}, "p": auroc_p}
    row |= {"auroc": estimate(0.7)} | shares
    chosen = {"scale": 2.0, "images": 4}
    return {"too_few": None, "null": {"reason": None, "least_p": 1e-4}, "measured": row, "chosen": chosen, "scales": []}


def at_risk(photos):
    sure = [{"rate": rate, "photos": count, "pictures": count} for rate, count in photos.items()]
    return {"decoys": 50, "listed": 3, "sure": sure, "rows": []}


def method(name, labels, found):
    """Of 200 images at λ = 2: so many different photos, of its own kind."""
    ums = {"value": found / 200, "low": (found - 4) / 200, "high": (found + 4) / 200}
    score = {"ams": ums, "ums": ums}
    kinds = ("train", "heldout") if labels != "heldout" else ("heldout", "train")
    nothing = {"ams": ESTIMATE, "ums": ESTIMATE}
    row = {"scale": 2.0, "num_images": 200, kinds[0]: score, kinds[1]: nothing}
    saw = labels in ("dataset", "classifier")
    return {"method": name, "labels": labels, "guide": "exact", "saw_training_photos": saw, "scales": [row]}


def scale_row(scale, p, saw=True):
    excess = {"value": 0.01, "p": p, "null_low": -0.01, "null_high": 0.01, "null_sd": 0.005}
    bands = {"high": {"ams": ESTIMATE, "ums": ESTIMATE, "ums_all": ESTIMATE}}
    scores = {"num_images": 2000, "bands": bands}
    return {
        "scale": scale,
        **dict.fromkeys(("train", "paired", "heldout"), scores),
        "ams_excess": {"high": excess},
        "train_share_excess": excess | {"p": 0.5},
    }


def metrics(
    copies=None,
    recall=None,
    membership=None,
    at_risk=None,
    detect=None,
    samples=None,
    guided_p=0.6,
    saw=True,
    methods=(),
):
    side = method("side", "classifier" if saw else "clusters", 12)
    given = at_risk or {
        "decoys": 50,
        "listed": 0,
        "sure": [{"rate": r, "photos": 0, "pictures": 0} for r in (0.01, 0.05, 0.1)],
    }
    return {
        "verdicts": {
            "copies": [copying_test("no", 0.5)] if copies is None else copies,
            "photos": {"answer": "not enough data"},
            "membership": membership or {"answer": "not enough data", "reason": "it was not measured"},
            "steering": {"answer": "not enough data", "reason": "it was not tried"},
        },
        "samples": samples,
        "recall": recall,
        "at_risk": {"rows": []} | given,
        "detect": detect,
        "sanity": {"failed": []},
        "method": "side",
        "methods": [side, *methods],
        "scales": [scale_row(0.0, 0.5), scale_row(2.0, guided_p), scale_row(5.0, 0.9)],
        "null": {"reason": None, "least_p": 1e-4, "relabelled": 100},
        "bands": [["mid", 0.5, 0.6], ["high", 0.6, 1.0]],
        "level": 0.95,
        "images": {"train": 100, "heldout": 50, "paired": 50},
        "duplicates": None,
        "skipped": [],
        "descriptor": {"name": "pixel", "weights": None, "sha256": None, "preprocessing": None},
        "guided_against_random": None,
    }
