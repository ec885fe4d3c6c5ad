"""The report in a real browser: what a person sees after moving the slider and choosing a sample.

Without Chromium and its driver these tests are skipped; with CVXNN_REQUIRE_BROWSER=1 that is a failure.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cvxnn import ConvexNetClassifier, ConvexNetRegressor, report
from cvxnn.reporting import Report
from cvxnn.reporting.numerals import number, percent
from cvxnn.reporting.payload import payload
from cvxnn.reporting.wording import point_words

NASTY = "</script><img src=x onerror=window.broken=1>"
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
#: How text and ground of visible elements stand out from each other, by the formula of WCAG 2.1.
CONTRAST = """
const channel = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const light = (c) => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
const read = (words) => words.match(/[\\d.]+/g).map(Number);
const ground = (node) => {
  for (; node; node = node.parentElement) {
    const colour = read(getComputedStyle(node).backgroundColor);
    if (colour.length < 4 || colour[3] > 0) return colour;
  }
  return [255, 255, 255];
};
const kinds = "p, li, dt, dd, th, td, a, h1, h2, h3, label, summary, caption, span, b, select";
const found = [];
for (const node of document.querySelectorAll(kinds)) {
  if (!node.textContent.trim() || !node.getClientRects().length || node.closest("svg")) continue;
  const pair = [light(read(getComputedStyle(node).color)), light(ground(node))].sort((x, y) => x - y);
  found.push([(pair[1] + 0.05) / (pair[0] + 0.05), node.tagName + " " + node.textContent.slice(0, 40)]);
}
return found;
"""


def missing() -> str:
    """What a browser test lacks here, or nothing."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed: pip install 'cvxnn[test]'"
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            return f"there is no {program} on the PATH: apt-get install chromium chromium-driver"
    return ""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser without a window."""
    if missing():
        (pytest.fail if os.environ.get("CVXNN_REQUIRE_BROWSER") == "1" else pytest.skip)(missing())
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(
        options=options, service=Service(executable_path=shutil.which("chromedriver"))
    )
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """A report on three classes and two columns, with names that want to break out of the page."""
    rng = np.random.default_rng(0)
    codes = np.arange(45) % 3
    X = rng.normal(size=(45, 2)) + np.array([[2.0, 0.0], [0.0, 2.0], [-2.0, -2.0]])[codes]
    y = np.array(["left & right", NASTY, "up"])[codes]
    file = tmp_path_factory.mktemp("browser") / "classes.html"
    model = ConvexNetClassifier(0.05, architecture="gated_relu", patterns=12).fit(X, y)
    return file, report(model, X, y, file, feature_names=[NASTY, "north"], n_alphas=4, title=NASTY)


@pytest.fixture(scope="module")
def curve(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """A report on a regression with one input."""
    x = np.linspace(0.0, 10.0, 40)
    file = tmp_path_factory.mktemp("browser") / "curve.html"
    model = ConvexNetRegressor(0.02).fit(x[:, None], np.sin(x))
    return file, report(model, x[:, None], np.sin(x), file, feature_names=["hour"], n_alphas=4)


def visit(driver: Any, file: Path, width: int = 1280, scheme: str = "light") -> None:
    """Open a report afresh, with the logs of before thrown away."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "screen", "features": features})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.get_log("browser"), driver.get_log("performance")
    driver.get(file.as_uri())


def text_of(driver: Any, name: str) -> str:
    return driver.find_element("id", name).get_attribute("textContent")


def test_the_slider_shows_the_networks_of_the_path(driver: Any, classes: tuple[Path, Report]) -> None:
    from selenium.webdriver.common.keys import Keys

    file, content = classes
    visit(driver, file)
    points = content.points
    slider = driver.find_element("id", "alpha")
    mine = next(k for k, point in enumerate(points) if point.mine)
    assert (
        int(slider.get_attribute("value")) == mine and driver.find_element("id", "at-mine").is_displayed()
    )
    seen = set()
    moves = [
        (Keys.HOME, 0),
        *((Keys.ARROW_RIGHT, k) for k in range(1, len(points))),
        (Keys.ARROW_LEFT, len(points) - 2),
    ]
    for key, k in moves:
        slider.send_keys(key)
        c = points[k].certificate
        assert text_of(driver, "at-neurons") == str(c.width)
        assert text_of(driver, "at-objective") == number(c.objective, 6)
        assert text_of(driver, "at-gap") == percent(c.gap, 3)
        for name, words in point_words(points[k], content).items():
            if name != "test":
                assert text_of(driver, f"at-{name}") == words
        assert number(c.alpha, 4) in slider.get_attribute("aria-valuetext")
        assert driver.find_element("id", "at-mine").is_displayed() == points[k].mine
        image = driver.find_element("css selector", "#path-picture .map").get_attribute("href")
        assert image == points[k].picture.image
        cursors = {line.get_attribute("x1") for line in driver.find_elements("class name", "cursor")}
        assert len(cursors) == 1
        seen |= {(image, *cursors)}
        listed = driver.find_elements("css selector", "#path-neurons li:not(.more)")
        assert len(listed) == len(points[k].neurons)
    assert len(seen) == len(points)


