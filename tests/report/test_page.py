import functools
import re

import numpy as np
import pytest

from side_jax.evidence import verdicts as evidence
from side_jax.evidence.against_random import compare_at_equal_compute, compare_with_random
from side_jax.evidence.forecast_model import forecast
from side_jax.evidence.intervals import Finds
from side_jax.evidence.null import relabellings
from side_jax.evidence.recipes import OWN, compare_recipes
from side_jax.evidence.scores import InBand, Scores
from side_jax.evidence.summary import calibrate, null_facts, summarize
from side_jax.evidence.table import table1
from side_jax.report.blocks import Pair, Sheet
from side_jax.report.page import render, render_summary, verdicts
from side_jax.report.section import Page
from side_jax.report.sections.histograms import histogram_scales
from side_jax.report.wording import interval, operations, p_value, percent, times
from side_jax.runtime.files import plain

BANDS = (("mid", 0.5, 0.6), ("high", 0.6, 1.0))
SIZE = 20


def scores(best, winner, pictures=None):
    """Every image has exactly one match, `winner`, with score `best`."""
    best, winner = np.asarray(best, np.float32), np.asarray(winner, np.int32)
    inside = best >= 0.5
    above = InBand(np.concatenate([[0], np.cumsum(inside)]), winner[inside], best[inside])
    return Scores(best, winner, above, np.full(len(best), 0.9), np.full(len(best), 0.5), pictures=pictures)


POOL = np.arange(2 * SIZE)
TRAIN, ONE_CLASS = POOL < SIZE, np.zeros_like(POOL)


@functools.cache
def forecast_of(count):
    """Of 40 images the first `count` match distinct photos, as far as there are so many."""
    return forecast(Finds.of(np.where(np.arange(40) < count, np.arange(40) % SIZE, -1)), SIZE, 0)


def answers(row, train, unseen, labels, share=0.01):
    """metrics.json "verdicts" from the unguided images; nothing else was asked."""
    facts, detectable = null_facts(labels) if unseen else {}, None
    if unseen and facts["reason"] is None:
        detectable = evidence.detectable_copies(train, unseen, row, facts["relabelled"], BANDS[-1])
    copies = evidence.copies(row, detectable, facts.get("reason"), "high", share)
    return {
        "copies": [{"set": ""} | copies],
        "photos": evidence.which_photos(NONE_AT_RISK, None),
        "membership": evidence.membership(None),
        "steering": evidence.steering(None, None, share),
    }


NONE_AT_RISK = {"listed": 0, "sure": [{"rate": 0.1, "photos": 0, "pictures": 0}], "decoys": SIZE, "rows": []}


