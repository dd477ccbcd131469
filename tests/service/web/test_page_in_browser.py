"""The page in a real browser, from upload to key slice: by mouse, by keyboard, on a phone; nothing asked of others."""

import io
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from PIL import Image

from voco2d.inference.predictor import Predictor
from voco2d.io.volume import Volume
from voco2d.service.web.args import ServeArgs, UploadLimits
from voco2d.service.web.evidence import Explained

from .conftest import PATIENT, TOKEN, Bench, dicom_zip, explain_by_brightness

CHROMIUM = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
WAIT_MS = 300_000
"""Drawing without a graphics card takes its time on a busy machine."""
KEY = "7 of 24, from above"

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the path: apt-get install chromium"),
]


class Served:
    """A service that listens, and grades one job a `release`."""

    def __init__(self, state: Path) -> None:
        self.go = threading.Event()
        args = ServeArgs(state, requests_per_minute=60_000, burst=10_000, limits=UploadLimits(free_bytes=0))
        self.bench = Bench(args, self.explain)
        config = uvicorn.Config(self.bench.app, port=0, log_config=None, lifespan="off", ws="none")
        self.server = uvicorn.Server(config)
        self.ending = threading.Event()
        self.threads = [threading.Thread(target=target) for target in (self.server.run, self.work)]
        for thread in self.threads:
            thread.start()
        until = time.monotonic() + 60
        while not self.server.started:
            assert time.monotonic() < until, "the service did not start"
            time.sleep(0.05)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"

    def explain(self, predictor: Predictor, volume: Volume, begin: Callable[[], None]) -> Explained:
        def begin_later() -> None:
            begin()
            assert self.go.wait(600)

        return explain_by_brightness(predictor, volume, begin_later)

    def work(self) -> None:
        while not self.ending.is_set():
            if not self.bench.worker.step():
                time.sleep(0.05)

    def close(self) -> None:
        self.server.should_exit = True
        self.ending.set()
        self.go.set()
        for thread in self.threads:
            thread.join()
        self.bench.close()


class Visit:
    """An open page, and what went wrong or out while it was open."""

    def __init__(self, page, address: str) -> None:
        self.page, self.address = page, address
        self.said: list[str] = []
        self.asked: list[str] = []
        page.set_default_timeout(WAIT_MS)
        page.on("console", lambda message: message.type == "error" and self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))

    def show(self) -> None:
        """Open the result of the first job, and wait until its scan is drawn."""
        self.page.goto(f"{self.address}/#token={TOKEN}")
        self.page.get_by_role("button", name=re.compile("^Show")).first.click()
        self.page.locator("#canvas[data-shown]").wait_for()

    def choose(self, target: str) -> None:
        self.page.locator(f"[data-target={target}].target").click()
        self.page.locator(f"#canvas[data-target={target}]").wait_for()

    def slice(self) -> str:
        return self.page.locator("#slice-text").inner_text()

    def coloured(self) -> np.ndarray:
        """(n, 2) places of the overlay's colour on the canvas, as shares of its height and width."""
        picture = np.asarray(Image.open(io.BytesIO(self.page.locator("#canvas").screenshot())).convert("RGB")).astype(
            int
        )
        return np.argwhere(picture[..., 0] > picture[..., 2] + 60) / picture.shape[:2]

    def width_needed(self) -> int:
        return self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("served"))
    yield served
    served.close()


@pytest.fixture(scope="module")
def browser() -> Iterator:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the extra dev")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser, served: Served) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    visit = Visit(context.new_page(), served.address)
    yield visit
    context.close()
    assert not [text for text in visit.said if "401" not in text]
    assert all(url.startswith((served.address, "blob:", "data:")) for url in visit.asked)


