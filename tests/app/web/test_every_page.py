"""Every page of the dashboard as a person meets it: by axe-core nothing serious is in the way, by day or by night.

`make screenshots` runs this file with a folder for a picture of each; a few of them stand in the README. Needs chromium
and chromedriver.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.db.session import SessionFactory
from tests.fixtures.browser import MISSING, Browser
from tests.fixtures.played_worker import PlayedWorker
from tests.fixtures.scene import Scene

ROOT = Path(__file__).resolve().parents[3]
AXE = (ROOT / "tests" / "data" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
FOLDER = os.environ.get("SECATEUR_SCREENSHOTS")
LOOKS = {"light": (1200, "light"), "phone-dark": (390, "dark")}
MORE_LOOKS = {"dark": (1200, "dark"), "phone": (390, "light")}  # of these there are pictures alone
SHOWN = {"jobs-light": 741, "job-running-light": 960, "sweep-dark": 1000}  # in docs/images, so many pixels of each

pytestmark = [
    pytest.mark.skipif(MISSING is not None, reason=f"{MISSING} is not installed"),
    pytest.mark.usefixtures("quiet_console"),
]
FOUND = """
    const rules = {type: "tag", values: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]};
    return axe.run(document, {runOnly: rules, resultTypes: ["violations"], iframes: false}).then(
        (found) => found.violations
            .filter((one) => ["serious", "critical"].includes(one.impact))
            .flatMap((one) => one.nodes.map((node) => `${one.id}: ${node.html.slice(0, 200)}`)))
"""
READY = """
    const form = document.getElementById("form");
    return document.readyState === "complete" && (form === null || document.querySelector("#estimate tfoot") !== null);
"""


@pytest.mark.thorough
def test_no_page_has_a_serious_barrier(
    url: str, browser: Browser, sessions: SessionFactory, worker: PlayedWorker, model_root: Path, tmp_path: Path
) -> None:
    pages = Scene(url, sessions, worker).pages(model_root)
    saved = {}  # reports, as files: where the service shows them, no script may run, axe's neither
    for name in ("report", "sweep-report"):
        (tmp_path / f"{name}.html").write_bytes(httpx.get(url + pages[name], timeout=60).content)
        saved[name] = (tmp_path / f"{name}.html").as_uri()
    barriers: dict[str, Any] = {}
    for look, (width, scheme) in {**LOOKS, **(MORE_LOOKS if FOLDER else {})}.items():
        browser.resize(width, 900)
        browser.prefers(scheme)
        for name, path in pages.items():
            browser.open(saved[name] if name in saved else url + path)
            browser.until(READY)
            if FOLDER:
                browser.screenshot(Path(FOLDER) / f"{name}-{look}.png")
                if most := SHOWN.get(f"{name}-{look}"):
                    browser.screenshot(ROOT / "docs" / "images" / f"{name}.png", most=most)
            if look in LOOKS:
                browser.run("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
                browser.run(AXE)
                if found := browser.run(FOUND):
                    barriers[f"{name}, {look}"] = found
    assert [f"{page}: {one}" for page, found in barriers.items() for one in found] == []