def metrics(copies, heldout=True, guided_copies=None, classes=ONE_CLASS, pictures=None, share=0.01):
    """40 images per λ, of which `copies` score .9 with distinct training images; everything else .2."""
    rows, by_scale = [], {}
    labels = relabellings(TRAIN, classes, 0)
    for scale, count in ((0.0, copies), (5.0, copies if guided_copies is None else guided_copies)):
        train = by_scale[scale] = scores(np.where(np.arange(40) < count, 0.9, 0.2), np.arange(40) % SIZE, pictures)
        quality, unseen = QUALITY | {"change": WORSE if scale else None}, None
        row = {"scale": scale, "train": summarize(train, BANDS), "quality": quality}
        if heldout:
            unseen = scores(np.where(np.arange(40) % 2 == 0, 0.3, 0.1), np.arange(40) % SIZE)
            row |= {"paired": summarize(train, BANDS), "heldout": summarize(unseen, BANDS)}
            row |= calibrate(train, unseen, labels, BANDS)
        rows.append(row)
        if scale == 0:
            said = answers(row, train, unseen, labels, share)
    compared = {b[0]: compare_with_random({5.0: by_scale[5.0]}, by_scale[0.0], b) for b in BANDS}
    real = summarize(rows and scores(np.full(SIZE, 0.4), np.arange(SIZE)), BANDS) | {"best": np.full(SIZE, 0.4)}
    return plain(
        {
            "images": {"train": SIZE, "heldout": SIZE * heldout, "paired": SIZE * heldout},
            "damaged_parts": 0,
            "skipped": [("<b>bad</b>.jpg", "OSError: truncated")],
            "traits": {"not square (dataset.resize)": 3},
            "descriptor": {"name": "pixel", "weights": None},
            "bands": BANDS,
            "measured_bands": None,
            "scales": rows,
            "null": null_facts(labels) if heldout else None,
            "guided_mean": {f"{b[0]}/{s}": 0.1 for b in BANDS for s in ("ams", "ums", "ums_all")},
            "heldout_photos": real if heldout else None,
            "guided_against_random": compared,
            "method": "side",
            "methods": methods(by_scale, compared["high"] | {"equal_compute": None}),
            "sanity": None,
            "detect": None,
            "steer": None,
            "recall": None,
            "samples": None,
            "at_risk": NONE_AT_RISK,
            "marks": None,
            "verdicts": said,
            "verdict": {"word": "CANNOT TELL", "sentence": "", "disagreements": [], "reasons": []},
            "quality": {
                "against": "heldout",
                "photos": SIZE,
                "num_images": 40,
                "yardstick": QUALITY | {"num_images": 20},
            },
            "forecast": {
                "band": "high",
                "scales": [
                    {"scale": scale} | forecast_of(int(nearest.hits(BANDS[-1]).sum()))
                    for scale, nearest in by_scale.items()
                ],
            },
            "duplicates": {"near_duplicate": 0.98, "pictures": SIZE, "repeated": [], "scales": []} if heldout else None,
            "table1": [
                row | {"saw_training_photos": row["method"] == "side"}
                for row in table1({"random": [by_scale[0.0]], "side": [by_scale[5.0]]}, {}, BANDS)
            ],
        }
    )


QUALITY = {"num_images": 40, "kid": {"value": 0.02, "low": 0.01, "high": 0.03}, "frechet": 12.5, "change": None}
WORSE = {"difference": {"value": 0.01, "low": 0.004, "high": 0.016}, "p": 0.002}
DISTILLED = {
    "guide": "time_dependent",
    "agreement": {"0": 1.0, "500": 0.5},
    "ceiling": {"0": 1.0, "500": 0.8},
    "agreement_images": 8,
    "agreement_trained_on": False,
    "num_classes": 4,
}


def methods(by_scale, compared):
    """What `stages.by_method` makes of it, without held-out scores."""

    def row(scale, asked):
        band = BANDS[-1]
        train = by_scale[scale].ams_and_ums(band)
        return {"scale": scale, "num_images": 40, "asked": asked, "train": train, "heldout": train}

    half = {"value": 0.5, "low": 0.34, "high": 0.66}
    return [
        {"method": "random", "labels": None, "guide": "none", "distill": None, "saw_training_photos": False}
        | {"scales": [row(0.0, None)], "against_random": None},
        {"method": "side", "labels": "classifier", "guide": "time_dependent", "distill": DISTILLED}
        | {"saw_training_photos": True, "scales": [row(5.0, half)], "against_random": compared},
    ]


FACTS = {
    "workdir": "<script>alert(1)</script>",
    "run": "0123456789abcdef",
    "options": {
        "target": {"source": "load", "path": "x"},
        "dataset": {
            "name": "orl",
            "path": "",
            "image_size": 8,
            "channels": 1,
            "heldout_path": "",
            "near_duplicate": 0.98,
            "prepare": "diffusers",
            "orientation": "",
            "background": "black",
            "white": 0.0,
            "resize": "",
            "filter": "",
        },
        "extract": {"num_images": 40, "num_steps": 5, "eta": 0.0, "mirror": False},
        "sampler": {"clip": "before_guide"},
        "seed": 0,
        "synthesize": {"num_images": 8},
        "classifier": {"arch": "resnet10_tiny", "guide": "time_dependent"},
        "detect": {"wiener": False, "num_images": 1_000},
    },
    "provenance": {"versions": {"side_jax": "0"}, "config_hash": "abc", "commit": None},
    "stages": {
        "target": {"facts": {"notes": ["unet_ema is read"]}},
        "synthesize": {"facts": {"num_images": 8}},
        "label": {"facts": {"source": "classifier", "targets": "soft", "num_images": 8, "num_classes": 4}},
        "distill": {"facts": DISTILLED},
    },
}


