"""The list of jobs and jobs side by side, as pages: what a search finds, which figures are shown, what is compared."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event
from starlette.testclient import TestClient

from app.api import example_results
from app.db import reports
from app.db.session import SessionFactory, unit_of_work
from app.web import dashboard
from app.web.job_figures import JobFigures
from secateur.contract.jobs import Verdict
from tests.fixtures.played_worker import PlayedWorker
from tests.fixtures.reports import make_one

Submit = Callable[..., dict[str, Any]]


def shown(page: str) -> list[str]:
    return re.findall(r'<tr data-key="([^"]+)"', page)


def test_a_search_finds_models_labels_and_ids(client: TestClient, submit: Submit) -> None:
    hub = {"source": "hub", "revision": "a" * 40}
    llama = submit(model={**hub, "id": "meta/Llama-3_8B"}, labels={"branch": "main", "team": "a"})["id"]
    qwen = submit(model={**hub, "id": "qwen/Qwen3-0.6B"}, labels={"branch": "topic"})["id"]
    for typed, found in {
        "llama": [llama],
        "  LLAMA 8b ": [llama],
        "8b llama": [],  # in this order
        "branch=main": [llama],
        "branch=main qwen": [],
        "branch=topic qwen": [qwen],
        "_": [llama],  # itself, and not any character
        "%": [],
        "\\": [],
        llama: [llama],
        qwen[-8:]: [qwen],
        qwen[-8:-3]: [],
        "": [qwen, llama],
        "=": [],
        "\0": [qwen, llama],
    }.items():
        assert shown(client.get("/ui", params={"q": typed}).text) == found, typed
    assert "No such job." in client.get("/ui", params={"q": "nothing"}).text


def test_what_is_chosen_stays_in_links(client: TestClient, submit: Submit, worker: PlayedWorker) -> None:
    worker.finish(submit(labels={"run": "1"})["id"])
    page = client.get("/ui", params={"q": "some/model run=1", "status": "succeeded"}).text
    assert '<input type="hidden" name="status" value="succeeded">' in page
    assert 'value="some/model run=1"' in page
    assert 'href="/ui?verdict=passed&amp;q=some%2Fmodel+run%3D1"' in page
    assert 'href="/ui?q=some%2Fmodel+run%3D1" aria-current' not in page
    assert 'href="/ui?status=succeeded&amp;q=run%3D1">run=1</a>' in page  # a label is a link to its jobs


def test_jobs_that_succeeded_show_their_figures(client: TestClient, submit: Submit, worker: PlayedWorker) -> None:
    done, other = submit()["id"], submit()["id"]
    worker.results = {**worker.results, "report": make_one().model_dump(mode="json")}
    worker.finish(done)
    rows = dict(re.findall(r'<tr data-key="([^"]+)">(.*?)</tr>', client.get("/ui").text, re.DOTALL))
    cells = [re.sub(r"<[^>]+>|\s", "", cell) for cell in re.findall(r"<td.*?</td>", rows[done], re.DOTALL)]
    assert cells[4:6] == ["1.24×", "0.830"]
    assert f'name="job" value="{done}"' in rows[done]
    assert "<input" not in rows[other]


def test_a_report_is_read_once_until_it_is_another_one(
    client: TestClient, submit: Submit, worker: PlayedWorker, sessions: SessionFactory
) -> None:
    job_id = UUID(submit()["id"])
    worker.finish(job_id)
    known, read = JobFigures(), []

    def speedup() -> str:
        with unit_of_work(sessions) as session:
            return known.of(session, [job_id])[job_id]["speedup"].value

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if "reports.body" in statement:
            read.append(statement)

    engine = sessions.kw["bind"]
    event.listen(engine, "before_cursor_execute", note)
    try:
        assert [speedup(), speedup(), len(read)] == ["1.25×", "1.25×", 1]
        body = copy.deepcopy(example_results.REPORT)
        body["benchmarks"]["variants"][-1]["latency"][0]["speedup"]["median"] = 2.5
        with unit_of_work(sessions) as session:
            reports.put(session, job_id, body, Verdict.PASSED)
        assert [speedup(), len(read)] == ["2.50×", 2]
    finally:
        event.remove(engine, "before_cursor_execute", note)


def test_the_list_is_put_in_order_by_a_column(
    client: TestClient, submit: Submit, worker: PlayedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [submit(labels={"number": str(number)})["id"] for number in range(3)]
    report = make_one().model_dump(mode="json")
    for job, speedup in zip(jobs[:2], (1.9, 1.1), strict=True):
        made = copy.deepcopy(report)
        made["benchmarks"]["variants"][-1]["latency"][0]["speedup"].update(median=speedup)
        worker.results = {**worker.results, "report": made}
        worker.finish(job)

    def listed(**query: str) -> list[str]:
        return shown(client.get("/ui", params=query).text)

    assert listed() == [jobs[2], jobs[1], jobs[0]]
    assert listed(sort="-speedup") == jobs
    assert listed(sort="speedup") == [jobs[1], jobs[0], jobs[2]]
    assert listed(sort="-speedup", status="succeeded") == jobs[:2]
    page = client.get("/ui?sort=-speedup&q=number=1").text
    assert 'aria-sort="descending"><a data-key="by-speedup" href="/ui?sort=speedup&amp;q=number%3D1"' in page
    assert '<input type="hidden" name="sort" value="-speedup">' in page
    assert "newest jobs that fit" not in page
    monkeypatch.setattr(dashboard, "NEWEST", 2)
    assert len(listed(sort="model")) == 2
    assert "In order are the 2 newest jobs that fit" in client.get("/ui?sort=model").text


def test_jobs_side_by_side(client: TestClient, submit: Submit, worker: PlayedWorker) -> None:
    jobs = [submit(seed=seed, labels={"seed": str(seed)})["id"] for seed in range(3)]
    report = make_one().model_dump(mode="json")
    slower = copy.deepcopy(report)
    slower["benchmarks"]["variants"][-1]["latency"][0]["speedup"].update(median=1.05, low=1.0, high=1.1)
    slower["spec"]["labels"] = {"seed": "2"}
    worker.results = {**worker.results, "report": report}
    worker.finish(jobs[0])
    worker.results = {**worker.results, "report": slower}
    for job in jobs[1:]:
        worker.finish(job)
    page = client.get("/ui/compare", params={"job": jobs})
    assert page.status_code == 200
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.text))
    assert "3 jobs compared" in text
    assert page.text.count('class="worse"') == 2
    assert "seed=2" in text
    assert "/labels" not in text  # they have a row of their own
    assert page.text.count('id="compared-importance-wide-t"') == 1
    assert page.text.count('class="glyph line"') == 6  # of three jobs in two plots
    assert "She opened the letter and read:" in text  # a sample's prompt


@pytest.mark.parametrize("number", [0, 1, 6])
def test_two_to_five_are_compared(client: TestClient, submit: Submit, number: int) -> None:
    jobs = [submit(seed=seed)["id"] for seed in range(number)]
    page = client.get("/ui/compare", params={"job": jobs})
    assert page.status_code == 422
    assert "Tick two to 5 jobs" in page.text


def test_jobs_that_cannot_be_compared_say_why(client: TestClient, submit: Submit, worker: PlayedWorker) -> None:
    done, other = submit()["id"], submit()["id"]
    worker.finish(done)
    page = client.get("/ui/compare", params={"job": [done, other]})
    assert page.status_code == 409
    assert f"Job {other} is queued" in page.text
    page = client.get("/ui/compare", params={"job": [done, "01a226bc-9b10-7546-acb8-409d11ea75fd"]})
    assert page.status_code == 404