@pytest.mark.timeout(1200)
def test_a_reader_comes_from_upload_by_progress_and_result_to_the_key_slice(
    visit: Visit, served: Served, tmp_path: Path
) -> None:
    page = visit.page
    page.goto(visit.address)
    page.locator("#token").fill("not-the-token-0123456789")
    page.keyboard.press("Enter")
    page.get_by_text("The token is not valid.").wait_for()
    page.locator("#token").fill(TOKEN)
    page.get_by_role("button", name="Go on").click()

    page.get_by_text("No job yet.").wait_for()
    page.locator("#scan").set_input_files(
        {"name": f"{PATIENT}.zip", "mimeType": "application/zip", "buffer": dicom_zip(note=b"x")}
    )
    page.get_by_role("button", name="Upload").click()
    page.get_by_text("explaining the series: 60 %").wait_for()
    assert page.locator("#job-list progress").evaluate("(bar) => bar.value") == 0.6
    served.go.set()
    page.locator("#canvas[data-shown]").wait_for()
    assert page.locator("#status").inner_text().startswith("Assessed. Any injury: ")
    assert visit.slice() == "13 of 24, from above"
    assert re.search(r"spleen\s+\d+\.\d%", page.locator("[data-target=spleen].target").inner_text())
    assert "no key slice" in page.locator("[data-target=bowel].target").inner_text()

    visit.choose("spleen")
    assert visit.slice() == KEY
    assert page.locator("#slice").input_value() == "7"
    assert page.locator("[data-target=spleen].target").get_attribute("aria-pressed") == "true"
    assert page.locator("#scores polyline").is_visible()
    page.wait_for_timeout(500)
    marked = visit.coloured()
    assert len(marked) > 50
    assert page.locator("#canvas").bounding_box()["height"] < 650, "NiiVue let the canvas and its box grow"
    assert (marked.mean(axis=0) < 0.5).all(), (
        "the bright square lies to the front and the patient's right: left in the picture"
    )
    page.locator("#overlay").fill("0")
    page.wait_for_timeout(500)
    assert len(visit.coloured()) == 0

    page.locator("#images button").last.click()
    page.locator("#canvas[data-target=liver]").wait_for()
    assert visit.slice() != KEY
    assert not page.locator("#overlay-row").is_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save result as JSON").click()
    download.value.save_as(tmp_path / "result.json")
    assert '"key_slices"' in (tmp_path / "result.json").read_text()
    assert PATIENT not in download.value.suggested_filename + page.inner_text("body")


@pytest.mark.timeout(1200)
def test_all_of_it_is_reached_and_worked_by_keyboard(visit: Visit) -> None:
    visit.show()
    page = visit.page
    assert page.evaluate("location.href") == f"{visit.address}/"
    page.locator("#upload-title").evaluate("(title) => { title.tabIndex = -1; title.focus(); }")
    reached: list[str] = []
    for _ in range(40):
        page.keyboard.press("Tab")
        name = page.evaluate(
            "(({ id, dataset, tagName }) => id || Object.keys(dataset)[0] || tagName)(document.activeElement)"
        )
        if name == "BODY":
            break
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", name
        reached.append(name)
    order = ["scan", "send", "job", "target", "canvas", "slice", "window", "planes", "save", "delete"]
    assert [name for name in dict.fromkeys(reached) if name in order] == order

    page.locator("[data-target=bowel].target").focus()
    for _ in range(4):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.locator("#canvas[data-target=spleen]").wait_for()
    assert visit.slice() == KEY
    page.locator("#canvas").focus()
    for key, place in (
        ("ArrowDown", 8),
        ("ArrowUp", 7),
        ("PageDown", 17),
        ("Home", 1),
        ("End", 24),
        ("ArrowRight", 24),
    ):
        page.keyboard.press(key)
        assert visit.slice() == f"{place} of 24, from above", key
    page.locator("#slice").focus()
    page.keyboard.press("ArrowLeft")
    assert visit.slice() == "23 of 24, from above"
    assert page.locator("#slice").get_attribute("aria-valuetext") == "23 of 24, from above"


@pytest.mark.timeout(1200)
def test_on_a_phone_nothing_is_cut_off(visit: Visit) -> None:
    visit.page.set_viewport_size({"width": 390, "height": 844})
    visit.show()
    visit.choose("spleen")
    assert visit.width_needed() == 0
    assert visit.slice() == KEY
    for selector in ("#canvas", "#slice", "[data-target=spleen].target", "#images img", "#delete"):
        box = visit.page.locator(selector).first.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390, selector
        assert box["height"] >= 32, selector
    assert visit.page.locator("#canvas").bounding_box()["width"] > 300
    assert visit.page.locator("#canvas").bounding_box()["height"] < 500


@pytest.mark.timeout(1200)
def test_the_api_has_a_page_that_asks_nothing_of_others(visit: Visit) -> None:
    visit.page.goto(f"{visit.address}/docs")
    visit.page.get_by_text("Upload a scan").first.wait_for()
    assert visit.page.locator(".opblock").count() == 7


@pytest.mark.timeout(1200)
def test_a_job_is_deleted_from_its_result(visit: Visit, served: Served) -> None:
    visit.show()
    visit.page.get_by_role("button", name="Delete this job").click()
    visit.page.get_by_text("No job yet.").wait_for()
    assert not visit.page.locator("#result").is_visible()
    assert list(served.bench.args.jobs.iterdir()) == []