def page(numbers, heldout=True, made=render, pairs=1):
    image = np.zeros((8, 8, 1), np.uint8)
    photo = (image, "s1/<1>.pgm", 0.9)
    pairs = [Pair(7 + i, i, 0.0, "λ = 0", image, photo, photo if heldout else None) for i in range(pairs)]
    sheets = [Sheet("λ = 0, best", pairs)]
    best = {0.0: {"training": np.linspace(0, 1, 40)}, 5.0: {"training": np.linspace(0, 1, 40)}}
    return made(Page(numbers, FACTS, sheets, best))


def test_summary_has_the_answers_and_the_first_pairs_with_names_escaped():
    text = page(metrics(10), made=render_summary, pairs=9)
    assert "Are training images given back?" in text and "<strong>yes</strong>" in text
    assert text.count("generated image") == 6 and "#12" in text and "#13" not in text
    assert "s1/&lt;1&gt;.pgm" in text and "<html" not in text


def test_summary_withholds_the_answers_of_a_target_that_fails_the_sanity_check():
    text = page(metrics(40) | {"sanity": {"failed": ["its images are all alike"]}}, made=render_summary)
    assert "Are training images given back?" not in text


def test_page_is_one_file_with_everything_and_names_escaped():
    text = page(metrics(10))
    assert text.count("<script") == 1  # its own
    assert "&lt;b&gt;bad&lt;/b&gt;.jpg" in text
    assert "s1/&lt;1&gt;.pgm" in text
    assert text.count("<svg") == 4
    assert text.count("data:image/png;base64") == 2 * 3  # in its sheet, and in the first screen
    assert "http" not in text.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    ).replace("https://matplotlib.org", "")


@pytest.mark.given(
    kind=2,
    input="three photos that are not square",
    before="",
    now='the report: "Photos on which recipes differ: 3 not square (dataset.resize)"',
)
def test_page_says_how_photos_were_prepared_and_on_how_many_recipes_differ():
    text = page(metrics(10))
    assert "as diffusers, background black. Photos on which recipes differ: 3 not square (dataset.resize)" in text


def test_page_names_the_descriptors_variant_hash_and_preprocessing():
    facts = {"weights": "sscd_disc_mixup.torchvision.pt", "sha256": "0123456789abcdef" * 4}
    numbers = metrics(10) | {"descriptor": {"name": "sscd", **facts, "preprocessing": "small_edge_288"}}
    text = " ".join(page(numbers).split())
    assert "sscd: sscd_disc_mixup.torchvision.pt, SHA-256 0123456789ab, small_edge_288; score" in text


def test_page_says_when_x0_was_clipped_and_what_the_guide_was():
    text = page(metrics(10))
    assert "x̂₀ clipped: before guide" in text
    assert "resnet10_tiny, time-dependent" in text
    assert "exact guide: the ceiling" in text


def test_page_has_every_method_by_scale_and_its_best_against_random():
    text = page(metrics(10, guided_copies=20))
    table = text[text.index("Every method by λ") : text.index("The best λ of each")]
    rows = re.findall(r"<tr><td>([^<]*)</td><td>([^<]*)</td><td>(\d)</td>", table)
    assert rows == [("Random", "", "0"), ("SIDE", "a classifier of training photos", "5")]
    assert "50.0 [34.0, 66.0]" in table
    assert (
        "2.0 times" in text[text.index("The best λ of each") : text.index("Histograms: best score of every image</h2>")]
    )


