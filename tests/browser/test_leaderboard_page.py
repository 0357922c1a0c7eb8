"""The page of a leaderboard in a real browser: sort, filter, state in the address, completions, phone, contrast.

Needs a Chromium on the machine (`CHROMIUM`, or one of its usual names on the path), else it is skipped.
"""

from __future__ import annotations

import os
import shutil

import pytest
from fixtures.leaderboards import fake_expected, fake_spec, write_leaderboard

from lmrl_bench.leaderboards.build import build

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
if CHROMIUM is None:
    pytest.skip("no Chromium on this machine (apt-get install chromium, or set CHROMIUM)",
                allow_module_level=True)  # fmt: skip
sync_api = pytest.importorskip("playwright.sync_api")

HOLES = {("docs-en-de", "a2c", 1): "diverged", ("docs-en-de", "nlpo", 0): None}
LABELS = ["zero-shot", "sft", "ppo", "a2c", "nlpo"]

CONTRASTS = """() => {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {  // the canvas knows every notation of a color
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = color;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const color = rgba(getComputedStyle(e).backgroundColor);
      if (color[3] === 255) return color;
    }
    return rgba(matchMedia("(prefers-color-scheme: dark)").matches ? "black" : "white");
  };
  document.querySelectorAll("details").forEach((e) => { e.open = true; });
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.textContent.trim() || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const ink = rgba(element instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [light(ink), light(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    found.push([ratio, texts.currentNode.textContent.trim().slice(0, 40), element.tagName]);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    results, out = tmp_path_factory.mktemp("results"), tmp_path_factory.mktemp("leaderboard")
    spec = fake_spec()
    write_leaderboard(results, spec, HOLES)
    build(spec, results, out, fake_expected)
    return (out / "index.html").as_uri()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, address):
    """Opens the page; afterwards nothing was logged and nothing was asked of a network."""
    complaints, requests, contexts = [], [], []

    def open_page(state="", *, javascript=True, **options):
        options = {"viewport": {"width": 1280, "height": 900}, **options}
        contexts.append(browser.new_context(java_script_enabled=javascript, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address + state)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert {url for url in requests if not url.startswith("data:")} == {
        *(url for url in requests if url.split("#")[0] == address)
    }


def entries(page, table="leaderboard"):
    return page.locator(f"#{table} tbody tr:visible th").all_inner_texts()


def test_sorting_and_its_place_in_the_address(visit):
    page = visit()
    best_first = entries(page)
    head = page.locator("#leaderboard thead th", has_text="imdb-continuation")
    button = head.get_by_role("button")
    column = head.evaluate("head => head.cellIndex")
    values = "found => found.map(cell => Number(cell.dataset.value))"

    def numbers():
        return page.locator(f"#leaderboard tbody td:nth-child({column + 1})").evaluate_all(values)

    button.focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert numbers() == sorted(numbers(), reverse=True)
    button.click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert numbers() == sorted(numbers())
    assert f"sort.leaderboard={column}.ascending" in page.url
    shown = entries(page)
    page.reload()
    assert entries(page) == shown
    assert head.get_attribute("aria-sort") == "ascending"
    button.click()
    assert head.get_attribute("aria-sort") is None
    assert entries(page) == best_first
    assert "sort" not in page.url


def test_what_was_not_measured_stays_last(visit):
    page = visit()
    head = page.locator("#leaderboard thead th", has_text="score")
    for _ in range(2):
        head.get_by_role("button").click()
        assert set(entries(page)[-2:]) == {"nlpo", "nlpo, filtered †"}


def test_the_filter_reaches_tables_plots_and_answers_and_survives_a_reload(visit):
    page = visit()
    page.get_by_label("Show entries").fill("PPO, sft")
    page.get_by_label("Show tasks").select_option("docs-en-de")
    for _ in range(2):
        assert entries(page) == ["ppo", "sft"]
        assert entries(page, "table-docs-en-de") == ["sft", "ppo"]
        assert page.locator("#imdb-continuation").is_hidden()
        plot = page.locator("#docs-en-de svg").first
        assert plot.locator("g[data-entry=ppo]").first.is_visible()
        assert not plot.locator("g[data-entry=a2c]").first.is_visible()
        assert page.locator(".completions:visible li:visible").count() == 2
        assert page.get_by_role("status").inner_text() == "2 of 6 entries shown"
        page.reload()
    page.get_by_role("button", name="Show everything").click()
    assert len(entries(page)) == 6
    assert "entries=" not in page.url


def test_answers_side_by_side_and_their_deep_link(visit):
    page = visit()
    shown = page.locator(".sample:visible")
    assert shown.count() == 1
    names = shown.locator("li h4").all_inner_texts()
    assert [name.split(" (cut")[0] for name in names] == LABELS
    assert "<script>alert(1)" in shown.locator("li p").first.inner_text()
    page.locator("select[name=task]").select_option("docs-en-de")
    page.get_by_role("button", name="Next").click()
    page.get_by_role("button", name="Next").click()
    page.get_by_role("button", name="Previous").click()
    assert shown.get_attribute("aria-label") == "docs-en-de, test-1"
    again = visit(page.url[page.url.index("#") :])
    assert again.locator(".sample:visible").get_attribute("aria-label") == "docs-en-de, test-1"
    assert again.evaluate("document.activeElement.id") == "completions"


def test_links_inside_the_page_keep_its_state(visit):
    page = visit("#entries=ppo")
    page.get_by_role("navigation").get_by_text("docs-en-de").click()
    assert "entries=ppo" in page.url
    assert page.evaluate("document.activeElement.id") == "docs-en-de"
    assert visit("#legend").evaluate("document.activeElement.id") == "legend"


def test_what_stands_above_the_tables(visit):
    page = visit()
    lead = page.locator(".lead").inner_text()
    assert lead.startswith("ppo leads over all 2 tasks: its score is ")
    assert "Without a rank, because runs are missing: nlpo." in lead
    assert "1 run failed or diverged and counts as the floor." in lead
    facts = page.locator(".facts").inner_text()
    assert "3 per entry. Provisional: a firm rank needs at least 5." in facts
    assert "with 80 % power" in facts
    assert "no proof of equality" in facts
    top = page.locator("#leaderboard").bounding_box()["y"]
    assert page.locator(".facts").bounding_box()["y"] < top < 900


@pytest.mark.parametrize("width", [320, 375, 768, 1280])
def test_the_page_never_scrolls_sideways(visit, width):
    page = visit(viewport={"width": width, "height": 800})
    page.evaluate("document.querySelectorAll('details').forEach((e) => { e.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = page.locator(".scroll", has=page.locator("#table-docs-en-de"))
    name = box.locator("tbody th").first
    before = name.bounding_box()["x"]
    box.evaluate("box => { box.scrollLeft = 400; }")
    assert name.bounding_box()["x"] == pytest.approx(before, abs=1.5)  # the names stay


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_can_be_read(visit, scheme):
    """WCAG AA: 4.5 to 1, in tables, plots and everything that opens."""
    page = visit(color_scheme=scheme)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
    found = page.evaluate(CONTRASTS)
    assert len(found) > 500
    assert [text for text in found if text[0] < 4.5] == []


def test_tables_are_named_and_headed(visit):
    page = visit()
    tables = page.locator("table")
    assert tables.count() == page.locator("table > caption").count() > 8
    bare = "cells => cells.filter((cell) => !cell.scope).length"
    assert page.locator("th").evaluate_all(bare) == 0
    assert page.locator("svg.plot").count() == page.locator("svg[role=img][aria-label]").count()
    boxes = page.locator(".scroll")
    assert boxes.count() == page.locator(".scroll[tabindex='0'][aria-label]").count()


def test_motion_can_be_switched_off(visit):
    style = "getComputedStyle(document.documentElement).scrollBehavior"
    assert visit().evaluate(style) == "smooth"
    assert visit(reduced_motion="reduce").evaluate(style) == "auto"


def test_without_javascript_everything_is_there(visit):
    page = visit(javascript=False)
    assert page.locator(".sample:visible").count() == 16
    assert page.locator("form:visible").count() == 0
    assert entries(page)[0] == "ppo"
