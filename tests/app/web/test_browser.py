"""The dashboard and the API page in a real browser: scripts, streams, the form. Needs chromium and chromedriver."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.db import claims, events, twins
from app.db.session import SessionFactory, unit_of_work
from app.reporting import sweep_html
from secateur.contract.protocol import NewStage
from tests.fixtures.browser import MISSING, Browser
from tests.fixtures.gguf_models import tiny_model, write_model
from tests.fixtures.played_worker import PlayedWorker
from tests.fixtures.small_files import write_gguf
from tests.fixtures.sweep_reports import swept, usual
from tests.fixtures.worker_rows import beats

PATIENCE = 60.0  # seconds that an answer may take on a busy machine
get, post = partial(httpx.get, timeout=PATIENCE), partial(httpx.post, timeout=PATIENCE)
delete = partial(httpx.delete, timeout=PATIENCE)

pytestmark = [
    pytest.mark.skipif(MISSING is not None, reason=f"{MISSING} is not installed"),
    pytest.mark.usefixtures("quiet_console"),
]


@pytest.mark.thorough
def test_a_job_moves_as_it_happens(url: str, browser: Browser, spec: dict[str, Any], worker: PlayedWorker) -> None:
    job = post(f"{url}/jobs", json=spec).json()["id"]
    browser.open(f"{url}/ui/jobs/{job}")
    claim = worker.reach(job, "score")
    browser.until("return document.querySelector('[data-stage=score]').dataset.state === 'running'")
    data: dict[str, Any] = {"done": 12, "total": 30, "unit": "blocks"}
    progress = events.NewEvent("progress", data, stage=claim.key, attempt=claim.attempt)
    worker.tell(claim, progress, **data)
    browser.until("return document.querySelector('[data-stage=score] .amount').innerText === '12 of 30 blocks'")
    assert browser.run("return document.querySelector('[data-stage=score] progress').value") == pytest.approx(0.4)
    worker.log(claim, "a line with <b>markup</b>", before=1)
    browser.until("return document.getElementById('log').innerText.includes('a line with <b>markup</b>')")
    assert browser.text("#job-state") == "running"
    worker.succeed(claim)
    files = {"prune": {"checkpoint/config.json": b"{}"}, "report": {"report.html": b"<!doctype html><p>report"}}
    worker.finish(job, files)
    browser.until("return document.querySelector('.tiles') !== null")  # the page has renewed itself
    assert browser.text("#job-state") == "succeeded"
    assert "1.25×" in browser.text(".tiles")
    assert browser.run("return document.querySelectorAll('svg.plot.wide circle').length") == 3
    browser.click("a[href$='/report']")
    browser.until("return location.pathname.endsWith('/report')")
    browser.click("h1 a")
    browser.until(f"return location.pathname === '/ui/jobs/{job}'")


def test_a_stage_that_waits_names_the_job_and_one_that_is_added_appears(
    url: str, browser: Browser, spec: dict[str, Any], worker: PlayedWorker, tmp_path: Path
) -> None:
    first, second = (post(f"{url}/jobs", json=spec).json()["id"] for _ in range(2))
    browser.open(f"{url}/ui/jobs/{second}")
    found = [worker.claim(job) for job in (first, second)]
    for claim in found:
        with unit_of_work(worker.sessions) as session:
            twins.meet(session, claim, "k", note=str)
    link = "return document.querySelector('[data-stage=check] .status a')?.href"
    assert browser.until(link) == f"{url}/ui/jobs/{first}"  # told by the event
    browser.open(f"{url}/ui/jobs/{second}")
    assert browser.run(link) == f"{url}/ui/jobs/{first}"  # and by the page
    assert browser.text("[data-stage=check] .status") == "queued, waits for the same of another job"
    browser.open(f"{url}/ui/jobs/{first}")
    added = NewStage(key="prune-2", kind="prune", needs=("check",), before=("report",))
    with unit_of_work(worker.sessions) as session:
        claims.succeed(session, found[0], result=worker.results["check"], output="o", files=[], adds=[added])
    browser.until("return document.querySelector('[data-stage=prune-2]') !== null")
    keys = browser.run("return [...document.querySelectorAll('[data-stage]')].map((row) => row.dataset.stage)")
    assert keys == ["check", "score", "prune", "benchmark", "prune-2", "report"]
    found = browser.run("return [...document.querySelectorAll('.checks div')].map((row) => row.innerText)")
    assert [row.split("\n") for row in found] == [
        [check["name"], check["seen"]] for check in worker.results["check"]["checks"]
    ]


def test_a_job_is_cancelled_and_deleted_by_its_buttons(url: str, browser: Browser, spec: dict[str, Any]) -> None:
    job = post(f"{url}/jobs", json=spec).json()["id"]
    browser.open(f"{url}/ui/jobs/{job}")
    browser.click("[data-action=cancel]")
    browser.until("return document.querySelector('[data-action=delete]') !== null")
    assert get(f"{url}/jobs/{job}").json()["state"] == "cancelled"
    browser.run("window.confirm = () => true")
    browser.click("[data-action=delete]")
    browser.until("return location.pathname === '/ui'")
    assert get(f"{url}/jobs/{job}").status_code == 404


@pytest.mark.thorough
def test_the_list_renews_itself(url: str, browser: Browser, spec: dict[str, Any]) -> None:
    browser.open(f"{url}/ui")
    assert "No job yet" in browser.text("table")
    post(f"{url}/jobs", json=spec)
    browser.until("return document.querySelector('table').innerText.includes('some/model')")
    browser.run("document.querySelector('.model a').focus(); getSelection().selectAllChildren(document.activeElement)")
    other = post(f"{url}/jobs", json=spec).json()["id"]
    browser.until(f"return document.querySelector('tr[data-key=\"{other}\"]') !== null")
    assert browser.run("return document.activeElement.closest('tr').rowIndex") == 2
    assert browser.run("return getSelection().toString()") == "some/model"
    assert browser.text(".filters [data-key=queued]") == "queued 2"
    post(f"{url}/jobs/{other}/cancel").raise_for_status()
    delete(f"{url}/jobs/{other}").raise_for_status()
    browser.until("return document.querySelectorAll('tr[data-key]').length === 1")
    assert browser.run("return document.activeElement.closest('tr').rowIndex") == 1


@pytest.mark.thorough
def test_ticked_jobs_are_compared(url: str, browser: Browser, spec: dict[str, Any], worker: PlayedWorker) -> None:
    """Two to five; ticks stay while the list renews itself."""
    jobs = [post(f"{url}/jobs", json={**spec, "seed": seed}).json()["id"] for seed in range(2)]
    for job in jobs:
        worker.finish(job)
    browser.open(f"{url}/ui")
    browser.until("return document.querySelectorAll('.tick input').length === 2")
    assert browser.run("return document.querySelector('#compare button').disabled") is True
    for job in jobs:
        browser.click(f"tr[data-key='{job}'] .tick input")
    assert browser.text("#ticked") == "2 ticked"
    another = post(f"{url}/jobs", json=spec).json()["id"]
    browser.until(f"return document.querySelector('tr[data-key=\"{another}\"]') !== null")
    assert browser.text("#ticked") == "2 ticked"
    browser.click("#compare button")
    browser.until("return location.pathname === '/ui/compare'")
    assert browser.text("h1") == "2 jobs compared"
    assert "All were asked the same." in browser.text(".compared")  # the reports of this worker are one and the same
    browser.open(f"{url}/ui")
    browser.run("document.querySelector('input[type=search]').value = 'nothing'")
    browser.click(".search button")
    browser.until("return new URL(location).searchParams.get('q') === 'nothing'")
    assert "No such job" in browser.text(".jobs")


def test_the_form_sends_a_job_and_shows_errors_at_their_fields(url: str, browser: Browser, model_root: Path) -> None:
    write_gguf(model_root / "m.gguf", 12)
    browser.open(f"{url}/ui/new")
    browser.until("return !document.getElementById('submit').disabled")
    browser.run(
        "const s = document.getElementById('f-model-source'); s.value = 'local';"
        "s.dispatchEvent(new Event('change', {bubbles: true}))"
    )
    browser.type("#f-model-path", "m.gguf")
    browser.type("#f-pruning-blocks", "9")
    browser.click("#submit")
    browser.until("return document.getElementById('f-pruning-blocks').getAttribute('aria-invalid') === 'true'")
    assert "the model has 12" in browser.text("#f-pruning-blocks-error")
    browser.run("document.getElementById('f-pruning-blocks').value = ''")
    browser.type("#f-pruning-blocks", "2")
    browser.click("#submit")
    browser.until("return location.pathname.startsWith('/ui/jobs/')")
    job = get(f"{url}/jobs/{browser.url.rsplit('/', 1)[-1]}").json()
    assert job["model"] == "m.gguf"
    assert job["spec"]["pruning"]["blocks"] == 2
    assert job["spec"]["recovery"]["kind"] == "distill"  # left alone: the service's default


def test_the_form_tells_what_its_job_would_take(url: str, browser: Browser, model_root: Path) -> None:
    write_model(model_root / "m.gguf", tiny_model("llama"))
    browser.open(f"{url}/ui/new")
    browser.until("return !document.getElementById('submit').disabled")
    browser.run(
        "const s = document.getElementById('f-model-source'); s.value = 'local';"
        "s.dispatchEvent(new Event('change', {bubbles: true}))"
    )
    browser.type("#f-model-path", "m.gguf")
    browser.type("#f-pruning-blocks", "4")
    browser.until("return document.getElementById('estimate').innerText.includes('the model has 3')")  # and not before
    assert "No estimate yet" in browser.text("#estimate")
    browser.run("document.getElementById('f-pruning-blocks').value = ''")
    browser.type("#f-pruning-drop", "1")
    browser.until("return document.querySelector('#estimate tfoot') !== null")
    told = browser.text("#estimate")
    assert "unknown" in told  # times, before anything has run here
    assert re.search(r"Blocks\s+3\s+2", told)
    assert get(f"{url}/jobs").json()["data"] == []


def test_a_data_set_is_uploaded_refused_and_deleted(url: str, browser: Browser, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_text('{"text": "one"}\n{"text": "two"}\n')
    bad.write_text('{"text": "one"}\n{"words": "two"}\n')
    browser.open(f"{url}/ui/datasets")
    browser.type("#upload [name=file]", str(bad))
    browser.click("#upload button")
    browser.until("return !document.getElementById('notice').hidden")
    assert "line 2" in browser.text("#notice")
    assert get(f"{url}/datasets").json()["data"] == []
    browser.type("#upload [name=file]", str(good))
    browser.type("#upload [name=name]", "two rows")
    browser.click("#upload button")
    browser.until("return document.querySelector('tr[data-id]') !== null")
    assert "two rows" in browser.text("table")
    browser.run("window.confirm = () => true")
    browser.click("[data-delete]")
    browser.until("return document.querySelector('tr[data-id]') === null")
    assert get(f"{url}/datasets").json()["data"] == []


def test_every_choice_of_the_form_can_be_read(url: str, browser: Browser) -> None:
    """Each method of each table is chosen in turn; the request has its name, and no field is undefined."""
    browser.open(f"{url}/ui/new")
    browser.until("return !document.getElementById('submit').disabled")
    catalog = get(f"{url}/catalog").json()
    choose = (
        "const s = document.querySelector(arguments[0]); s.value = arguments[1];"
        "s.dispatchEvent(new Event('change', {bubbles: true}));"
        "return document.getElementById('body').textContent"
    )
    for selector, table in [
        ("#f-scoring-criterion", "criteria"),
        ("#f-pruning-kind", "pruners"),
        ("#f-recovery-kind", "recoveries"),
    ]:
        names = [method["name"] for method in catalog[table]]
        for name in reversed(names):
            body = browser.run(choose, selector, name)
            assert f'"{name}"' in body or name in ("perplexity", "distill")
            fields = browser.run("return document.querySelectorAll('#form .field').length")
            assert fields > 10


def test_texts_are_chosen_by_upload_or_by_name(url: str, browser: Browser) -> None:
    """Uploads are offered by their names; of a named set no part is sent unless one is chosen."""
    dataset = post(f"{url}/datasets", files={"file": ("news.txt", b"a\nb\n")}).json()["id"]
    browser.open(f"{url}/ui/new")
    browser.until("return !document.getElementById('submit').disabled")
    choose = (
        "const s = document.querySelector(arguments[0]); s.value = arguments[1];"
        "s.dispatchEvent(new Event('change', {bubbles: true}));"
        "return JSON.parse(document.getElementById('body').textContent).recovery?.text"
    )
    source, text = "#f-recovery-text-source", "#f-recovery-text-"
    assert browser.run(choose, source, "upload") == {"source": "upload"}
    assert browser.run("return document.querySelector(arguments[0]).list.options[0].value", text + "id") == dataset
    label = "return document.querySelector(arguments[0]).list.options[0].text"
    assert browser.run(label, text + "id") == "news.txt: 2 rows, text"
    assert browser.run(choose, text + "id", dataset) == {"source": "upload", "id": dataset}
    named = browser.run(choose, source, "named")
    assert named == {"source": "named", "name": "wikitext2"}
    assert browser.run(choose, text + "split", "test") == {**named, "split": "test"}


@pytest.mark.thorough
def test_the_api_page_shows_every_operation(url: str, browser: Browser) -> None:
    browser.open(f"{url}/docs")
    browser.until("return document.querySelectorAll('.opblock').length > 10")
    browser.run("document.querySelector('#operations-jobs-submit_job button').click()")
    browser.until("return document.querySelector('.opblock-body select.examples-select-element') !== null")
    # by night it is dark, and the way back is never far
    assert browser.run("return document.documentElement.classList.contains('dark-mode')") is False
    browser.prefers("dark")
    browser.until("return document.documentElement.classList.contains('dark-mode')")
    browser.run("document.querySelector('nav a').click()")
    browser.until("return location.pathname === '/ui'")


@pytest.mark.thorough
@pytest.mark.parametrize("width", [1200, 390])
def test_no_page_is_wider_than_the_window(
    url: str, browser: Browser, spec: dict[str, Any], worker: PlayedWorker, sessions: SessionFactory, width: int
) -> None:
    job = post(f"{url}/jobs", json={**spec, "labels": {"a-long-label": "x" * 150}}).json()["id"]
    worker.finish(job, {"prune": {"checkpoint/" + "long" * 40 + ".json": b"{}"}})
    browser.resize(width, 900)
    other = post(f"{url}/jobs", json={**spec, "seed": 1}).json()["id"]
    worker.finish(other)
    body = {"spec": {**spec, "pruning": {"kind": "depth"}}, "grid": {"pruning.blocks": [1, 2]}}
    sweep = post(f"{url}/sweeps", json=body).json()
    worker.finish(sweep["points"][0]["job_id"])
    pages = ("/ui", "/ui/new", f"/ui/jobs/{job}", f"/ui/compare?job={job}&job={other}", "/login")
    beats(
        sessions,
        name="a-host-with-a-long-name.of.a.cluster.example:4711",
        problem="x" * 200,
        device=None,
        device_name=None,
    )
    for path in (*pages, "/ui/workers", "/ui/sweeps", f"/ui/sweeps/{sweep['id']}"):
        browser.open(url + path)
        browser.until("return document.readyState === 'complete'")
        excess = browser.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert excess <= 0, path


@pytest.mark.thorough
def test_a_sweep_moves_as_it_happens(url: str, browser: Browser, spec: dict[str, Any], worker: PlayedWorker) -> None:
    body = {"spec": {**spec, "pruning": {"kind": "depth"}}, "grid": {"pruning.blocks": [1, 2]}}
    sweep = post(f"{url}/sweeps", json=body).json()
    browser.open(f"{url}/ui/sweeps/{sweep['id']}")
    assert browser.text("#sweep-state") == "queued"
    first, second = (point["job_id"] for point in sweep["points"])
    claim = worker.claim(first)
    browser.until("return document.querySelector('.points small')?.innerText === 'check'")
    worker.succeed(claim)
    worker.finish(first)
    browser.until("return document.querySelector('svg.plot.wide') !== null")
    browser.run("document.querySelector('.wide .point').dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    assert browser.run("return document.activeElement.closest('tr').dataset.place") == "0"  # the point's row is picked
    browser.click("[data-action=cancel]")
    browser.until("return document.getElementById('sweep-state').innerText === 'cancelled'")  # it has renewed itself
    browser.click("[data-action=retry]")
    browser.until("return document.getElementById('sweep-state').innerText === 'running'")
    worker.finish(second)
    browser.until("return document.getElementById('sweep-state').innerText === 'succeeded'")


def test_the_table_of_a_sweeps_report_sorts_without_a_script(browser: Browser, url: str, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(sweep_html.render(swept(usual())), encoding="utf-8")
    browser.open(page.as_uri())
    order = (
        "return [...document.querySelectorAll('.points tbody tr')]"
        ".sort((a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top)"
        ".map((row) => row.querySelector('th').innerText).join('')"
    )
    assert browser.run(order) == "01234567"
    for heading, expected in (("speedup", "64523107"), ("parameters", "64523017"), ("c1", "02461357")):
        browser.click(f"label[for=sort-{heading}]")
        assert browser.run(order) == expected