def test_page_forecasts_what_more_images_would_find_and_names_the_model():
    text = " ".join(page(metrics(10, guided_copies=0)).split())
    section = text[text.index("Forecast: what more images would find") :]
    assert "10 of 20" in section and "0 of 20" in section
    assert "0.0 [0.0, 3.5]" in section  # 2 N, where nothing is found
    assert "negative binomial" in section and "from the first tenth, model" in section


def test_page_has_the_quality_of_every_scale_beside_its_copies():
    numbers = metrics(10)
    text = " ".join(page(numbers).split())
    section = text[text.index("Quality: how far images are from photos") :]
    assert "1.00 [0.40, 1.60]" in section and "p = 0.002" in section and "20 training photos themselves" in section
    assert "Significantly further from photos than λ = 0: λ = 5." in section
    numbers["quality"] |= {"against": "train", "yardstick": None}
    assert "training photos, as fewer than 3 are held out" in " ".join(page(numbers).split())
    numbers["scales"] = [row | {"quality": None} for row in numbers["scales"]]
    assert "Quality: how far" not in page(numbers | {"quality": None})


def test_a_guide_that_saw_training_photos_says_so_and_asks_for_its_control():
    numbers = metrics(10)
    text = " ".join(page(numbers).split())
    assert text.count("guide saw training photos") == 2  # Table 1, and the best λ against Random
    assert "beside a control (methods has &#39;exact_heldout&#39;), which this audit lacks" in text
    side = numbers["methods"][1]
    control = side | {"method": "exact_heldout", "labels": "heldout", "guide": "exact", "saw_training_photos": False}
    text = " ".join(page(numbers | {"methods": [*numbers["methods"], control]}).split())
    assert "held-out photos (control)" in text and "read it beside the control." in text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 damaged parts of"), (1, "1 damaged part of"), (2, "2 damaged parts")]
)
def test_page_says_how_many_parts_were_damaged(count, text):
    assert text in page(metrics(10) | {"damaged_parts": count})


def test_page_of_many_scales_has_every_row_and_few_histograms():
    numbers = metrics(10)
    first, second = numbers["scales"]
    numbers["scales"] = [first] + [second | {"scale": float(scale)} for scale in range(1, 51)]
    best = {row["scale"]: {"training": np.linspace(0, 1, 40)} for row in numbers["scales"]}
    text = render(Page(numbers, FACTS, [], best))
    assert all(f"<tr><td>{scale}</td>" in text for scale in range(1, 51))
    assert len(re.findall(r">λ = \d+</text>", text)) == 6
    assert "50 from 1 to 50" in text
    assert "At 6 of the 51 λ" in text


def test_histograms_are_of_the_ends_and_of_the_highest_ams():
    bands, row = [["high", 0.6, 1.0]], lambda ams: {"train": {"bands": {"high": {"ams": {"value": ams}}}}}
    numbers = {"bands": bands, "scales": [row(scale == 13) | {"scale": scale / 2} for scale in range(51)]}
    assert histogram_scales(numbers) == [0.0, 6.5, 10.0, 15.0, 20.0, 25.0]
    few = {"bands": bands, "scales": [row(0) | {"scale": scale} for scale in (0.0, 5.0)]}
    assert histogram_scales(few) == [0.0, 5.0]


def test_page_without_heldout_images_says_so():
    text = page(metrics(10, heldout=False), heldout=False)
    assert "nothing calibrates these scores" in text
    assert "held-out photo</span>" not in text


def test_the_one_verdict_heads_the_page_with_disagreements_before_reasons():
    said = {"word": "NOTHING FOUND", "sentence": "It withstood <these> attacks.", "disagreements": ["Known, but."]}
    text = page(metrics(0) | {"verdict": said | {"reasons": [{"text": "p = 0.500"}]}})
    order = ["NOTHING FOUND.</strong> It withstood &lt;these&gt; attacks.", "disagree", "<li>Known, but.</li>"]
    order += ["<li>p = 0.500</li>", "Are training images given back?", "<h2>"]
    assert sorted(order, key=text.index) == order


