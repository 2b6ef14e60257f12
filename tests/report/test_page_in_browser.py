"""The page in Chromium, at the width of a desk and of a phone, in both themes. Screenshots: build/screenshots."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from etils import epath

from side_jax.report.blocks import Pair, Sheet
from side_jax.report.marks import Mark, read_marks
from side_jax.report.page import render
from side_jax.report.section import FoundPhoto, Page
from tests.report.test_page import FACTS, metrics

pytestmark = pytest.mark.slow
SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
ROW = {
    "sha256": "0" * 64,
    "class": "s1",
    "false_discovery_rate": 0.01,
    "images": 3,
    "found_by": "random λ=0: 3",
    "best_score": 0.9,
    "best_by": "random λ=0",
    "recall_score": 0.95,
    "recall_drawn": "1 of 4",
    "recall_rank": 1,
    "picture": 0,
    "copies": 1,
    "advice": "remove",
    "found": [{"by": "random λ=0", "index": index, "score": 0.9} for index in range(3)],
}


def full_page():
    """Pairs of both bands, two λ and three classes; three photos at risk."""
    rng = np.random.default_rng(0)
    picture = lambda: rng.integers(0, 256, (32, 32, 1), np.uint8)
    pairs = [
        Pair(
            number=index + 40 * (scale > 0),
            index=index,
            scale=scale,
            title=f"λ = {scale:g}",
            generated=picture(),
            train=(picture(), f"s{index % 3}/<b>{index}</b>\n☃.png", 0.9 - index / 20),
            heldout=(picture(), "s9/1.png", 0.3),
            label=f"s{index % 3}",
            band="high" if index < 6 else "mid",
            more=index % 2,
        )
        for scale in (0.0, 5.0)
        for index in range(8)
    ]
    sheets = [Sheet("λ = 0, best", pairs[:8]), Sheet("λ = 5, randomly chosen", pairs[8:], drawn=True)]
    numbers = metrics(10, guided_copies=20)
    rows = [ROW | {"id": f"s1/{i}.png", "false_discovery_rate": rate} for i, rate in enumerate((0.2, 0.01, 0.05))]
    numbers["at_risk"] = numbers["at_risk"] | {"listed": 3, "rows": rows}
    found = [FoundPhoto(picture(), [picture()] * 2) for _ in rows]
    best = {0.0: {"training": np.linspace(0, 1, 40)}, 5.0: {"training": np.linspace(0, 1, 40)}}
    return render(Page(numbers, FACTS, sheets, best, at_risk=found))


@pytest.fixture(scope="module")
def chromium():
    sync = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e '.[browser]'")
    program = shutil.which("chromium")
    assert program, "needs chromium: apt-get install chromium"
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium, tmp_path):
    """Opens a page; at the end nothing has left it, and its console has no error."""
    contexts, said = [], []

    def open_page(text=None, width=1280, height=800, theme="light", scripted=True):
        file = tmp_path / "report.html"
        file.write_text(full_page() if text is None else text, encoding="utf-8")
        context = chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme=theme, java_script_enabled=scripted
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        own = file.as_uri()
        page.on(
            "request",
            lambda request: said.append(request.url) if not request.url.startswith((own, "data:", "blob:")) else None,
        )
        page.goto(own)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


def visible(page):
    return page.locator("#sheets .pair:visible")


def test_filters_leave_the_pairs_of_a_band_scale_class_and_photo(opened):
    page = opened()
    assert visible(page).count() == 16
    page.get_by_label("Band").select_option("mid")
    assert visible(page).count() == 4
    page.get_by_label("Set", exact=True).select_option("λ = 5")
    assert visible(page).count() == 2
    page.get_by_label("Band").select_option("")
    page.get_by_label("Class").select_option("s0")
    assert {one.get_attribute("data-class") for one in visible(page).all()} == {"s0"}
    page.get_by_label("Class").select_option("")
    page.get_by_label("Training photo", exact=True).fill("<B>7")
    assert visible(page).count() == 1
    assert page.get_by_role("status").inner_text() == "1 of 16 pairs, 0 marked"


def test_marks_survive_a_reload_and_are_read_back_from_their_file(opened, tmp_path):
    page = opened()
    page.get_by_role("button", name="copy: image 1 of λ = 0", exact=True).click()
    page.get_by_role("button", name="no copy: image 2 of λ = 5").click()
    page.get_by_role("button", name="no copy: image 3 of λ = 5").click()
    page.get_by_role("button", name="no copy: image 3 of λ = 5").click()  # a second click takes a mark back
    page.reload()
    assert page.get_by_role("status").inner_text() == "16 of 16 pairs, 2 marked"
    assert page.locator(".pair.copy").count() == 1
    with page.expect_download() as download:
        page.get_by_role("button", name="Save marks as CSV").click()
    download.value.save_as(tmp_path / "marks.csv")
    marks = read_marks(epath.Path(tmp_path / "marks.csv"), FACTS["run"])
    assert sorted(marks, key=lambda mark: mark.index) == [Mark(0.0, 1, True), Mark(5.0, 2, False)]


def test_a_click_on_a_heading_sorts_by_its_numbers(opened):
    page = opened()
    table = page.locator("#at_risk table").last
    ids = lambda: table.locator("tbody tr td:nth-child(2)").all_inner_texts()
    assert ids() == ["s1/0.png", "s1/1.png", "s1/2.png"]
    heading = table.get_by_role("button", name="false-discovery rate")
    heading.click()
    assert ids() == ["s1/1.png", "s1/2.png", "s1/0.png"]
    assert table.locator("th[aria-sort=ascending]").count() == 1
    heading.focus()
    page.keyboard.press("Enter")
    assert ids() == ["s1/0.png", "s1/2.png", "s1/1.png"]


def test_a_click_on_a_photo_at_risk_shows_the_images_that_found_it(opened):
    page = opened()
    row = page.locator("#at_risk table").last.locator("tbody tr").first
    assert row.locator(".found img").first.is_hidden()
    row.locator("td > img").click()
    assert row.locator(".found img:visible").count() == 2
    assert "random λ=0 #2: 0.900" in row.inner_text()


def test_page_reads_without_scripts(opened):
    page = opened(scripted=False)
    assert visible(page).count() == 16
    row = page.locator("#at_risk table").last.locator("tbody tr").first
    row.locator("summary").click()
    assert row.locator(".found img:visible").count() == 2
    assert page.get_by_role("button").count() == 0


def test_the_first_screen_has_answers_pictures_what_to_do_and_what_is_not_said(opened):
    page = opened()
    for what in (".answers", ".nearest", ".next"):
        box = page.locator(what).bounding_box()
        assert box["y"] + box["height"] <= 800, what


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_is_cut_off_and_axe_finds_nothing_serious(opened, width, theme, request):
    from axe_playwright_python.sync_playwright import Axe

    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("full", None),
        ("smoke", (request.getfixturevalue("finished_smoke") / "report.html").read_text()),
    ):
        page = opened(text, width=width, theme=theme)
        page.screenshot(path=SCREENSHOTS / f"{name}-{width}-{theme}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        cut = page.evaluate(
            "[...document.querySelectorAll('.scroll, .drawing')].filter(e => e.scrollWidth > e.clientWidth + 1)"
            ".map(e => e.getAttribute('aria-label'))"
        )
        assert cut == []
        assert page.evaluate("[...document.images].filter(i => !i.naturalWidth).length") == 0
        found = Axe().run(page).response["violations"]
        serious = [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]
        assert serious == []


def test_theme_is_chosen_by_a_button_and_kept(opened):
    page = opened(theme="light")
    page.get_by_role("button", name="Dark theme").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 22, 26)"
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 22, 26)"


def test_print_hides_tools_and_opens_what_is_folded(opened):
    page = opened()
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator(".tools").is_hidden()
    assert page.locator("#at_risk .found img:visible").count() == 6
    assert len(page.pdf()) > 10_000
