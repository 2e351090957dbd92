"""`secateur sweeps`."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
from typer.testing import Result

from app.api import sweeps
from tests.fixtures.answers import Service

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
