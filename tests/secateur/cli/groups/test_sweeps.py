"""`secateur sweeps`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx
from typer.testing import Result

from app.api import example_sweeps as sweeps
from tests.fixtures.answers import Service
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


def test_a_sweep_that_there_is_not(service: Service, run: Run) -> None:
    service.answers["GET /sweeps"] = sweeps.EXAMPLE_PAGE
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
