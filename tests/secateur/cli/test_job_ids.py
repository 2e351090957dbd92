"""How a command is told which job: a whole id, how one begins or ends, `@last`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from io import StringIO
from typing import Any
from uuid import UUID

import pytest
from rich.console import Console
from typer.testing import Result

from app.api import examples
from secateur.cli.ids import short
from secateur.cli.render import jobs_table
from secateur.schemas.jobs import JobSummary
from tests.fixtures.answers import JOB, Service

Run = Callable[..., Result]
OTHER = JOB[:-4] + "0000"


def page(*ids: str) -> dict[str, Any]:
    jobs = [{**examples.JOB_CANCELLING, "id": id} for id in ids]
    return {"data": jobs, "has_more": False, "next_cursor": None}


COMMANDS: list[tuple[str, dict[str, Any]]] = [
    ("cancel", {"POST /cancel": examples.JOB_CANCELLING}),
    ("retry", {"POST /retry": examples.JOB_QUEUED}),
    ("artifacts", {"GET /artifacts": {"data": []}}),
]


@pytest.mark.parametrize(("command", "answers"), COMMANDS)
@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        (JOB, None),
        (JOB.replace("-", "").upper(), None),
        (JOB[:13], {"limit": "11", "id": JOB[:13]}),
        (JOB[-8:], {"limit": "11", "id": JOB[-8:]}),
        ("@last", {"limit": "1"}),
    ],
)
def test_a_job_is_named_in_short(
    service: Service, run: Run, command: str, answers: dict[str, Any], typed: str, asked: dict[str, str] | None
) -> None:
    service.answers |= answers | {"GET /jobs": page(JOB)}
    result = run(command, typed)
    assert result.exit_code == 0, result.output
    assert JOB in str(service.requests[-1].url)
    assert [dict(request.url.params) for request in service.requests[:-1]] == ([asked] if asked else [])


def test_several_jobs_that_fit_are_listed(service: Service, run: Run) -> None:
    service.answers["GET /jobs"] = page(JOB, OTHER)
    result = run("cancel", JOB[:8])
    assert result.exit_code == 2
    assert JOB in result.stderr
    assert OTHER in result.stderr
    assert "and more" not in result.stderr
    service.answers["GET /jobs"] = page(*[f"{JOB[:-4]}{number:04x}" for number in range(11)])
    many = run("cancel", JOB[:8]).stderr
    assert many.count(JOB[:8]) == 11  # what was typed, and ten jobs
    assert "and more" in many


def test_no_job_that_fits(service: Service, run: Run) -> None:
    service.answers["GET /jobs"] = page()
    nothing = run("report", "abcd")
    assert (nothing.exit_code, "begins or ends with abcd" in nothing.stderr) == (2, True)
    none_yet = run("watch", "@last")
    assert (none_yet.exit_code, "no job yet" in none_yet.stderr) == (2, True)


@pytest.mark.parametrize("typed", ["abc", "nonsense", "@first", "0" * 33])
def test_what_is_no_job(service: Service, run: Run, typed: str) -> None:
    result = run("gate", typed)
    assert result.exit_code == 2
    assert "@last" in result.output
    assert service.requests == []


@pytest.mark.parametrize(("width", "stage"), [(80, False), (120, True)])
def test_a_list_shows_what_can_be_typed_and_the_whole_model(width: int, stage: bool) -> None:
    model = "HuggingFaceTB/SmolLM2-135M-Instruct"
    job = JobSummary.model_validate({
        **examples.JOB_CANCELLING, "model": model, "state": "cancelling", "verdict": "passed",
    })  # fmt: skip
    text = StringIO()
    table = jobs_table([job], now=datetime(2027, 12, 1, tzinfo=UTC), width=width)
    Console(file=text, width=width).print(table)
    line = next(line for line in text.getvalue().splitlines() if short(UUID(JOB)) in line)
    assert all(word in line for word in (model, "cancelling", "passed", "days"))
    assert ("Stage" in text.getvalue()) == stage
