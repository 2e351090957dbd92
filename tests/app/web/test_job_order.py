"""In which order the list shows jobs."""

from __future__ import annotations

from typing import Any

import pytest

from app.api import examples
from app.web.job_order import JobOrder
from secateur.report.figures import Headline
from secateur.schemas.jobs import Job

METRICS = ["speedup", "kl"]


def job(number: int, **more: Any) -> Job:
    given = {"id": f"019ab8e2-0000-7000-8000-{number:012d}", **more}
    return Job.model_validate({**examples.JOB_QUEUED, **given})


@pytest.mark.parametrize("text", ["", "state", "-", "--speedup", "-submitted", "model;drop"])
def test_an_order_by_no_column_is_the_usual_one(text: str) -> None:
    assert JobOrder.read(text, METRICS) == JobOrder("submitted", down=True)
    assert JobOrder.read(text, METRICS).written == ""


@pytest.mark.parametrize(
    ("column", "first", "then"),
    [
        ("speedup", "-speedup", "speedup"),  # higher is better
        ("kl", "kl", "-kl"),
        ("took", "took", "-took"),
        ("model", "model", "-model"),
        ("submitted", "submitted", ""),  # which it is already
    ],
)
def test_a_heading_leads_to_the_better_end_and_then_to_the_other(column: str, first: str, then: str) -> None:
    once = JobOrder().towards(column)
    assert once == first
    assert JobOrder.read(once, METRICS).towards(column) == then


def test_jobs_without_a_figure_come_last_either_way() -> None:
    jobs = [job(1), job(2), job(3)]
    figures = {
        one.id: {"speedup": Headline("speedup", "Speedup", "", "", number)}
        for one, number in zip(jobs[:2], (1.1, 1.3), strict=True)
    }
    assert JobOrder.read("-speedup", METRICS).applied(jobs, figures) == [jobs[1], jobs[0], jobs[2]]
    assert JobOrder.read("speedup", METRICS).applied(jobs, figures) == jobs


def test_by_name_by_time_and_by_how_long_it_took() -> None:
    times = {"started_at": "2026-11-24T18:30:00Z", "finished_at": "2026-11-25T18:30:05Z"}  # more than a day
    long, short = job(1, model="b", **times), job(2, model="A", **{**times, "finished_at": "2026-11-24T18:40:00Z"})
    waits = job(3, model="c", created_at="2027-01-01T00:00:00Z")
    jobs = [long, short, waits]
    assert JobOrder("model", down=False).applied(jobs, {}) == [short, long, waits]
    assert JobOrder("took", down=False).applied(jobs, {}) == [short, long, waits]
    assert JobOrder("took", down=True).applied(jobs, {}) == [long, short, waits]
    assert JobOrder("submitted", down=True).applied(jobs, {})[0] == waits