@pytest.mark.given(
    kind=3,
    input="a target that fails the sanity check",
    before='"no sign of copying"',
    now='"No verdict: the target does not make images of this kind", with the reasons',
)
def test_verdict_is_withheld_from_a_target_that_fails_the_sanity_check():
    failed = ["its denoising loss on photos is not finite, as if a weight were NaN", "its images are all alike"]
    numbers = metrics(40) | {"sanity": {"failed": failed}}
    first, second = verdicts(numbers)
    assert first == (
        "No verdict: the target does not make images of this kind. Its denoising loss on photos is not finite, as if a"
        " weight were NaN; its images are all alike."
    )
    assert second.startswith("Check that the weights")


@pytest.mark.given(
    kind=2,
    input="a recipe that the target denoises better than the configured one",
    before="",
    now="the verdict: `better with dataset.prepare=diffusers: its loss is 0.15 of a Wiener filter's, and 0.2 …`",
)
def test_recipe_that_the_target_denoises_better_is_in_the_head_and_in_a_table():
    loss = np.linspace(0.1, 0.3, 20)
    losses = {OWN: loss, "dataset.prepare=diffusers": loss - 0.05, "dataset.filter=box": loss + 0.1}
    recipes = compare_recipes(losses, dict.fromkeys(losses, 20))
    checked = {"failed": [], "num_images": 20, "loss": None, "kid_difference": None, "variation": (40.0, 42.0)}
    numbers = metrics(0) | {"sanity": checked | {"photos": "held-out", "recipes": recipes}}
    (sentence,) = (one for one in verdicts(numbers) if "denoises" in one)
    assert (
        "better with dataset.prepare=diffusers: its loss is 0.15 of a Wiener filter's, and 0.2 as configured"
        in sentence
    )
    text = page(numbers)
    assert "How training prepared the photos" in text
    assert text.index("dataset.prepare=diffusers</td>") < text.index(f"{OWN}</td>") < text.index("dataset.filter=box")
    assert "-0.050 [-0.050, -0.050]" in text
    numbers["sanity"]["failed"] = ["its images are all alike"]
    assert verdicts(numbers)[0].startswith("No verdict")
    assert verdicts(numbers)[-1] == sentence  # it may be why
    numbers["sanity"]["recipes"] = None
    assert "How training prepared the photos" not in page(numbers)


def test_verdict_names_copying_only_when_it_is_significant():
    assert "this target gives back training data (p &lt; 0.001)" not in verdicts(metrics(20))[1]  # text, not markup
    assert "this target gives back training data (p < 0.001)" in verdicts(metrics(40))[1]
    assert "no sign of copying (p = 1.000), and a share of" in verdicts(metrics(0, share=0.5))[1]


def test_a_no_that_could_not_have_been_a_yes_is_not_enough_images():
    """40 images call a share of copies of 22 % or more with 90 % power: six copies, of six photos."""
    said = verdicts(metrics(0))[1]
    assert "no sign" not in said
    assert "not enough images to say (p = 1.000). Copies matter from a share of 1.00 %, and a share of 22" in said
    assert "83 images in place of 40 would halve that share" in said
    text = page(metrics(0))
    assert '<span class="question">Are training images given back?</span>' in text
    assert "<strong>not enough data</strong>" in text


FOLDERS = {"classes": np.where(TRAIN, 0, -1)}  # training photos in class folders, held-out ones flat
PAIR = {"classes": np.where(POOL % SIZE == 0, 99, POOL)}  # one photo of each kind shares a class
SAME = "no training photo can change places with a held-out one: "


