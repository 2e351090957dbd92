"""`secateur ask`: what each model answers, as it comes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from typer.testing import Result

from app.api import answers, example_specs
from secateur.contract.errors import Conflict
from tests.fixtures.answers import Service, event, finished, stream

Run = Callable[..., Result]
JOB, ANSWER = example_specs.JOB_ID, answers.EXAMPLE_ID


def told(seq: int, type_: str, attempt: int, **data: Any) -> dict[str, Any]:
    return {**event(seq, type_, "answer", **data), "attempt": attempt}


def figures(variant: str, **changes: Any) -> dict[str, Any]:
    return {"variant": variant, "tokens": 17, "tokens_per_second": 19.44, "ended": "end", **changes}


EVENTS = [
    told(1, "text", 1, variant="original", text="", tokens=0),
    told(2, "text", 1, variant="original", text="Lost", tokens=1),
    told(3, "text", 2, variant="original", text="Air [scatters] ", tokens=4),
    told(4, "text", 2, variant="original", text="light.", tokens=17),
    told(5, "metrics", 2, **figures("original")),
    told(6, "text", 2, variant="recovered", text="Blue.", tokens=1),
    told(7, "metrics", 2, **figures("recovered", tokens=1, tokens_per_second=None, ended="length")),
    event(8, "state", state="succeeded"),
]


@pytest.fixture
def asked(service: Service) -> Service:
    """A service whose job answers."""
    service.answers["POST /answers"] = httpx.Response(202, json=answers.ASKED)
    service.answers[f"GET /jobs/{ANSWER}/events"] = stream(*EVENTS)
    service.answers[f"GET /jobs/{ANSWER}"] = {**finished(last=len(EVENTS)), "id": ANSWER}
    service.answers[f"GET /answers/{ANSWER}"] = httpx.Response(200, json=answers.EXAMPLE)
    return service


def test_answers_are_shown_as_they_come(asked: Service, run: Run) -> None:
    result = run("ask", JOB, "Why?", "--max-tokens", "64", "--variant", "original", "--variant", "recovered")
    assert result.exit_code == 0, result.output
    sent = next(json.loads(request.content) for request in asked.requests if request.method == "POST")
    assert sent == {"prompt": "Why?", "max_tokens": 64, "variants": ["original", "recovered"], "chat": True}
    assert "another one begins again" in result.stdout
    shown = result.stdout.partition("begins again")[2].split("\n")
    assert [line for line in shown if line] == [
        "original",
        "Air [scatters] light.",
        "17 tokens, 19.4 a second",
        "recovered",
        "Blue.",
        "1 token; cut at its most tokens",
    ]


def test_the_whole_answer_as_json_and_the_prompt_from_the_standard_input(asked: Service, run: Run) -> None:
    result = run("ask", JOB, "-", "--json", "--no-chat", "--temperature", "0.7", input="Why?\n")
    assert json.loads(result.stdout) == answers.EXAMPLE
    sent = next(json.loads(request.content) for request in asked.requests if request.method == "POST")
    assert sent == {"prompt": "Why?\n", "temperature": 0.7, "chat": False}


def test_a_job_that_cannot_be_asked(service: Service, run: Run) -> None:
    error: Conflict = answers.NOT_OVER
    service.answers["POST /answers"] = httpx.Response(409, json=error.to_problem())
    result = run("ask", JOB, "Why?")
    assert (result.exit_code, "is running" in result.stderr) == (2, True), result.stderr
