"""`secateur gate --comment`: one comment on a pull or merge request, renewed, and no trouble of its verdict."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from typer.testing import Result

from app.api import example_results
from secateur.cli.forges import COMMENT_LIMIT, PAGE, as_code
from tests.fixtures.answers import JOB, Service, event, finished, stream
from tests.fixtures.forge import Forge

Run = Callable[..., Result]
ON_GITHUB = "/repos/team/models/issues/7/comments"
ON_GITLAB = "/projects/21/merge_requests/5/notes"


@pytest.fixture
def report(service: Service) -> Service:
    """A job that passed, whose report reads "# Report"."""
    service.answers["GET /job"] = finished()
    service.answers["GET /events"] = stream(event(3, "state", state="succeeded"))
    service.answers["GET /report"] = example_results.REPORT
    service.answers["GET /report text/markdown"] = httpx.Response(200, text="# Report\n")
    return service


@pytest.fixture
def github(forge: Forge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Forge:
    (tmp_path / "event.json").write_text(json.dumps({"pull_request": {"number": 7}}))
    for name, value in {
        "GITHUB_ACTIONS": "true",
        "GITHUB_API_URL": forge.url,
        "GITHUB_REPOSITORY": "team/models",
        "GITHUB_EVENT_PATH": str(tmp_path / "event.json"),
        "GITHUB_WORKFLOW": "checks",
        "GITHUB_JOB": "compression",
        "GITHUB_TOKEN": forge.token,
    }.items():
        monkeypatch.setenv(name, value)
    return forge


@pytest.fixture
def gitlab(forge: Forge, monkeypatch: pytest.MonkeyPatch) -> Forge:
    for name, value in {
        "GITLAB_CI": "true",
        "CI_API_V4_URL": forge.url,
        "CI_PROJECT_ID": "3",
        "CI_MERGE_REQUEST_PROJECT_ID": "21",
        "CI_MERGE_REQUEST_IID": "5",
        "CI_JOB_NAME": "compression",
        "GITLAB_TOKEN": forge.token,
    }.items():
        monkeypatch.setenv(name, value)
    return forge


def test_github_has_one_comment_which_every_run_renews(report: Service, run: Run, github: Forge) -> None:
    github.comments[ON_GITHUB] = [{"id": number, "body": "a person's"} for number in range(1, PAGE + 8)]
    assert run("gate", JOB, "--comment").exit_code == 0
    report.answers["GET /report text/markdown"] = httpx.Response(200, text="# Later\n")
    assert run("gate", JOB, "--comment").exit_code == 0
    assert github.wrote == [("POST", ON_GITHUB), ("PATCH", f"/repos/team/models/issues/comments/{PAGE + 8}")]
    *others, ours = [comment["body"] for comment in github.comments[ON_GITHUB]]
    assert set(others) == {"a person's"}
    mark, text = ours.split("\n", 1)
    assert mark.startswith("<!-- secateur ")
    assert text == "# Later\n"


def test_another_job_of_the_pipeline_has_its_own(
    report: Service, run: Run, github: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("gate", JOB, "--comment")
    monkeypatch.setenv("GITHUB_JOB", "another")
    run("gate", JOB, "--comment")
    report.answers["GET /job"] = finished(model="another/model")
    run("gate", JOB, "--comment")
    assert len(github.comments[ON_GITHUB]) == 3


def test_gitlab_has_a_note(report: Service, run: Run, gitlab: Forge) -> None:
    for _ in range(2):
        assert run("gate", JOB, "--comment").exit_code == 0
    assert gitlab.wrote == [("POST", ON_GITLAB), ("PUT", f"{ON_GITLAB}/1")]


def test_a_failed_job_is_commented_on_in_words_that_cannot_be_markup(service: Service, run: Run, github: Forge) -> None:
    problem = {"type": "about:blank", "title": "Refused", "status": 422, "detail": "```\n@everyone <img>"}
    service.answers["GET /job"] = finished("failed", problem=problem)
    service.answers["GET /events"] = stream(event(3, "state", state="failed"))
    assert run("gate", JOB, "--comment").exit_code == 20
    (comment,) = github.comments[ON_GITHUB]
    assert comment["body"].endswith(f"## ❌ Compression job failed\n\n````text\n{JOB}: ```\n@everyone <img>\n````\n")


def test_a_fence_is_longer_than_what_it_holds() -> None:
    assert as_code("a") == "```text\na\n```"
    assert as_code("`````") == "``````text\n`````\n``````"


@pytest.mark.parametrize("status", [403, 500])
def test_a_forge_that_refuses_changes_no_verdict(report: Service, run: Run, github: Forge, status: int) -> None:
    github.refuses = status
    result = run("gate", JOB, "--comment")
    assert result.exit_code == 0
    assert f"127.0.0.1 answered {status}: Resource not accessible by integration" in result.stderr
    assert "::warning title=no comment::" in result.stdout


def test_a_forge_that_is_not_there_changes_no_verdict(
    report: Service, run: Run, github: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_API_URL", "http://127.0.0.1:9")
    result = run("gate", JOB, "--comment")
    assert result.exit_code == 0
    assert "could not be written: ConnectError" in result.stderr


def test_a_run_of_no_request_has_nothing_to_comment_on(
    report: Service, run: Run, github: Forge, tmp_path: Path
) -> None:
    (tmp_path / "event.json").write_text(json.dumps({"ref": "refs/heads/main"}))
    result = run("gate", JOB, "--comment")
    assert result.exit_code == 0
    assert "runs for no pull or merge request" in result.stderr
    assert github.wrote == []


def test_without_a_token_or_a_pipeline_it_is_usage(
    report: Service, run: Run, github: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GITHUB_TOKEN")
    result = run("gate", JOB, "--comment")
    assert result.exit_code == 2
    assert "GITHUB_TOKEN must hold a token" in result.stderr
    monkeypatch.delenv("GITHUB_ACTIONS")
    monkeypatch.delenv("GITLAB_CI", raising=False)
    assert run("gate", JOB, "--comment").exit_code == 2
    monkeypatch.setenv("GITLAB_CI", "true")
    assert "GITLAB_TOKEN must hold" in run("gate", JOB, "--comment").stderr


def test_a_long_report_is_cut(report: Service, run: Run, github: Forge) -> None:
    report.answers["GET /report text/markdown"] = httpx.Response(200, text="x" * 70_000)
    run("gate", JOB, "--comment")
    (comment,) = github.comments[ON_GITHUB]
    assert COMMENT_LIMIT < len(comment["body"]) < 65_536
    assert comment["body"].endswith("(cut: a comment holds 65,000 characters)\n")