@pytest.mark.parametrize("copies", [0, 40])
@pytest.mark.parametrize(
    ("pool", "reason"),
    [
        pytest.param(
            FOLDERS,
            SAME + "they share no class",
            marks=pytest.mark.given(
                kind=1,
                input="training photos in class folders, held-out photos in none",
                before='"no sign of copying"',
                now='"cannot be tested, because no training photo can change places with a held-out one: …"',
            ),
        ),
        (PAIR, "only 2 of the 40 photos can change places, and the smallest p possible is 0.50"),
    ],
)
def test_verdict_that_no_relabelling_could_give_is_withheld_with_the_reason(pool, reason, copies):
    """Whether all images are copies or none: neither "no sign of copying" nor a p, in sentences and tables."""
    numbers = metrics(copies, **pool)
    assert numbers["null"]["reason"] == reason
    ams, nearest = verdicts(numbers)[:2]
    assert ams.endswith(f"the excess cannot be tested, because {reason}.")
    assert nearest.endswith(f"Whether this target gives back training data cannot be tested, because {reason}.")
    assert "p = " not in ams + nearest
    assert "no sign" not in nearest
    text = page(numbers)
    assert text.count("<td>–</td><td>–</td>") == 2  # null and p of the nearest photo, at both λ
    assert len(re.findall("</td><td>–</td></tr>", text)) == 4 + 2  # p of AMS in two bands, and the same again
    assert f"p is left out: whether an excess is chance cannot be tested, because {reason}." in text


@pytest.mark.given(
    kind=1,
    input="one held-out photo",
    before="no p below .05 is possible",
    now='"cannot be tested, because only 2 of the 2 photos can change places, and the smallest p possible is 0.50"',
)
def test_verdict_from_one_heldout_photo_is_withheld():
    """The nearest photo is the training photo for every image: by chance in half of all splits."""
    labels = relabellings(np.array([True, False]), np.zeros(2, int), 0)
    train, unseen = scores(np.full(40, 0.9), np.zeros(40)), scores(np.full(40, 0.2), np.zeros(40))
    row = {"scale": 0.0, "train": summarize(train, BANDS), "paired": summarize(train, BANDS)}
    row |= {"heldout": summarize(unseen, BANDS)} | calibrate(train, unseen, labels, BANDS)
    said = {"verdicts": answers(row, train, unseen, labels)}
    numbers = metrics(0) | plain({"scales": [row], "null": null_facts(labels)} | said)
    for sentence in verdicts(numbers)[:2]:
        assert sentence.endswith("only 2 of the 2 photos can change places, and the smallest p possible is 0.50.")


@pytest.mark.given(
    kind=1,
    input="copies of training photos whose class no held-out photo has",
    before="",
    now='"cannot be tested, because the photos that decide it have the same label in every relabelling"',
)
def test_verdict_is_withheld_where_only_photos_that_cannot_change_places_decide_it():
    """Ten training photos are of a class that no held-out photo has, and every image is a copy of these."""
    alone = np.where(POOL < 10, 1, 0)
    numbers = metrics(0, classes=alone)
    assert numbers["null"] == {"least_p": 1e-4, "relabelled": 30, "reason": None}
    labels = relabellings(TRAIN, alone, 0)
    train, unseen = scores(np.full(40, 0.9), POOL % 10), scores(np.full(40, 0.2), POOL % SIZE)
    row = numbers["scales"][0] | plain(calibrate(train, unseen, labels, BANDS))
    numbers["scales"][0] = row | {"paired": plain(summarize(train, BANDS))}
    numbers["verdicts"] = plain(answers(numbers["scales"][0], train, unseen, labels))
    for sentence in verdicts(numbers)[:2]:
        assert sentence.endswith(
            "cannot be tested, because the photos that decide it have the same label in every relabelling."
        )
    assert "Only 30 of the photos can change places" in page(numbers)


REPEATED = {
    "near_duplicate": 0.98,
    "pictures": 17,
    "repeated": [
        {"keep": "a.png", "delete": ["a (1).jpg", "<b>.jpg"], "images": 3},
        {"keep": "c.png", "delete": ["d.png"], "images": 0},
    ],
    "scales": [{"scale": 0.0, "photos": 4, "pictures": 2}],
}


