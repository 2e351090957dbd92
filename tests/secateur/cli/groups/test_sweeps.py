"""`secateur sweeps`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import Result

from app.api import example_sweeps as sweeps
from app.api.example_sweeps import EXAMPLE
from tests.fixtures.answers import Service
from tests.fixtures.forge import Forge
from tests.fixtures.sweep_reports import swept, usual

Run = Callable[..., Result]
ID = sweeps.SWEEP_ID


def test_list(service: Service, run: Run) -> None:
    service.answers["GET /sweeps"] = sweeps.EXAMPLE_PAGE
    result = run("sweeps", "list")
    assert result.exit_code == 0, result.output
    for words in (ID[-8:], "running", "4 queued, 1 running, 1 succeeded"):
        assert words in result.stdout
    assert json.loads(run("sweeps", "list", "--json").stdout)["id"] == ID
    service.answers["GET /sweeps"] = {"data": [], "has_more": False}
    assert run("sweeps", "list").stdout == "no sweeps\n"


def test_show_by_how_its_id_ends(service: Service, run: Run) -> None:
    service.answers |= {"GET /sweeps": sweeps.EXAMPLE_PAGE, f"GET /sweeps/{ID}": sweeps.EXAMPLE}
    for name in (ID, ID[-8:], ID[:8], "@last"):
        result = run("sweeps", "show", name)
        assert result.exit_code == 0, result.output
        assert f"sweep {ID} is running" in result.stderr
        for words in ("pruning.blocks 3, scoring.criterion taylor", "2/6", "recover"):
            assert words in result.stdout
    assert json.loads(run("sweeps", "show", ID, "--json").stdout)["points"][1]["running"] == ["recover"]


def test_the_service_finds_it(service: Service, run: Run) -> None:
    service.answers |= {"GET /sweeps": sweeps.EXAMPLE_PAGE, f"GET /sweeps/{ID}": sweeps.EXAMPLE}
    run("sweeps", "show", ID[-8:])
    assert dict(service.requests[0].url.params) == {"limit": "11", "id": ID[-8:]}


def test_a_sweep_that_there_is_not(service: Service, run: Run) -> None:
    service.answers["GET /sweeps"] = {"data": [], "has_more": False}
    for name, says in (("abcd1234", "no sweep has an id"), ("x", "is no sweep")):
        result = run("sweeps", "show", name)
        assert result.exit_code == 2
        assert says in result.stderr


def test_an_id_of_several_sweeps(service: Service, run: Run) -> None:
    other = {**sweeps.EXAMPLE, "id": f"{ID[:-1]}6"}
    service.answers["GET /sweeps"] = {**sweeps.EXAMPLE_PAGE, "data": [sweeps.EXAMPLE, other]}
    result = run("sweeps", "show", ID[:8])
    assert result.exit_code == 2
    assert "several sweeps" in result.stderr
    assert other["id"] in result.stderr


def test_cancel_retry_and_delete(service: Service, run: Run) -> None:
    service.answers |= {
        f"POST /sweeps/{ID}/cancel": {**sweeps.EXAMPLE, "state": "cancelling"},
        f"POST /sweeps/{ID}/retry": httpx.Response(202, json=sweeps.EXAMPLE),
        f"DELETE /sweeps/{ID}": httpx.Response(204),
    }
    assert "is cancelling" in run("sweeps", "cancel", ID).stderr
    assert json.loads(run("sweeps", "retry", ID, "--json").stdout)["id"] == ID
    assert f"sweep {ID} is deleted" in run("sweeps", "delete", ID).stderr
    assert json.loads(run("sweeps", "delete", ID, "--json").stdout) == {"id": ID, "deleted": True}
    service.answers[f"POST /sweeps/{ID}/retry"] = httpx.Response(409, json=sweeps.NOT_RETRIABLE.to_problem())
    result = run("sweeps", "retry", ID)
    assert result.exit_code == 2
    assert "none to retry" in result.stderr


def test_report_as_a_table(service: Service, run: Run) -> None:
    service.answers[f"GET /sweeps/{ID}/report"] = swept(usual()).model_dump(mode="json")
    result = run("sweeps", "report", ID, "--x", "parameters", "--y", "kl")
    assert result.exit_code == 0, result.output
    assert dict(service.requests[-1].url.params) == {"x": "parameters", "y": "kl"}
    for words in ("Point 2 passes all gates", "recommended", "dominated by 4", "1.24×", "note: Point 7 has failed"):
        assert words in result.stdout


def test_report_in_a_form(service: Service, run: Run, tmp_path: Path) -> None:
    service.answers[f"GET /sweeps/{ID}/report text/csv"] = httpx.Response(200, text="point,job")
    assert run("sweeps", "report", ID, "-f", "csv").stdout == "point,job\n"
    file = tmp_path / "sweep.csv"
    assert run("sweeps", "report", ID, "-f", "csv", "-o", str(file)).exit_code == 0
    assert file.read_text() == "point,job"
    for wrong in (("-f", "pdf"), ("-o", "x")):
        assert run("sweeps", "report", ID, *wrong).exit_code == 2


def over(state: str, *, succeeded: bool = True) -> dict[str, Any]:
    points = [{**point, "state": "succeeded" if succeeded else state, "running": []} for point in EXAMPLE["points"]]
    return {**EXAMPLE, "state": state, "points": points}


@pytest.mark.parametrize(("state", "code"), [("succeeded", 0), ("failed", 20), ("cancelled", 21)])
def test_watch_ends_as_the_sweep_does(service: Service, run: Run, state: str, code: int) -> None:
    told = {name: over(state)[name] for name in ("id", "state", "verdict", "counts", "finished_at", "points")}
    text = f"event: sweep\ndata: {json.dumps(told)}\n\n"
    service.answers |= {
        f"GET /sweeps/{ID}": EXAMPLE,
        f"GET /sweeps/{ID}/events": httpx.Response(200, text=text, headers={"content-type": "text/event-stream"}),
    }
    result = run("sweeps", "watch", ID, "--json")
    assert result.exit_code == code, result.output
    assert json.loads(result.stdout)["state"] == state
    lines = result.stderr.splitlines()
    assert "point 1 (pruning.blocks 3, scoring.criterion taylor): running, recover" in lines
    assert "point 5 (pruning.blocks 9, scoring.criterion taylor): succeeded" in lines


@pytest.mark.parametrize(
    ("state", "verdict", "code"),
    [("succeeded", "passed", 0), ("failed", "passed", 0), ("succeeded", "failed", 10), ("succeeded", "none", 11)],
)
def test_gate(service: Service, run: Run, state: str, verdict: str, code: int) -> None:
    recommended = sweeps.VERDICT["recommended"] if verdict == "passed" else None
    told = {**sweeps.VERDICT, "verdict": verdict, "recommended": recommended}
    service.answers |= {f"GET /sweeps/{ID}": over(state), f"GET /sweeps/{ID}/verdict": told}
    result = run("sweeps", "gate", ID)
    assert result.exit_code == code, result.output
    assert result.stdout == (f"{recommended['job_id']}\n" if recommended else "")
    assert sweeps.VERDICT["why"] in result.stderr.replace("\n", " ")


@pytest.mark.parametrize(("state", "code"), [("failed", 20), ("cancelled", 21)])
def test_gate_of_a_sweep_without_any_report(service: Service, run: Run, state: str, code: int) -> None:
    service.answers[f"GET /sweeps/{ID}"] = over(state, succeeded=False)
    assert run("sweeps", "gate", ID).exit_code == code


def test_gate_within_github(service: Service, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {**sweeps.VERDICT, "verdict": "failed", "recommended": None, "why": "None of 6 passes."}
    service.answers |= {
        f"GET /sweeps/{ID}": over("succeeded"),
        f"GET /sweeps/{ID}/verdict": told,
        f"GET /sweeps/{ID}/report text/markdown": httpx.Response(200, text="## the report"),
    }
    assert run("sweeps", "gate", ID, "--summary").exit_code == 2
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    result = run("sweeps", "gate", ID, "--summary")
    assert result.exit_code == 10
    assert "::error title=no point passes::None of 6 passes." in result.stdout
    assert (tmp_path / "summary.md").read_text() == "## the report\n"


def test_gate_as_json(service: Service, run: Run) -> None:
    for verdict, code in (("passed", 0), ("failed", 10), ("none", 11)):
        recommended = sweeps.VERDICT["recommended"] if verdict == "passed" else None
        told = {**sweeps.VERDICT, "verdict": verdict, "recommended": recommended}
        service.answers |= {f"GET /sweeps/{ID}": over("succeeded"), f"GET /sweeps/{ID}/verdict": told}
        result = run("sweeps", "gate", ID, "--json")
        assert result.exit_code == code, result.output
        said = json.loads(result.stdout)
        assert (said["sweep_id"], said["verdict"]) == (ID, verdict)
        assert (said["recommended"] or {}).get("job_id") == (recommended or {}).get("job_id")


def test_gate_writes_junit_and_comments(
    service: Service, run: Run, tmp_path: Path, forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the code of a job's gate, whose tests say the rest."""
    for name, value in {
        "GITLAB_CI": "true",
        "CI_API_V4_URL": forge.url,
        "CI_PROJECT_ID": "3",
        "CI_MERGE_REQUEST_IID": "5",
        "GITLAB_TOKEN": forge.token,
    }.items():
        monkeypatch.setenv(name, value)
    service.answers |= {
        f"GET /sweeps/{ID}": over("succeeded"),
        f"GET /sweeps/{ID}/verdict": sweeps.VERDICT,
        f"GET /sweeps/{ID}/report text/markdown": httpx.Response(200, text="## the report"),
        f"GET /sweeps/{ID}/report application/xml": httpx.Response(200, text="<testsuites/>"),
    }
    assert run("sweeps", "gate", ID, "--comment", "--junit", str(tmp_path / "out" / "gates.xml")).exit_code == 0
    assert (tmp_path / "out" / "gates.xml").read_text() == "<testsuites/>"
    (note,) = forge.comments["/projects/3/merge_requests/5/notes"]
    assert note["body"].endswith("## the report")
    service.answers[f"GET /sweeps/{ID}"] = over("failed", succeeded=False)
    assert run("sweeps", "gate", ID, "--comment").exit_code == 20
    (note,) = forge.comments["/projects/3/merge_requests/5/notes"]
    assert f"## ❌ Sweep failed\n\n```text\n{ID}: no point has a report\n```" in note["body"]


def test_a_wait_that_is_none(run: Run) -> None:
    for command in ("watch", "gate"):
        assert run("sweeps", command, ID, "--timeout", "soon").exit_code == 2
