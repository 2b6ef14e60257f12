import re

import numpy as np

from side_jax.evidence import detectors
from side_jax.report.page import render
from side_jax.report.section import Page, Ranked
from side_jax.report.sections.detect import sentences
from side_jax.runtime.files import plain
from tests.report.test_page import FACTS, metrics

POSITIVE = np.arange(240) % 4 < 2
ODD = np.arange(240) % 2 == 1


def found(strength=3.0, contrast=0.0, calibrated=True, photos=True, few=False):
    """What the detect stage would say of scores with this effect; `few`: of too few memorized images."""
    positive = np.arange(240) < 6 if few else POSITIVE
    noise = np.random.default_rng(0).normal(size=(3, 240))
    scores = {
        "std": {"up_blocks.0, t = 10": noise[0] + strength * positive},
        "loss": {"t = 10": noise[1] + strength * positive},
        "contrast": {"high": noise[2] + contrast * positive},
    }
    generated = detectors.compare(scores, positive, np.arange(240), (0.01,))
    generated |= {"threshold": 0.974, "calibrated": calibrated, "scale": 0.0, "draws": [0.7, 0.8]}
    generated |= {"images": 5_000, "memorized": 7, "ambiguous": 3}
    row = {"scale": 5.0, "positives": 2, "negatives": 98, "too_few": "2 positives and 98 negatives"}
    generated["scales"] = [] if few else [row, {"scale": None, "too_few": None} | row | generated["rows"][0]]
    members = {"too_few": "no photos were held out", "positives": 0, "negatives": 0, "rows": []}
    if photos:
        members = detectors.compare({"loss": scores["loss"]}, positive, np.arange(240), (0.001, 0.01))
    summary = {"generated": generated, "members": members, "layers": ["up_blocks.0"], "timesteps": [10]}
    ranked = Ranked({name: next(iter(choices.values()))[ODD] for name, choices in scores.items()}, positive[ODD])
    return plain(summary | {"classes_of_photos": None}), (None if few else ranked, ranked if photos else None)


def page(summary, ranked):
    best = {scale: {"training": np.linspace(0, 1, 40)} for scale in (0.0, 5.0)}
    return " ".join(render(Page(metrics(10) | {"detect": summary}, FACTS, [], best, ranked)).split())


def test_page_shows_every_detector_with_its_interval_and_the_curves():
    summary, ranked = found()
    text = page(summary, ranked)
    assert "seen from inside the target" in text
    assert text.count("<svg") == 5
    for row in summary["generated"]["rows"]:
        assert f"{row['auroc']['value']:.3f} [{row['auroc']['low']:.3f}, {row['auroc']['high']:.3f}]" in text
    assert "AUROC of each draw of the noise alone: 0.700, 0.800." in text
    assert "3 images resemble training photos outside the paired ones" in text
    assert "Of the 5000 images of this λ 7 are memorized" in text
    assert "TPR at 0.1 % FPR" in text
    assert re.search(r"<td>5</td><td>2</td><td>98</td><td colspan=.2.>2 positives and 98 negatives</td>", text)


def test_headline_says_memorized_only_if_it_is_significant_and_the_right_way_round():
    assert "memorized images look memorized from inside, too" in sentences(found()[0])[0]
    assert "not significant, memorized images do not look so" in sentences(found(strength=0)[0])[0]
    assert "tells no more than their pixel contrast" in sentences(found(contrast=6)[0])[0]
    assert "the wrong way round" in sentences(found(strength=-3)[0])[0]


def test_comparison_with_loss_and_contrast_is_said_to_be_open_where_it_is():
    compared = sentences(found(strength=1, contrast=6)[0])[1]
    assert re.search(r"\(not significant, p = 0\.\d+\) against denoising loss", compared)
    assert re.search(r"\(worse, p .*\) against pixel contrast", compared)
    assert re.search(r"\(better, p < 0.001\) against pixel contrast", sentences(found()[0])[1])


def test_too_few_or_nothing_held_out_is_a_sentence_and_no_table():
    summary, ranked = found(few=True, photos=False, calibrated=False)
    text = page(summary, ranked)
    assert "Nothing can be said of the images at λ = 0: of the even-numbered, 3 positives and 117 negatives" in text
    assert "which no held-out photo calibrates" in text
    assert "Nothing can be said of the photos: no photos were held out." in text
    assert text.count("<svg") == 4
    assert "seen from inside the target" not in page(None, None)
