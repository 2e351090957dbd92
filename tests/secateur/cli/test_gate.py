"""`secateur gate`: every exit code, and what a pipeline gets to see."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import Result

from app.api import example_errors, example_results
from secateur.cli.forges import SUMMARY_LIMIT, append_summary
from tests.fixtures.answers import JOB, Service, event, finished, stream

Run = Callable[..., Result]

FAILED_GATE = {
    **example_results.REPORT["gates"][0],
    "gate": "max_kl",
    "passed": False,
    "message": "KL divergence on news is 0.9, above 0.5",
}


def over(service: Service, state: str, **more: Any) -> None:
    service.answers["GET /job"] = finished(state, **more)
    service.answers["GET /events"] = stream(event(1, "state", state="running"), event(3, "state", state=state))


def reports(service: Service, verdict: str, *gates: dict[str, Any]) -> None:
    service.answers["GET /report"] = {**example_results.REPORT, "verdict": verdict, "gates": list(gates)}


def test_passed_is_0(service: Service, run: Run) -> None:
    over(service, "succeeded")
    reports(service, "passed", *example_results.REPORT["gates"])
    result = run("gate", JOB)
    assert result.exit_code == 0, result.output
    assert "speedup (batch 1, 12 + 16 tokens) is 1.25" in result.stdout


def test_json_has_the_verdict_and_every_gate(service: Service, run: Run) -> None:
    over(service, "succeeded")
    cases: list[tuple[str, list[dict[str, Any]], int]] = [
        ("passed", [], 0),
        ("failed", [FAILED_GATE], 10),
        ("none", [], 11),
    ]
    for verdict, gates, code in cases:
        reports(service, verdict, *gates)
        result = run("gate", JOB, "--json")
        assert result.exit_code == code
        told = json.loads(result.stdout)
        assert (told["verdict"], [gate["gate"] for gate in told["gates"]]) == (
            verdict,
            [gate["gate"] for gate in gates],
        )


def test_no_gate_is_11_and_says_so(service: Service, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    over(service, "succeeded")
    reports(service, "none")
    result = run("gate", JOB)
    assert result.exit_code == 11
    assert "The job has no gates" in result.stderr
    assert "::error title=no gates::The job has no gates" in result.stdout


def test_a_failed_gate_is_10(service: Service, run: Run) -> None:
    over(service, "succeeded")
    reports(service, "failed", FAILED_GATE)
    result = run("gate", JOB)
    assert result.exit_code == 10
    assert "KL divergence on news is 0.9, above 0.5" in result.stdout
    assert "::error" not in result.stdout


def test_a_failed_job_is_20_with_its_problem(service: Service, run: Run) -> None:
    problem = {
        "type": "about:blank",
        "title": "Checkpoint cannot be used",
        "status": 422,
        "detail": "model.bin is a pickle",
        "stage": "score",
        "errors": [{"pointer": "/model/path", "detail": "a pickle", "value": "model.bin", "expected": "safetensors"}],
    }
    over(service, "failed", problem=problem)
    result = run("gate", JOB)
    assert result.exit_code == 20
    assert "in stage score: model.bin is a pickle" in result.stderr
    assert "/model/path a pickle (given: 'model.bin'); expected: safetensors" in result.stderr


def test_a_cancelled_job_is_21(service: Service, run: Run) -> None:
    over(service, "cancelled")
    assert run("gate", JOB).exit_code == 21


def test_a_wait_that_is_too_long_is_30(service: Service, run: Run) -> None:
    service.answers["GET /job"] = finished("running", last=9)
    service.answers["GET /events text/event-stream"] = stream(event(1, "state", state="running"))
    service.answers["GET /events"] = {"data": [], "has_more": False, "next_after": 1}
    result = run("gate", JOB, "--timeout", "0.2s")
    assert result.exit_code == 30
    assert "it goes on" in result.stderr


@pytest.mark.parametrize("status", [401, 403, 503])
def test_key_and_service_trouble_is_40(service: Service, run: Run, status: int) -> None:
    body = {"type": "about:blank", "title": "Trouble", "status": status, "detail": "the key is wrong"}
    service.answers["GET /job"] = httpx.Response(status, json=body)
    result = run("gate", JOB)
    assert result.exit_code == 40
    assert "Trouble: the key is wrong" in result.stderr


def test_no_answer_is_40_and_says_how_to_start_one(service: Service, run: Run) -> None:
    result = run("gate", JOB)
    assert result.exit_code == 40
    assert "http://service does not answer" in result.stderr
    assert "secateur up" in result.stderr


def test_another_programs_answer_is_40(service: Service, run: Run) -> None:
    service.answers["GET /job"] = httpx.Response(200, text="<html>Welcome to nginx</html>")
    result = run("gate", JOB)
    assert result.exit_code == 40
    assert "does not answer as a service" in result.stderr


def test_usage_is_2(service: Service, run: Run) -> None:
    assert run("gate", "no-id").exit_code == 2
    assert run("gate", JOB, "--timeout", "soon").exit_code == 2
    assert run("gate", JOB, "--summary").exit_code == 2  # no file to write to
    service.answers["GET /job"] = httpx.Response(404, json={**example_errors.NO_JOB.to_problem()})
    assert run("gate", JOB).exit_code == 2


def test_github_gets_annotations_summary_and_junit(
    service: Service, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    (tmp_path / "summary.md").write_text("# Before\n")
    over(service, "succeeded")
    reports(service, "failed", {**FAILED_GATE, "message": "KL is 90%\nof: much"})
    service.answers["GET /report text/markdown"] = httpx.Response(200, text="# Report")
    service.answers["GET /report application/xml"] = httpx.Response(200, text="<testsuites/>")
    result = run("gate", JOB, "--summary", "--junit", str(tmp_path / "out" / "gates.xml"))
    assert result.exit_code == 10
    assert "::error title=gate max_kl::KL is 90%25%0Aof: much" in result.stdout.splitlines()
    assert (tmp_path / "summary.md").read_text() == "# Before\n# Report\n"
    assert (tmp_path / "out" / "gates.xml").read_text() == "<testsuites/>"


def test_a_summary_is_cut_at_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "summary.md"
    path.write_text("x" * 1000)
    append_summary(path, "é" * SUMMARY_LIMIT)
    assert path.stat().st_size <= SUMMARY_LIMIT
    assert path.read_text(encoding="utf-8").endswith("(cut: a step summary holds 1.05 MB)\n")
