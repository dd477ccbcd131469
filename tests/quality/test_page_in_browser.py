"""The page in a real browser: sorting, filters, export, pictures and the keyboard, with nothing asked of others."""

import csv
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from voco2d.io.source import Rejection
from voco2d.quality.measure import measure
from voco2d.quality.page import render_page

CHROMIUM = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--disable-gpu"]
SERIES = ("b-second", "a-first", "c-third")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the path: apt-get install chromium"),
]


def rows(body) -> pd.DataFrame:
    """Three measured bodies: one whole, one mirrored, one of a few thick slices with a gap."""
    made = [body(), body(mirrored=True), body(notes=("gap: 1 missing",))]
    lines = []
    for index, (key, (volume, prepared)) in enumerate(zip(SERIES, made, strict=True)):
        line = {
            "key": key,
            "patient_id": f"patient-{index}",
            "series_id": f"1.2.{index}",
            "n_slices": [96, 120, 40][index],
            "spacing_z_mm": 5.0,
            "coverage_mm": [480.0, 600.0, 200.0][index],
            "notes": "; ".join((*volume.notes, *prepared.notes)),
        }
        lines.append({**line, **measure(replace(volume, series_id=key), prepared)})
    return pd.DataFrame(lines)


class Visit:
    """An open page, and what went wrong or out while it was open."""

    def __init__(self, page) -> None:
        self.page = page
        self.said: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))

    def keys(self) -> list[str]:
        return self.page.locator("#body .more").all_inner_texts()

    def count(self) -> str:
        return self.page.locator("#shown").inner_text()


@pytest.fixture(scope="module")
def browser() -> Iterator:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the extra dev")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def folder(tmp_path, body) -> Path:
    (tmp_path / "thumbnails").mkdir()
    for key in SERIES:
        grey = np.random.default_rng(0).integers(0, 255, (112, 376), dtype=np.uint8)
        Image.fromarray(grey).save(tmp_path / "thumbnails" / f"{key}.jpg")
    page = render_page(rows(body), [Rejection("/data/a.dcm", "modality MR, not CT")])
    (tmp_path / "quality.html").write_text(page, encoding="utf-8")
    return tmp_path


@pytest.fixture
def visit(browser, folder) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 1300, "height": 900})
    visit = Visit(context.new_page())
    visit.page.goto((folder / "quality.html").as_uri())
    yield visit
    context.close()
    assert not visit.said
    assert all(url.startswith(folder.as_uri()) for url in visit.asked if not url.startswith("blob:"))


def test_a_click_on_a_column_sorts_and_a_second_one_turns_the_order(visit):
    assert visit.keys() == ["b-second", "a-first", "c-third"]
    assert visit.count() == "1 to 3 of 3 series"
    slices = visit.page.locator("[data-sort=n_slices]")
    slices.click()
    assert visit.keys() == ["c-third", "b-second", "a-first"]
    assert visit.page.locator("th[aria-sort=ascending]").inner_text() == "slices ▴"
    slices.click()
    assert visit.keys() == ["a-first", "b-second", "c-third"]
    visit.page.locator("[data-sort=key]").click()
    assert visit.keys() == ["a-first", "b-second", "c-third"]


def test_flags_filter_to_only_then_out_then_not_at_all(visit):
    card = visit.page.locator("[data-flag=mirrored_suspect]")
    card.click()
    assert visit.keys() == ["a-first"]
    assert visit.count() == "1 to 1 of 1 series (of 3 in all)"
    assert card.get_attribute("aria-pressed") == "true"
    card.click()
    assert visit.keys() == ["b-second", "c-third"]
    card.click()
    assert visit.count() == "1 to 3 of 3 series"


