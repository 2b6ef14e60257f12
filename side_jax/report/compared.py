"""What a comparison of two audits shows: each function gives sentences for the head of the page, and blocks."""

import json
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pyarrow as pa

from side_jax.evidence.at_risk import SURE
from side_jax.evidence.before_after import Change, auroc_change, compare_images, share_change
from side_jax.evidence.intervals import Difference, Estimate
from side_jax.evidence.unpaired import difference_of_estimates
from side_jax.report.answers import answers
from side_jax.report.blocks import Block, Cell, Figure, Note, Picture, Table
from side_jax.report.figures import new_axes, svg
from side_jax.report.finished import Finished
from side_jax.report.page import withheld
from side_jax.report.redact import blurred
from side_jax.report.wording import SIGNIFICANT, band_range, decimals, interval, p_value, percent
from side_jax.runtime.files import differing

Said = tuple[list[str], list[Block]]
_SCORES = {
    "ams": "AMS, all training photos",
    "ums": "UMS, all training photos",
    "heldout": "AMS, held-out photos",
    "excess": "AMS excess over held-out",
    "nearest": "nearest photo is a training photo",
}
_HEADINGS = ["A", "B", "B − A", "p"]
_SHOWN = 24  # photos of one kind
_COLORS = ("#666666", "#d95f02")  # of A and of B


def configs(a: Finished, b: Finished) -> Iterator[Block]:
    """Fields of the config, versions and devices that differ."""
    parts = ("config", "versions", "commit", "devices")
    found = [
        [f"{part}.{field}" if part == "versions" else field or part, _value(one), _value(other)]
        for part in parts
        for field, one, other in differing(a.provenance[part], b.provenance[part])
    ]
    if found:
        yield Table(["field", "A", "B"], found)
    else:
        yield Note("Config, versions and devices are the same.")
    rows = []
    for kind, name in (("train", "training photos"), ("heldout", "held-out photos")):
        sets = [set(audit.photos[kind]["hashes"]) for audit in (a, b)]
        rows.append([name, *(str(len(audit.photos[kind]["hashes"])) for audit in (a, b)), str(len(sets[0] & sets[1]))])
    yield Table(["photos", "A", "B", "in both, by content"], rows)


def _value(value: object) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def questions(a: Finished, b: Finished) -> Said:
    """The verdicts of both; why one of them gives none stands at the head of the page."""
    given, said = [], []
    for name, audit in (("A", a), ("B", b)):
        reasons = withheld(audit.metrics)
        found = [] if reasons else answers(audit.metrics)
        given.append({one.question: [one.answer, one.numbers] for one in found})
        if reasons:
            said.append(f"{name}: {' '.join(reasons)}")
    asked = dict.fromkeys([*given[0], *given[1]])
    rows = [[one, *(answered.get(one, ["no answer"]) for answered in given)] for one in asked]
    return said, [Table(["question", "A", "B"], rows)] if rows else []


def images(a: Finished, b: Finished, titles: list[str]) -> Said:
    """Scores of the images of every λ in every band, with their differences."""
    paired, how = pairing(a, b)
    numbers: dict[str, int] = {}
    found: dict[str, list[tuple[str, dict[str, Change]]]] = {band[0]: [] for band in a.bands}
    counts = []
    for title in titles:
        sides = [audit.images(title, numbers) for audit in (a, b)]
        count = min(map(len, sides))
        counts.append([count, *map(len, sides)])
        for band in a.bands:
            changes = compare_images(sides[0].first(count), sides[1].first(count), band, paired=paired)
            found[band[0]].append((title, changes))
    top = a.bands[-1]
    said = [
        f"{title}: {_word(changes['ams'].difference)}. AMS ({top[0]}) {percent(changes['ams'].before.value)} % in A,"
        f" {percent(changes['ams'].after.value)} % in B: {_points(changes['ams'])}"
        + (
            f"; the excess over held-out photos changes by {_points(changes['excess'])}."
            if "excess" in changes
            else "."
        )
        for title, changes in found[top[0]]
    ]
    blocks: list[Block] = [_curves(a, titles, found)]
    for band in reversed(a.bands):
        rows = [
            [title, _SCORES[name], *_cells(change, interval)]
            for title, changes in found[band[0]]
            for name, change in changes.items()
            if name != "nearest" or band == top  # which is of no band
        ]
        blocks.append(Table(["", "score, %", *_HEADINGS], rows, band_range(band)))
    blocks.append(Note(f"{how} {_same_number(titles, counts)}{_READ}"))
    return said, blocks


_READ = (
    "Intervals are of 95 % and describe other images of the same models; B − A is in points. Each p is of one"
    " difference by itself: of twenty differences that are none, one has p < 0.05."
)