@pytest.mark.given(
    kind=1,
    input="repeated pictures among the training photos",
    before="",
    now='a list of files to delete; "2 pictures are more than once among the 20 training photos"',
)
def test_repeated_pictures_are_listed_with_what_to_delete():
    numbers = metrics(10, pictures=np.maximum(np.arange(SIZE) - 3, 0)) | {"duplicates": REPEATED}
    (sentence,) = [said for said in verdicts(numbers) if "more than once" in said]
    assert sentence.startswith(
        "2 pictures are more than once among the 20 training photos (3 too many); generated images"
    )
    assert "images find 1 of them." in sentence
    text = page(numbers)
    assert re.search(r"a\.png</td>\s*<td>3</td>\s*<td>3</td>\s*<td>a \(1\)\.jpg, &lt;b&gt;\.jpg</td>", text)
    assert "compared one to one have no repeats, so that UMS counts different pictures" in text
    assert "different pictures" in text[text.index("Every method by λ") :]
    assert "they are 25.0 [" in verdicts(numbers)[0]
    assert re.search(r"% different training photos \(UMS\), 17.5 \[.*\] % different pictures\.", verdicts(numbers)[0])
    once = page(metrics(10))
    assert "Repeated pictures" not in once
    assert "ifferent pictures" not in once


def test_ordinary_verdict_and_tables_have_their_p():
    numbers = metrics(0)
    assert numbers["null"] == {"least_p": 1e-4, "relabelled": 40, "reason": None}
    assert verdicts(numbers)[0].endswith("the excess has p = 1.000.")
    text = page(numbers)
    assert "<td>–</td>" not in text
    assert "the smallest possible is 0.0001" in text
    assert "can change places" not in text


def test_verdict_of_copying_is_there_wherever_the_unguided_row_is():
    numbers = metrics(40)
    swapped = numbers | {"scales": numbers["scales"][::-1]}
    assert verdicts(swapped) == verdicts(numbers)
    assert "this target gives back training data" in verdicts(swapped)[1]
    guided = numbers | {"scales": numbers["scales"][1:]}
    assert not any("Unguided" in sentence for sentence in verdicts(guided))


def test_verdict_calls_equal_scales_not_significant_and_a_gain_better():
    equal = verdicts(metrics(20))[-1]
    assert equal.count("not significant") == 2
    gain = verdicts(metrics(2, guided_copies=40))[-1]
    assert "AMS at λ = 5 differs by" in gain
    assert "(better, p" in gain
    assert "20 odd-numbered" in gain


COST = {
    "num_images": 40,
    "random_images": 120,
    "surrogate_flops": 1e12,
    "guided_flops_per_image": 5e10,
    "unguided_flops_per_image": 2.5e10,
}


def at_equal_compute(numbers, guided, random):
    """With a sweep of 120 random images, of which `random` are hits, of as many photos as there are."""
    hits = [scores(np.where(np.arange(n) < count, 0.9, 0.2), np.arange(n) % SIZE) for n, count in guided + random]
    found = compare_at_equal_compute({5.0: hits[0]}, hits[1], BANDS[1])
    numbers["guided_against_random"]["high"]["equal_compute"] = plain(found | {"cost": COST})
    return numbers


def test_verdict_says_what_random_finds_at_equal_compute():
    """20 of 40 and 100 of 120: 10 and 50 odd ones, of which 10 in both."""
    same, equal = verdicts(at_equal_compute(metrics(2, guided_copies=20), [(40, 20)], [(120, 100)]))[-2:]
    assert "AMS at λ = 5 differs by 45.0 [" in same
    assert "10 times [" in same
    assert "Random's (better, p" in same
    assert "the surrogate and 40 images of SIDE take 3.0 · 10¹² FLOP, for which Random makes 120 images" in equal
    assert "(20 and 60 images)" in equal
    assert "at λ = 5, SIDE has 10 hits and Random 50, 0.20 times [0.1" in equal
    assert "Random's (worse, p < 0.001); at λ = 5, SIDE has 10 different photos and Random 10, 1.0 times [" in equal
    assert "(not significant, p = 1.000)" in equal