def test_text_and_ranges_filter_and_reset_takes_all_away(visit):
    visit.page.locator("#search").fill("PATIENT-2 gap")
    visit.page.get_by_text("1 to 1 of 1 series (of 3 in all)").wait_for()
    assert visit.keys() == ["c-third"]
    visit.page.locator("#reset").click()
    visit.page.get_by_label("slices from").fill("100")
    assert visit.keys() == ["a-first"]
    visit.page.get_by_label("slices from").fill("1000")
    assert visit.count() == "0 series (of 3 in all)"
    assert "No series fits" in visit.page.locator("#body").inner_text()
    visit.page.locator("#reset").click()
    assert len(visit.keys()) == 3


def test_csv_holds_the_filtered_rows_in_their_order(visit, tmp_path):
    visit.page.locator("[data-flag=mirrored_suspect]").click(click_count=2)
    visit.page.locator("[data-sort=n_slices]").click()
    with visit.page.expect_download() as download:
        visit.page.locator("#download").click()
    assert download.value.suggested_filename == "quality.csv"
    download.value.save_as(tmp_path / "saved.csv")
    with (tmp_path / "saved.csv").open(newline="") as file:
        saved = list(csv.DictReader(file))
    assert [row["key"] for row in saved] == ["c-third", "b-second"]
    assert saved[0]["flags"] == "gaps"
    assert float(saved[1]["coverage_mm"]) == 480


def test_pictures_are_loaded_and_a_row_opens_to_all_its_columns(visit):
    visit.page.locator("#body").scroll_into_view_if_needed()
    decoded = "(images) => Promise.all(images.map((image) => image.decode().then(() => image.naturalWidth)))"
    assert visit.page.locator("#body img").evaluate_all(decoded) == [376, 376, 376]
    assert all(image.is_visible() for image in visit.page.locator("#body img").all())
    visit.page.get_by_role("button", name="a-first").click()
    assert "body_width_mm" in visit.page.locator(".detail").inner_text()


def test_every_control_is_reached_and_worked_by_keyboard(visit):
    reached: dict[str, int] = {}
    for place in range(80):
        visit.page.keyboard.press("Tab")
        name = visit.page.evaluate(
            "(({ id, dataset, classList, tagName }) => id || Object.values(dataset)[0] || classList[0] || tagName)"
            "(document.activeElement)"
        )
        if name == "BODY":
            break
        reached.setdefault(name, place)
    wanted = ["mirrored_suspect", "search", "reset", "download", "page-size", "table", "patient_id", "n_slices"]
    assert [name for name in wanted if name not in reached] == []
    assert reached["mirrored_suspect"] < reached["search"] < reached["n_slices"]

    for selector, done in (("[data-sort=n_slices]", "c-third"), ("[data-sort=key]", "a-first")):
        visit.page.locator(selector).focus()
        visit.page.keyboard.press("Enter")
        assert visit.keys()[0] == done
        assert visit.page.evaluate("document.activeElement.matches(String.raw`" + selector + "`)"), "the focus was lost"
    visit.page.get_by_role("button", name="c-third").focus()
    visit.page.keyboard.press("Space")
    assert visit.page.evaluate("document.activeElement.getAttribute('aria-expanded')") == "true"
    outline = visit.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


@pytest.mark.parametrize("width", [1300, 400])
def test_nothing_is_cut_off(visit, width):
    visit.page.set_viewport_size({"width": width, "height": 900})
    widths = "(([own, seen]) => own <= seen)([node.scrollWidth, node.clientWidth])"
    assert visit.page.evaluate(f"((node) => {widths})(document.documentElement)"), "the page scrolls sideways"
    assert visit.page.evaluate(f"((node) => {widths})(document.querySelector('.table'))"), "the table is cut off"


def test_one_series_has_no_made_up_axes_and_no_plural(browser, tmp_path, body):
    (tmp_path / "quality.html").write_text(render_page(rows(body).head(1), [], thumbnails=""), encoding="utf-8")
    page = browser.new_page()
    page.goto((tmp_path / "quality.html").as_uri())
    header = re.sub(r"\s+", " ", page.locator("header").inner_text())
    assert "1 series 1 patient 96 slices" in header
    assert page.locator("figure svg").count() == 0
    assert page.locator("figure .same").first.inner_text() == "96 in the only series"
    page.close()
