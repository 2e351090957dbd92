"""The dashboard's pages as they are rendered: what they show, what they escape, and who may see them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from app.db import events
from app.db.session import SessionFactory, unit_of_work
from app.main import create_app
from app.settings import Settings
from secateur.contract.use import StageUse
from tests.fixtures.played_worker import PlayedWorker

Submit = Callable[..., dict[str, Any]]
REPORT = {"report.html": b"<!doctype html><p>report", "report.md": b"# r", "report.junit.xml": b"<testsuites/>"}
FILES = {
    "prune": {"checkpoint/config.json": b"{}", "checkpoint/model.safetensors": b"x" * 3000},
    "report": REPORT,
}


def test_the_root_leads_to_the_dashboard(client: TestClient) -> None:
    response = client.get("/", follow_redirects=False)
    assert (response.status_code, response.headers["location"]) == (307, "/ui")


def test_an_empty_list_says_what_to_do(client: TestClient) -> None:
    page = client.get("/ui")
    assert page.status_code == 200
    assert "No job yet" in page.text
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert page.text.index('<a class="skip" href="#main">') < page.text.index("<nav>")
    assert '<main id="main"' in page.text


def test_the_list_shows_state_verdict_and_progress(client: TestClient, submit: Submit, worker: PlayedWorker) -> None:
    done, busy = submit(labels={"branch": "main"})["id"], submit()["id"]
    worker.finish(done)
    claim = worker.claim(busy)
    data: dict[str, Any] = {"done": 15, "total": 30, "unit": "blocks"}
    worker.tell(claim, events.NewEvent("progress", data, stage=claim.key, attempt=claim.attempt), **data)
    page = client.get("/ui").text
    assert page.index(f"/ui/jobs/{busy}") < page.index(f"/ui/jobs/{done}")  # newest first
    assert "gates passed" in page
    assert "branch=main" in page
    assert 'value="0.100" class="state-running"' in page  # half of the first of five stages
    assert "1 block by perplexity" in page
    succeeded = client.get("/ui?status=succeeded").text
    assert f"/ui/jobs/{done}" in succeeded
    assert f"/ui/jobs/{busy}" not in succeeded
    rows = client.get("/ui?fragment=true").text
    assert rows.count("<tr data-key=") == 2
    assert "running <b>1</b>" in rows  # the filters' counts come with the rows
    assert "<html" not in rows


def test_a_start_that_cannot_be_read_says_so(client: TestClient, submit: Submit, sessions: SessionFactory) -> None:
    job = submit()["id"]
    assert client.get(f"/ui/new?job={job}").status_code == 200
    for missing in ("019f0000-0000-7000-8000-000000000000", "nothing", "%00"):
        page = client.get(f"/ui/new?job={missing}")
        assert page.status_code == 404
        assert "No such job" in page.text
    with unit_of_work(sessions) as session:
        session.execute(text('UPDATE jobs SET spec = spec || \'{"pruning": {"kind": "of an earlier version"}}\''))
    page = client.get(f"/ui/new?job={job}")
    assert page.status_code == 409
    assert "no longer takes" in page.text


def test_older_jobs_are_a_page_away(client: TestClient, submit: Submit) -> None:
    made = [submit()["id"] for _ in range(27)]
    first = client.get("/ui").text
    link = re.search(r'rel="next" href="([^"]+)"', first)
    assert link is not None
    second = client.get(link.group(1).replace("&amp;", "&")).text
    assert made[0] in second
    assert made[-1] not in second


def test_a_finished_job_shows_all_that_came_of_it(client: TestClient, submit: Submit, worker: PlayedWorker) -> None:
    job = submit()["id"]
    worker.finish(job, FILES)
    page = client.get(f"/ui/jobs/{job}").text
    assert "1.25×" in page
    assert "speedup (batch 1, 12 + 16 tokens) is 1.25" in page  # the gate, in words
    plot = page[page.index('class="plot wide"') : page.index('class="plot narrow"')]  # drawn for a phone too
    assert plot.count("<circle ") == 3  # a mark for each block, the removed one's a cross
    assert plot.count('class="removed stroke"') == 1
    assert f"secateur download {job} result --prefix prune/" in page
    assert "from_pretrained(&#34;result/prune/checkpoint&#34;" in page
    assert "vllm serve result/prune/checkpoint" in page
    for form in ("html", "md", "junit.xml", "json"):
        assert client.get(f"/jobs/{job}/report.{form}").status_code == 200
        assert f'href="/jobs/{job}/report.{form}"' in page
    assert f'href="/ui/jobs/{job}/report"' in page
    whole = client.get(f"/ui/jobs/{job}/report").text
    assert f'src="/jobs/{job}/report.html#framed"' in whole
    assert f'href="/ui/jobs/{job}"' in whole  # the way back
    assert client.get(f"/ui/jobs/{submit()['id']}/report").status_code == 404
    links = re.findall(rf'href="(/jobs/{job}/artifacts/[^"]+)"', page)
    assert len(links) == 5
    assert all(client.get(link).status_code == 200 for link in links)
    assert "3.00 kB" in page
    assert 'data-action="delete"' in page
    assert 'data-action="cancel"' not in page


def test_what_moves_is_written_anew_by_the_service(client: TestClient, submit: Submit, worker: PlayedWorker) -> None:
    job = submit(recovery={"kind": "lora"})["id"]
    claim = worker.reach(job, "recover")
    data: dict[str, Any] = {"done": 1200, "total": 3000, "unit": "steps"}
    figures = {"step": 1200, "loss": 2.31234, "learning_rate": 1e-4}
    told = [events.NewEvent("metrics", {**figures, "step": 1100, "loss": 9.0}), events.NewEvent("metrics", figures)]
    told = [replace(event, stage=claim.key, attempt=claim.attempt) for event in told]
    worker.tell(claim, *told, **data)
    part = client.get(f"/ui/jobs/{job}/live").text
    assert "<html" not in part
    for words in ("1,200 of 3,000 steps", "loss 2.312<", "Recovery</span>", " UTC</time>", "state-running"):
        assert words in part
    assert '<span class="now">recovering quality</span>' in part
    assert "From 9.00 nats per token at step 1100 to 2.31 at step 1200." in part
    page = client.get(f"/ui/jobs/{job}").text
    assert "From 9.00 nats per token at step 1100" in page  # after a reload too
    assert "Use it" not in page  # a pruned checkpoint is there, but it is not what the job hands out
    assert client.get("/ui/jobs/019ab8e0-6a1c-7c5e-9d3f-2b6f0c9d4e11/live").status_code == 404


def test_a_running_stage_says_what_it_uses_and_one_that_is_over_what_it_used(
    client: TestClient, submit: Submit, worker: PlayedWorker
) -> None:
    job = submit(recovery={"kind": "lora"})["id"]
    claim = worker.reach(job, "recover")
    part = client.get(f"/ui/jobs/{job}/live").text
    assert part.count('class="use most">at most 600 MB of memory</span>') == 3  # of the stages before
    assert 'class="spark"' not in part
    use = StageUse(memory_bytes=1_200_000_000, peak_memory_bytes=1_400_000_000, cores=1.94)
    data: dict[str, Any] = {"done": 1, "total": 3, "unit": "steps", "use": use.model_dump()}
    told = [events.NewEvent("progress", {**data, "done": done}, stage=claim.key, attempt=1) for done in (1, 2)]
    worker.tell(claim, *told, use=use, done=2, total=3, unit="steps")
    part = client.get(f"/ui/jobs/{job}/live").text
    assert 'class="use">1.2 GB of memory (at most 1.4 GB), 1.9 cores<svg' in part
    assert part.count('class="spark"') == 1
    stage = client.get(f"/jobs/{job}").json()["stages"][3]
    assert stage["use"] == {
        **{"memory_bytes": 1_200_000_000, "peak_memory_bytes": 1_400_000_000, "cores": 1.94},
        **{"device_memory_bytes": None, "peak_device_memory_bytes": None, "device_busy": None},
    }
    worker.fail(claim, {"title": "Failed", "detail": "x", "status": 500, "type": "about:blank"})
    assert 'class="use">at most 1.4 GB of memory</span>' in client.get(f"/ui/jobs/{job}").text


def test_a_failed_job_says_why(client: TestClient, submit: Submit, worker: PlayedWorker) -> None:
    job = submit()["id"]
    problem = {
        "type": "about:blank",
        "title": "Checkpoint cannot be used",
        "status": 422,
        "detail": "NaN in block 3",
        "errors": [{"pointer": "/model", "detail": "not finite", "value": None, "expected": "finite weights"}],
    }
    worker.fail(worker.reach(job, "score"), problem)
    page = client.get(f"/ui/jobs/{job}").text
    assert page.count("not run, since scoring failed") == 3
    assert '<span class="status">cancelled' not in page
    for words in ("Checkpoint cannot be used", "in score", "NaN in block 3", "finite weights", 'data-action="retry"'):
        assert words in page


def test_what_comes_from_users_and_models_is_escaped(client: TestClient, submit: Submit, worker: PlayedWorker) -> None:
    evil = "<img src=x onerror=alert(1)>"
    job = submit(labels={"note": evil})["id"]
    claim = worker.claim(job)
    worker.log(claim, evil)
    worker.fail(claim, {"type": "about:blank", "title": evil, "status": 500, "detail": evil})
    for page in (client.get("/ui").text, client.get(f"/ui/jobs/{job}").text):
        assert "<img src=x" not in page
        assert "&lt;img src=x" in page


@pytest.mark.parametrize("job", ["019ab8e0-6a1c-7c5e-9d3f-2b6f0c9d4e11", "seven", "<script>"])
def test_a_job_that_is_not_there_has_a_page_that_says_so(client: TestClient, job: str) -> None:
    response = client.get(f"/ui/jobs/{job}")
    assert response.status_code == 404
    assert "No such job" in response.text
    assert "<script>" not in response.text.replace('<script src="', "")


def test_pages_load_nothing_from_elsewhere(client: TestClient, submit: Submit, worker: PlayedWorker) -> None:
    job = submit()["id"]
    worker.finish(job, FILES)
    for path in ("/ui", "/ui/new", f"/ui/jobs/{job}", "/login"):
        page = client.get(path).text
        for link in re.findall(r'\s(?:src|href|action)="([^"]+)"', page):
            assert link.startswith(("/", "#"))
            assert not link.startswith("//")
        for link in re.findall(r'(?:src|href)="(/static/[^"]+)"', page):
            assert client.get(link).status_code == 200, link


OWN_PAGE = {"origin": "http://127.0.0.1:8000"}


class TestLogin:
    """With API keys, the dashboard asks for one and keeps a cookie that is not it."""

    KEY = "s3cret-key"

    @pytest.fixture
    def locked(self, make_settings: Callable[..., Settings]) -> Any:
        with TestClient(create_app(make_settings(api_keys=self.KEY)), base_url="http://127.0.0.1:8000") as client:
            yield client

    def test_pages_lead_to_the_login(self, locked: TestClient) -> None:
        for path in ("/ui", "/ui/new", "/ui/workers", "/ui/jobs/019ab8e0-6a1c-7c5e-9d3f-2b6f0c9d4e11"):
            response = locked.get(path, follow_redirects=False)
            assert (response.status_code, response.headers["location"]) == (303, "/login")

    def test_a_wrong_key_does_not_open(self, locked: TestClient) -> None:
        response = locked.post("/login", data={"key": "wrong"})
        assert response.status_code == 401
        assert "not known" in response.text
        assert "set-cookie" not in response.headers

    def log_in(self, client: TestClient) -> str:
        """Log in; the cookie's value."""
        data = {"key": self.KEY}
        assert client.post("/login", data=data, headers=OWN_PAGE, follow_redirects=False).status_code == 303
        return client.cookies["secateur_session"]

    def test_the_key_opens_pages_and_api_until_logging_out(self, locked: TestClient, spec: dict[str, Any]) -> None:
        response = locked.post("/login", data={"key": self.KEY}, follow_redirects=False)
        cookie = response.headers["set-cookie"]
        assert response.status_code == 303
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
        assert "max-age=43200" in cookie.lower()
        assert self.KEY not in cookie
        assert locked.get("/ui").status_code == 200
        assert locked.post("/jobs", json=spec, headers=OWN_PAGE).status_code == 202  # the form's own request
        foreign = {"origin": "https://evil.example"}
        assert locked.post("/jobs", json=spec, headers=foreign).status_code == 403
        assert locked.post("/jobs", json=spec).status_code == 403  # a browser says where it comes from
        assert locked.post("/logout", headers=foreign).status_code == 403
        assert locked.post("/logout", headers=OWN_PAGE, follow_redirects=False).status_code == 303
        assert locked.get("/jobs").status_code == 401

    def test_a_copied_cookie_opens_nothing_after_logging_out(self, locked: TestClient) -> None:
        copied = self.log_in(locked)
        other = self.log_in(TestClient(locked.app, base_url="http://127.0.0.1:8000"))
        locked.post("/logout", headers=OWN_PAGE)
        for cookie, status in ((copied, 401), (other, 200)):  # another browser stays
            locked.cookies.clear()
            assert locked.get("/jobs", headers={"cookie": f"secateur_session={cookie}"}).status_code == status

    def test_local_models_are_for_those_who_are_in(self, locked: TestClient, model_root: Path) -> None:
        (model_root / "a.gguf").write_bytes(b"GGUF")
        assert locked.get("/ui/models", follow_redirects=False).headers["location"] == "/login"
        self.log_in(locked)
        assert "a.gguf" in locked.get("/ui/models").text

    def test_models_that_this_host_cannot_see_are_not_offered(
        self, make_settings: Callable[..., Settings], model_root: Path
    ) -> None:
        (model_root / "a.gguf").write_bytes(b"GGUF")
        with TestClient(create_app(make_settings(check_local=False)), base_url="http://127.0.0.1:8000") as client:
            assert client.get("/ui/models").text.strip() == ""

    def test_logging_in_again_ends_the_session_before(self, locked: TestClient) -> None:
        first = self.log_in(locked)
        assert (
            locked.post("/login", data={"key": self.KEY}, headers=OWN_PAGE, follow_redirects=False).status_code == 303
        )
        assert locked.get("/jobs").status_code == 200
        locked.cookies.clear()
        assert locked.get("/jobs", headers={"cookie": f"secateur_session={first}"}).status_code == 401

    def test_a_session_outlives_a_restart_and_ends_with_its_key(
        self, locked: TestClient, make_settings: Callable[..., Settings]
    ) -> None:
        header = {"cookie": f"secateur_session={self.log_in(locked)}"}
        for keys, status in ((self.KEY, 200), (f"another-key,{self.KEY}", 200), ("another-key", 401)):
            app = create_app(make_settings(api_keys=keys))
            with TestClient(app, base_url="http://127.0.0.1:8000") as restarted:
                assert restarted.get("/jobs", headers=header).status_code == status, keys

    def test_a_session_ends_with_its_time(
        self, make_settings: Callable[..., Settings], sessions: SessionFactory
    ) -> None:
        app = create_app(make_settings(api_keys=self.KEY, session_hours=2))
        with TestClient(app, base_url="http://127.0.0.1:8000") as client:
            self.runs_out(client, sessions)

    def runs_out(self, client: TestClient, sessions: SessionFactory) -> None:
        """Of two hours' session."""
        self.log_in(client)
        for minutes, status in ((119, 200), (2, 401)):
            with unit_of_work(sessions) as session:
                session.execute(
                    text("UPDATE dashboard_sessions SET expires_at = expires_at - make_interval(mins => :minutes)"),
                    {"minutes": minutes},
                )
            assert client.get("/jobs").status_code == status
        self.log_in(client)
        with unit_of_work(sessions) as session:  # what is over is cleared away
            assert session.execute(text("SELECT count(*) FROM dashboard_sessions")).scalar_one() == 1

    def test_the_database_holds_neither_cookie_nor_key(self, locked: TestClient, sessions: SessionFactory) -> None:
        cookie = self.log_in(locked)
        with unit_of_work(sessions) as session:
            row = str(session.execute(text("SELECT * FROM dashboard_sessions")).one())
        assert cookie not in row
        assert self.KEY not in row
        with unit_of_work(sessions) as session:  # who can write there still has no key
            session.execute(text("UPDATE dashboard_sessions SET proof = id"))
        assert locked.get("/jobs").status_code == 401

    def test_behind_tls_the_cookie_is_for_tls_alone(self, make_settings: Callable[..., Settings]) -> None:
        app = create_app(make_settings(api_keys=self.KEY, public_url="https://prune.example"))
        for url, secure in (("http://prune.example", True), ("http://127.0.0.1:8000", False)):
            with TestClient(app, base_url=url) as client:
                response = client.post("/login", data={"key": self.KEY}, follow_redirects=False)
            assert ("secure" in response.headers["set-cookie"].lower()) is secure

    def test_a_made_up_cookie_does_not_open(self, locked: TestClient) -> None:
        for value in ("x", "0" * 64, self.KEY):
            locked.cookies.set("secateur_session", value)
            assert locked.get("/jobs").status_code == 401
            assert locked.get("/ui", follow_redirects=False).status_code == 303


