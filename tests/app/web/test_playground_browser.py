"""The playground in a real browser: a question is sent, its words come as they are written, and a lost worker shows."""

from __future__ import annotations

from functools import partial
from typing import Any

import httpx
import pytest

from app.db import claims, events
from app.db.session import unit_of_work
from tests.fixtures.browser import MISSING, Browser
from tests.fixtures.played_worker import PlayedWorker

get, post = partial(httpx.get, timeout=60.0), partial(httpx.post, timeout=60.0)

pytestmark = [
    pytest.mark.skipif(MISSING is not None, reason=f"{MISSING} is not installed"),
    pytest.mark.usefixtures("quiet_console"),
]


def piece(attempt: int, variant: str, text: str, tokens: int) -> events.NewEvent:
    told = {"variant": variant, "text": text, "tokens": tokens}
    return events.NewEvent("text", told, stage="answer", attempt=attempt)


def figures(attempt: int, variant: str) -> events.NewEvent:
    told: dict[str, Any] = {"variant": variant, "tokens": 9, "tokens_per_second": 6.25, "ended": "length"}
    return events.NewEvent("metrics", told, stage="answer", attempt=attempt)


def test_models_answer_side_by_side(url: str, browser: Browser, spec: dict[str, Any], worker: PlayedWorker) -> None:
    job = post(f"{url}/jobs", json=spec).json()["id"]
    worker.finish(job)
    browser.open(f"{url}/ui/jobs/{job}")
    browser.click("a[href$='/playground']")
    browser.until("return document.readyState === 'complete' && location.pathname.endsWith('/playground')")
    columns = "return [...document.querySelectorAll('#answers .answer')].map((one) => one.dataset.variant)"
    assert browser.run(columns) == ["original", "pruned"]
    browser.type("#prompt", "Why is the sky blue?")
    browser.click("#ask button.primary")
    browser.until("return document.getElementById('stop').hidden === false")
    (asked,) = get(f"{url}/jobs/{job}/answers").json()["data"]
    assert asked["question"]["prompt"] == "Why is the sky blue?"
    first = worker.claim(asked["id"])
    said, speed = (f"[data-variant=original] .{name}" for name in ("said", "speed"))
    worker.tell(first, piece(1, "original", "", 0), piece(1, "original", "Because <b>", 3))
    browser.until("return document.querySelector(arguments[0]).innerText === 'Because <b>'", said)
    assert browser.text(speed) == "3 tokens so far"
    assert browser.run("return document.querySelector('.writes').dataset.variant") == "original"
    browser.open(browser.url)  # whoever comes later sees it all
    browser.until("return document.querySelector(arguments[0]).innerText === 'Because <b>'", said)
    with unit_of_work(worker.sessions) as session:
        claims.release(session, first, reason="The worker shuts down.")
    second = worker.claim(asked["id"])
    words = [("", 0), ("Air scatters ", 4), ("it.", 9)]
    worker.tell(second, *(piece(2, "original", text, tokens) for text, tokens in words))
    browser.until("return document.querySelector(arguments[0]).innerText === 'Air scatters it.'", said)
    worker.tell(second, figures(2, "original"), piece(2, "pruned", "", 0), before=3)
    browser.until("return document.querySelector(arguments[0]).innerText.includes('a second')", speed)
    assert browser.text(speed) == "9 tokens, 6.3 a second; cut at its most tokens"
    worker.succeed(second)
    browser.until("return document.getElementById('stop').hidden && !document.querySelector('#ask .primary').disabled")
    assert browser.text("#notice") == ""
    assert browser.run("return document.getElementById('stop').checkVisibility()") is False
    browser.open(f"{url}/ui/jobs/{asked['id']}")  # a question has no page of its own
    assert browser.url == f"{url}/ui/jobs/{job}/playground"
    assert browser.text(".asked .answer .said").startswith("Air scatters short waves")
    browser.type("#prompt", "And at night?")
    browser.click("#ask button.primary")
    browser.until("return document.getElementById('stop').hidden === false")
    browser.click("#stop")
    browser.until("return document.getElementById('notice').innerText.startsWith('It was stopped')")
