"""`secateur publish`: what it prints, what it ends with, and that no token is shown."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from typer.testing import Result

from secateur.cli import publish
from secateur.client.publishing.target import FORMS
from tests.fixtures.answers import JOB, Service, finished
from tests.fixtures.finished_jobs import a_report, its_files
from tests.fixtures.pushed_hub import READ_ONLY, PushedHub

Run = Callable[..., Result]


@pytest.fixture
def service(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    """With one finished job."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    report = a_report()
    files = its_files(report)
    service.answers |= {
        "GET /job": finished(),
        "GET /report": report.model_dump(mode="json"),
        "GET /artifacts": {"data": [_listed(path, content) for path, content in files.items()]},
    }
    service.answers |= {f"GET /artifacts/{path}": httpx.Response(200, content=body) for path, body in files.items()}
    return service


def _listed(path: str, content: bytes) -> dict[str, object]:
    return {
        "path": path,
        "stage": path.partition("/")[0],
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "content_type": "application/octet-stream",
        "created_at": "2026-11-24T18:30:00Z",
    }


@pytest.mark.usefixtures("service")
def test_it_tells_where_the_result_is(run: Run, pushed_hub: PushedHub, tmp_path: Path) -> None:
    asked = ("publish", JOB, "--to", "hub:team/small", "--to", "hub:team/copy", "--folder", str(tmp_path / "kept"))
    done = run(*asked)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{pushed_hub.url}/team/small\n{pushed_hub.url}/team/copy\n"
    assert "published: " in done.stderr
    again = run(*asked, "--json", "--public", "--variant", "recovered")
    small, copy = (json.loads(line) for line in again.stdout.splitlines())
    head = pushed_hub.repositories["team/small"].heads["main"]
    url = f"{pushed_hub.url}/team/small"
    assert small == {"target": "hub:team/small", "url": url, "version": head, "changed": False}
    assert not copy["changed"]


def test_the_help_names_every_target() -> None:
    assert publish.FORMS == FORMS


@pytest.mark.usefixtures("pushed_hub")
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--to", "s3:bucket"), 2, "there is no target 's3:bucket': write one of hub:ORG/NAME"),
        (("--to", "hub:team/small", "--variant", "int8"), 2, "has no variant 'int8'; it has pruned, recovered"),
        (("--to", "hub:strangers/small"), 40, "may not write to strangers/small"),
    ],
)
def test_what_is_refused(service: Service, run: Run, arguments: tuple[str, ...], code: int, words: str) -> None:
    done = run("publish", JOB, *arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    assert words in done.stderr


def test_the_end_of_a_job_decides(service: Service, run: Run, pushed_hub: PushedHub) -> None:
    asked = ("publish", JOB, "--to", "hub:team/small")
    for state, code in (("running", 2), ("failed", 20), ("cancelled", 21)):
        service.answers["GET /job"] = finished(state)
        assert run(*asked).exit_code == code
    service.answers["GET /job"] = finished()
    service.answers["GET /report"] = a_report(gates={"max_kl": 0.01}).model_dump(mode="json")
    refused = run(*asked)
    assert refused.exit_code == 10
    assert "--even-if-failed publishes it all the same" in refused.stderr
    assert pushed_hub.repositories == {}
    assert run(*asked, "--even-if-failed").exit_code == 0


@pytest.mark.usefixtures("service", "pushed_hub")
def test_a_cache_that_cannot_be_written_to(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    done = run("publish", JOB, "--to", "hub:team/small")
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"error: {tmp_path / 'file'}" in done.stderr


@pytest.mark.usefixtures("service", "pushed_hub")
def test_a_token_is_never_shown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", READ_ONLY)
    done = run("publish", JOB, "--to", "hub:team/small")
    assert done.exit_code == 40
    assert READ_ONLY not in done.output
    assert READ_ONLY not in run("publish", JOB, "--to", f"hub:{READ_ONLY}/x/y").output