def pairing(a: Finished, b: Finished) -> tuple[bool, str]:
    """Whether image n of both audits begins from the same noise; and a sentence on it."""
    seeds = a.options["seed"], b.options["seed"]
    if a.metrics["samples"] or b.metrics["samples"]:
        return False, "Images were given, so the two sets are compared as independent ones."
    if seeds[0] != seeds[1]:
        return False, f"The seeds differ ({seeds[0]} and {seeds[1]}): the two sets are compared as independent ones."
    return (
        True,
        f"Image n of A and image n of B begin from the same noise (seed {seeds[0]}), and are compared in pairs.",
    )


def _same_number(titles: list[str], counts: list[list[int]]) -> str:
    fewer = [
        f"{title}, {one} and {other} images: the first {count}"
        for title, (count, one, other) in zip(titles, counts, strict=True)
        if one != other
    ]
    return f"As many images of both are compared ({'; '.join(fewer)}). " if fewer else ""


def _word(difference: Difference) -> str:
    if difference.p >= SIGNIFICANT:
        return "no difference shown"
    return "fewer copies in B" if difference.estimate.value < 0 else "more copies in B"


def _points(change: Change) -> str:
    return f"{interval(change.difference.estimate._asdict())} points, {p_value(change.difference.p)}"


def _cells(change: Change, write: Callable[[dict[str, float]], str]) -> list[str]:
    return [*(write(one._asdict()) for one in (*change[:2], change.difference.estimate)), p_value(change.difference.p)]


def _curves(a: Finished, titles: list[str], found: Mapping[str, list[tuple[str, dict[str, Change]]]]) -> Figure:
    """AMS of both by λ, or by set, in every band."""
    figure, axes = new_axes(len(a.bands), columns=3)
    for axis, band in zip(axes, a.bands, strict=True):
        for place, (side, color) in enumerate(zip(("before", "after"), _COLORS, strict=True)):
            estimates = [getattr(changes["ams"], side) for _, changes in found[band[0]]]
            value, low, high = (100 * np.array(part) for part in zip(*estimates, strict=True))
            at = np.arange(len(titles)) + 0.12 * (2 * place - 1)
            errors = np.maximum([value - low, high - value], 0)
            axis.errorbar(at, value, errors, fmt="o", color=color, markersize=5, capsize=3, label="AB"[place])
        axis.set(title=band_range(band), ylabel="AMS, %", xticks=range(len(titles)), xlim=(-0.5, len(titles) - 0.5))
        axis.set_xticklabels(titles)
        axis.set_ylim(bottom=0)
    axes[0].legend()
    return Figure(svg(figure), "AMS with all training photos")


def at_risk(a: Finished, b: Finished) -> Said:
    """Training photos that are at risk in one audit and not in the other."""
    listed = [{row["sha256"]: row for row in audit.rows("at_risk.csv")} for audit in (a, b)]
    sure = [{key for key, row in rows.items() if float(row["false_discovery_rate"]) <= SURE} for rows in listed]
    kinds = {
        "at risk in B, not in A": (sure[1] - sure[0]) & a.trained_on.keys(),
        "at risk in B, not trained on in A": sure[1] - sure[0] - a.trained_on.keys(),
        "no longer at risk in B": (sure[0] - sure[1]) & b.trained_on.keys(),
        "at risk in A, not trained on in B": sure[0] - sure[1] - b.trained_on.keys(),
        "at risk in both": sure[0] & sure[1],
    }
    counts = ", ".join(f"{len(found)} {kind}" for kind, found in kinds.items() if found)
    rate = f"at a false-discovery rate of {100 * SURE:g} %"
    said = f"Photos at risk {rate}: {len(sure[0])} in A, {len(sure[1])} in B{f' ({counts})' if counts else ''}."
    rows: list[list[Cell]] = []
    redact = any(audit.options["report"]["redact"] for audit in (a, b))
    for kind, found in kinds.items():
        order = sorted(
            found, key=lambda key: min(float(rows[key]["false_discovery_rate"]) for rows in listed if key in rows)
        )
        for content in order[:_SHOWN]:
            audit = b if content in b.trained_on else a
            name = next(rows[content]["id"] for rows in reversed(listed) if content in rows)
            rates = [_rate(side.get(content)) for side in listed]
            pixels = audit.pixels(content)
            rows.append([Picture(blurred(pixels) if redact else pixels, name), name, kind, *rates])
    if not rows:
        return [said], [Note(f"In neither audit is a photo at risk {rate}.")]
    headings = ["photo", "id", "", "A: false-discovery rate, images", "B: false-discovery rate, images"]
    note = Note(
        f"Photos are the same by content. At most {_SHOWN} of each kind are shown; at_risk.csv of both workdirs has"
        " all. A photo near the limit may cross it by chance: the scores above say whether B gives back less than A."
        " Of a photo that B was not trained on, B's audit says nothing."
    )
    return [said], [Table(headings, rows), note]


