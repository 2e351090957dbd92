"""`secateur logs`: what was logged so far, and what comes until the job is over."""

from __future__ import annotations

import json
from collections.abc import Callable

from typer.testing import Result

from tests.fixtures.answers import JOB, Service, event, finished, stream

Run = Callable[..., Result]

LINES = [
    {**event(1, "log", "score"), "message": "30 blocks [of] llama"},
    {**event(4, "log", "prune"), "level": "warning", "message": "slow"},
]


def test_lines_that_are_there(service: Service, run: Run) -> None:
    service.answers["GET /logs"] = {"data": LINES, "has_more": False, "next_after": 4}
    assert run("logs", JOB).stdout.splitlines() == [
        "18:30:01 score: 30 blocks [of] llama",
        "18:30:04 prune: warning: slow",
    ]
    assert [json.loads(line)["message"] for line in run("logs", JOB, "--json").stdout.splitlines()] == [
        "30 blocks [of] llama",
        "slow",
    ]


def test_follow_prints_the_log_alone_until_the_job_is_over(service: Service, run: Run) -> None:
    service.answers["GET /job"] = finished(last=4)
    service.answers["GET /events"] = stream(
        event(1, "log", "score", message="30 blocks"),
        event(2, "state", "score", state="succeeded"),
        event(3, "progress", "prune", done=1, total=2, unit="blocks"),
        event(4, "log", message="done"),
    )
    result = run("logs", JOB, "-f")
    assert (result.exit_code, result.stdout) == (0, "18:30:01 score: 30 blocks\n18:30:04 job: done\n")
    line = json.loads(run("logs", JOB, "--follow", "--json").stdout.splitlines()[0])
    assert (line["seq"], line["stage"], line["message"]) == (1, "score", "30 blocks")
