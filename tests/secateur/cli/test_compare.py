"""`secateur compare`."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest
from typer.testing import Result

from app.api import example_errors, example_results
from app.api.example_specs import OTHER_JOB_ID
from secateur.contract.comparison import compare_reports
from secateur.contract.errors import ServiceError
from tests.fixtures.answers import JOB, Service
from tests.fixtures.reports import make_one

Run = Callable[..., Result]


ASKED = f"GET /compare/{OTHER_JOB_ID}"


def test_two_jobs_as_tables(service: Service, run: Run) -> None:
    service.answers[ASKED] = example_results.COMPARISON
    result = run("compare", JOB, OTHER_JOB_ID)
    assert result.exit_code == 0, result.output
    for words in ("/pruning/blocks", "2,890,240", "2,626,048", "−9.1 %", "other is better", "1.22 to 1.28"):
        assert words in result.stdout
    assert "Not compared" not in result.stdout


def test_what_is_not_compared_and_what_to_mind(service: Service, run: Run) -> None:
    other = make_one(labels={"branch": "[red]x\n/y"}, seed=3)
    machine = other.benchmarks.environment.model_copy(update={"threads": 64})
    other = other.model_copy(update={"benchmarks": other.benchmarks.model_copy(update={"environment": machine})})
    found = compare_reports(make_one(), other)
    service.answers[ASKED] = found.model_dump(mode="json")
    result = run("compare", JOB, OTHER_JOB_ID)
    assert result.exit_code == 0, result.output
    for words in ("Not compared", "different machines", "note: ", "/labels/branch", "[red]x", "against its original"):
        assert words in result.stdout
    assert "intervals overlap" not in result.stdout  # all are equal


def test_jobs_that_were_asked_the_same(service: Service, run: Run) -> None:
    service.answers[ASKED] = compare_reports(make_one(), make_one()).model_dump(mode="json")
    assert "Both were asked the same." in run("compare", JOB, OTHER_JOB_ID).stdout


def test_a_comparison_as_json(service: Service, run: Run) -> None:
    service.answers[ASKED] = example_results.COMPARISON
    assert json.loads(run("compare", JOB, OTHER_JOB_ID, "--json").stdout) == example_results.COMPARISON


@pytest.mark.parametrize("error", [example_errors.NO_JOB, example_errors.NOT_COMPARABLE, example_errors.SAME_JOB])
def test_refusals_are_usage(service: Service, run: Run, error: ServiceError) -> None:
    service.answers[ASKED] = httpx.Response(error.status, json=error.to_problem())
    result = run("compare", JOB, OTHER_JOB_ID)
    assert result.exit_code == 2
    assert error.detail in result.stderr.replace("\n", " ")


def test_an_id_that_is_none_is_usage(run: Run) -> None:
    for ids in (("7", OTHER_JOB_ID), (JOB, "seven")):
        result = run("compare", *ids)
        assert result.exit_code == 2
        assert "is no job" in result.stderr