def test_a_data_set_has_a_page_with_its_first_rows(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    chat = b'{"messages": [{"role": "user", "content": "<b>Hi"}, {"role": "assistant", "content": "Hello"}]}\n'
    added = client.post("/datasets", files={"file": ("chat.jsonl", chat)}).json()["id"]
    page = client.get(f"/ui/datasets/{added}").text
    assert "<h2>Its first row</h2>" in page
    assert "<dt>user</dt>" in page
    assert "&lt;b&gt;Hi" in page
    assert f'href="/datasets/{added}/content"' in page
    wrong = client.get(f"/ui/datasets/{added}", params={"model": "nope"}).text
    assert "There is no such model under the model roots" in wrong
    assert "&lt;b&gt;Hi" in wrong
    parts = [{"text": "<|im_start|>user", "learnt": False}, {"text": "Hello", "learnt": True}]
    seen = [{"parts": parts, "tokens": 12, "learnt": 3, "cut": False}]
    monkeypatch.setattr("app.services.dataset_rows._seen", lambda *_: seen)
    through = client.get(f"/ui/datasets/{added}", params={"model": "tiny"}).text
    assert "12 tokens, 3 of them learnt" in through
    assert "&lt;|im_start|&gt;user<mark>Hello</mark>" in through
    for other in (uuid4(), "x"):
        assert client.get(f"/ui/datasets/{other}").status_code == 404


def test_data_sets_are_listed_with_what_a_spec_says_of_them(client: TestClient) -> None:
    assert "No data set yet" in client.get("/ui/datasets").text
    rows = b'{"text": "one"}\n{"text": "two"}\n'
    added = client.post("/datasets", files={"file": ("a <b>.jsonl", rows)}).json()
    page = client.get("/ui/datasets").text
    assert "a &lt;b&gt;.jsonl" in page
    assert f'"id": "{added["id"]}"' in page
    assert f'href="/ui/datasets/{added["id"]}"' in page
    for number in range(26):
        client.post("/datasets", files={"file": (f"{number}.txt", f"text {number}".encode())})
    first = client.get("/ui/datasets").text
    assert first.count("<tr data-id=") == 25
    older = re.search(r'href="(/ui/datasets\?cursor=[^"]+)"', first)
    assert older is not None
    assert client.get(older[1]).text.count("<tr data-id=") == 2