def _rate(row: Mapping[str, str] | None) -> str:
    return f"{float(row['false_discovery_rate']):.3f}, {row['images']}" if row else "not listed"


def photos(a: Finished, b: Finished) -> Said:
    """Recall and membership, of the photos that both audits asked about."""
    rows, notes = _recall(a, b)
    more, other = _membership(a, b)
    if not rows + more:
        return [], [Note(" ".join(notes + other))] if notes + other else []
    table = Table(["", "photos", *_HEADINGS], rows + more, "The same photos in both audits, pair by pair")
    return [], [table, *([Note(" ".join(notes + other))] if notes + other else [])]


def _recall(a: Finished, b: Finished) -> tuple[list[list[str]], list[str]]:
    sides = [{(row["id"], row["trained_on"]): row for row in audit.rows("recall.csv")} for audit in (a, b)]
    both = [key for key in sides[0] if key in sides[1]]
    if not both:
        return [], ["Recall is not compared: no photo was asked for in both audits."]
    asked = [{rows[key]["images"] for key in both} for rows in sides]
    if asked[0] != asked[1]:
        made = " and ".join("/".join(sorted(one)) for one in asked)
        return [], [f"Recall is not compared: photos were asked for with {made} images each."]
    member = np.array([trained == "True" for _, trained in both])
    drawn = [np.array([int(rows[key]["drawn"]) > 0 for key in both]) for rows in sides]
    rows = [
        [
            f"{name} that were drawn out, %",
            str(len(some)),
            *_cells(share_change(drawn[0][some], drawn[1][some], paired=True), interval),
        ]
        for name, some in (("training photos", np.flatnonzero(member)), ("held-out photos", np.flatnonzero(~member)))
        if len(some)
    ]
    score = [np.array([float(rows[key]["best_score"]) for key in both]) for rows in sides]
    if change := auroc_change(score[0], score[1], member):
        rows.append(["recall, AUROC of the best score", str(len(both)), *_cells(change, decimals)])
    return rows, []


def _membership(a: Finished, b: Finished) -> tuple[list[list[str]], list[str]]:
    tables = [audit.membership() for audit in (a, b)]
    if tables[0] is None or tables[1] is None:
        return [], ["Membership is not compared: it was not measured in both audits."]
    sides = [_reported(table) for table in tables if table]
    both = [key for key in sides[0] if key in sides[1]]
    member, rows = np.array([is_member for _, is_member in both], bool), []
    places = [np.array([side[key] for key in both], int) for side in sides]
    chosen = [{row["name"]: row["chosen"] for row in audit.metrics["detect"]["members"]["rows"]} for audit in (a, b)]
    for name in chosen[0]:
        if name in chosen[1] and both:
            columns = [f"{name} {choices[name]}" for choices in chosen]  # as the detect stage names them
            scores = [t[column].to_numpy()[at] for t, column, at in zip(tables, columns, places, strict=True) if t]
            if change := auroc_change(scores[0], scores[1], member):
                label = (
                    name if chosen[0][name] == chosen[1][name] else f"{name} (A {chosen[0][name]}; B {chosen[1][name]})"
                )
                rows.append([f"membership, AUROC of {label}", str(len(both)), *_cells(change, decimals)])
    return rows, [] if rows else ["Membership is not compared: too few photos are in both audits."]


def _reported(table: pa.Table) -> dict[tuple[str, bool], int]:
    """Photo and whether it was trained on -> row, of the half of the photos that no detector was chosen on."""
    keys = zip(table["id"].to_pylist(), table["member"].to_pylist(), table["number"].to_pylist(), strict=True)
    return {(name, member): i for i, (name, member, number) in enumerate(keys) if number % 2 == 1}


def quality(a: Finished, b: Finished, titles: list[str]) -> Said:
    """KID and Fréchet distance of every λ."""
    measured = [audit.metrics["quality"] for audit in (a, b)]
    if not all(measured):
        return [], []
    if measured[0]["against"] != measured[1]["against"]:
        return [], [Note("Quality is not compared: it is against other photos.")]
    sides = [dict(zip(audit.scales(), audit.metrics["scales"], strict=True)) for audit in (a, b)]
    rows = []
    for title in titles:
        found = [side[title]["quality"] for side in sides]
        if all(found):
            one, other = (Estimate(**each["kid"]) for each in found)
            rows.append([title, "KID", *_cells(Change(one, other, difference_of_estimates(other, one)), decimals)])
            if found[0]["num_images"] == found[1]["num_images"]:
                values = [each["frechet"] for each in found]
                values.append(values[1] - values[0])
                rows.append([title, "Fréchet distance", *(f"{value:.3f}" for value in values), "–"])
    note = (
        "Distances to photos in the descriptor's space; lower is better. The two KID are compared as independent,"
        " though their photos and noise may be the same: interval and p are wider than necessary."
    )
    return [], [Table(["", "distance", *_HEADINGS], rows), Note(note)] if rows else []