def test_verdict_without_enough_random_images_says_nothing_of_equal_compute():
    for equal in ({"equal_compute": None}, {}):
        numbers = metrics(20)
        numbers["guided_against_random"]["high"] |= equal
        assert "equal compute" not in " ".join(verdicts(numbers))
        assert "equal numbers of images, not equal compute" in page(numbers)
    text = page(at_equal_compute(metrics(20), [(40, 20)], [(120, 30)]))
    assert "at equal compute Random makes" in text
    assert "not equal compute" not in text


def test_verdict_has_no_ratio_to_nothing():
    some, none = verdicts(metrics(0, guided_copies=20))[-1], verdicts(metrics(0))[-1]
    assert "points, where Random has none (better, p" in some
    assert "points, where both have none (not significant, p = 1.000)" in none
    equal = verdicts(at_equal_compute(metrics(0), [(40, 20)], [(120, 0)]))[-1]
    assert "SIDE has 10 hits and Random 0, where Random has none (better, p" in equal


def test_best_scale_is_chosen_and_measured_on_different_images():
    """A λ that is good on even-numbered images only is chosen, and found to be no better."""
    random = scores(np.full(40, 0.2), np.arange(40) % SIZE)
    lucky = scores(np.where(np.arange(40) % 2 == 0, 0.9, 0.2), np.arange(40) % SIZE)
    steady = scores(np.where(np.arange(40) % 4 < 2, 0.9, 0.2), np.arange(40) % SIZE)
    result = compare_with_random({3.0: lucky, 7.0: steady}, random, BANDS[1])
    assert result["ams"]["scale"] == 3.0
    assert result["ams"]["difference"]["value"] == 0
    assert result["ams"]["p"] == 1


@pytest.mark.parametrize(("value", "text"), [(0.0123, "1.23"), (0.5, "50.0"), (0.0, "0.00"), (-0.02, "-2.00")])
def test_percentages_are_readable(value, text):
    assert percent(value) == text


def test_estimates_are_readable():
    assert interval({"value": 0.1, "low": 0.05, "high": 0.2}) == "10.0 [5.00, 20.0]"
    assert p_value(0.0123) == "p = 0.012"
    assert p_value(0.0001) == "p < 0.001"


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        ((2.0816, 1.599, 2.94), "2.1 times [1.6, 2.9]"),
        ((0.97, 0.801, 1.2), "0.97 times [0.80, 1.20]"),
        ((12.4, 3.2, 48.0), "12 times [3, 48]"),
        ((0.0, 0.0, 0.84), "0.00 times [0.00, 0.84]"),
    ],
)
def test_ratios_are_readable(ratio, text):
    assert times(dict(zip(("value", "low", "high"), ratio, strict=True))) == text


def test_operations_are_readable():
    assert operations(3.14e17) == "3.1 · 10¹⁷"
    assert operations(1e12) == "1.0 · 10¹²"


def test_guide_section_says_of_each_method_why_its_guide_may_not_guide():
    numbers = metrics(10)
    sound = " ".join(page(numbers).split())
    assert "may not guide" not in sound
    weak = {"thin_classes": 3, "agreement": {"0": 0.25, "500": 0.25}}
    numbers["methods"][1] = numbers["methods"][1] | {"distill": DISTILLED | weak}
    text = " ".join(page(numbers).split())
    section = text[text.index(">The guide<") :]
    assert "The guide may not guide: 3 of its 4 classes have one image or none" in section
    assert "gives 2 of 8 images their label, 25.0 % [3.2, 65.1], and chance is 25.0 %" in section
    numbers["methods"].append(numbers["methods"][1] | {"method": "side_clusters", "labels": "clusters"})
    assert "The guide of SIDE may not guide" in " ".join(page(numbers).split())