def test_the_slider_moves_the_curve(driver: Any, curve: tuple[Path, Report]) -> None:
    from selenium.webdriver.common.keys import Keys

    file, content = curve
    visit(driver, file)
    slider = driver.find_element("id", "alpha")
    slider.send_keys(Keys.HOME)
    assert text_of(driver, "at-neurons") == "0" and "says the same" in text_of(driver, "path-neurons")
    heights = {}
    for k in range(len(content.points)):
        d = driver.find_element("css selector", "#path-picture .curves path").get_attribute("d")
        heights[k] = [float(point.split()[1]) for point in d[1:].split("L")]
        slider.send_keys(Keys.ARROW_RIGHT)
    assert len(set(heights[0])) == 1 and len(heights[0]) == len(content.canvas.grid)
    # heights in the drawing are the predictions, on another scale
    drawn, known = np.array(heights[3]), content.points[3].picture.curves[0]
    assert np.corrcoef(drawn, known)[0, 1] < -0.9999


def test_a_sample_is_explained(driver: Any, classes: tuple[Path, Report]) -> None:
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.select import Select

    file, content = classes
    visit(driver, file)
    data = payload(content)["samples"]
    chooser = driver.find_element("id", "sample")
    assert text_of(driver, "verdict") == data[0]["verdict"]
    chooser.send_keys(Keys.ARROW_DOWN)
    assert text_of(driver, "verdict") == data[1]["verdict"]
    k = next(k for k, sample in enumerate(content.samples) if sample.truth == sample.prediction == NASTY)
    Select(chooser).select_by_value(str(k))
    sample = content.samples[k]
    assert f"the network says {NASTY}" in text_of(driver, "verdict") and "that is right" in text_of(
        driver, "verdict"
    )
    output = int(Select(driver.find_element("id", "output")).first_selected_option.get_attribute("value"))
    assert content.outputs[output] == NASTY
    assert f"{len(sample.active)} of {len(sample.adds)} neurons active" in text_of(driver, "by-neurons")
    for other in range(3):
        Select(driver.find_element("id", "output")).select_by_value(str(other))
        assert number(sample.outputs[other]) in text_of(driver, "terms")
        rows = driver.find_elements("css selector", "#terms tbody tr")
        assert len(rows) == 2 and f"north = {number(sample.values[1])}" in text_of(driver, "terms")
        assert number(sample.base[other]) in text_of(driver, "by-columns")


def test_nothing_is_fetched_and_nothing_fails(
    driver: Any, classes: tuple[Path, Report], curve: tuple[Path, Report]
) -> None:
    for file in (classes[0], curve[0]):
        visit(driver, file)
        asked = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
        urls = [e["params"]["request"]["url"] for e in asked if e["method"] == "Network.requestWillBeSent"]
        assert urls and all(url.startswith(("file:", "data:")) for url in urls)
        assert [url for url in urls if url.startswith("file:")] == [file.as_uri()]
        assert driver.get_log("browser") == []
        assert driver.execute_script("return window.broken") is None
        assert driver.execute_script("return document.querySelectorAll('img').length") == 0


def test_an_injected_script_would_not_run(driver: Any, curve: tuple[Path, Report]) -> None:
    visit(driver, curve[0])
    driver.execute_script(
        "const node = document.createElement('div'); node.innerHTML = '<img src=\"data:,\" "
        'onerror="window.broken=1">\';'
        "document.body.append(node)"
    )
    time.sleep(0.3)
    assert driver.execute_script("return window.broken") is None
    assert any("Content Security Policy" in entry["message"] for entry in driver.get_log("browser"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(driver: Any, classes: tuple[Path, Report], scheme: str) -> None:
    visit(driver, classes[0], scheme=scheme)
    ground = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    dark = sum(int(part) for part in ground.strip("rgb()").split(",")[:3]) < 150
    assert dark == (scheme == "dark")
    found = driver.execute_script(CONTRAST)
    assert len(found) > 100
    weak = [entry for entry in found if entry[0] < 4.5]
    assert not weak, weak[:5]


def test_a_phone_shows_all_of_it(
    driver: Any, classes: tuple[Path, Report], curve: tuple[Path, Report]
) -> None:
    for file in (classes[0], curve[0]):
        visit(driver, file, width=375)
        assert driver.execute_script("return document.documentElement.scrollWidth") <= 375
        letters = driver.execute_script(
            "return Math.min(...[...document.querySelectorAll('svg[role=img]')].map(s => "
            "s.getScreenCTM().a * 12))"
        )
        assert letters >= 9.0  # of the labels in charts, in CSS pixels


def test_keyboards_and_readers_reach_everything(driver: Any, classes: tuple[Path, Report]) -> None:
    from selenium.webdriver.common.keys import Keys

    visit(driver, classes[0])
    driver.find_element("tag name", "body").send_keys(Keys.TAB)
    first = driver.switch_to.active_element
    assert first.get_attribute("class") == "skip" and first.location["x"] >= 0
    reached = set()
    for _ in range(40):
        reached.add(driver.switch_to.active_element.get_attribute("id"))
        driver.switch_to.active_element.send_keys(Keys.TAB)
    assert {"alpha", "sample", "output"} <= reached
    nodes = driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    spoken = [
        n
        for n in nodes
        if n.get("role", {}).get("value") in ("slider", "combobox", "image", "img", "table")
    ]
    assert {n["role"]["value"] for n in spoken} >= {"slider", "combobox", "table"}
    assert all(n["name"]["value"] for n in spoken if not n.get("ignored"))
    printed = driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]
    assert len(printed) > 20_000


def test_a_missing_browser_is_a_failure_where_one_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: None)
    assert "no chromium on the PATH" in missing()
