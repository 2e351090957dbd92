"""A result that is held against an earlier job's: which job that is, and what of it is seen when it is submitted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from app.db import jobs
from app.db.baselines import baseline_of
from app.db.session import SessionFactory, unit_of_work
from app.db.tables.jobs import Job
from secateur.contract.options.baseline import Baseline
from secateur.contract.stage_kinds import REPORT
from tests.fixtures.played_worker import PlayedWorker
from workers.supervision import assignment

Submit = Callable[..., dict[str, Any]]
MAIN = {"branch": "main", "team": "a"}
USUAL = {"label": {"branch": "main"}, "max_regression": {"speedup": 0.05}}


@pytest.fixture
def passed(submit: Submit, worker: PlayedWorker) -> Callable[..., str]:
    """Makes a job with labels that has passed its gates."""

    def make(**labels: str) -> str:
        job = str(submit(labels=labels, benchmark={"samples": None})["id"])
        worker.finish(job, {REPORT.name: {REPORT.file: b"{}", "report.html": b""}})
        return job

    return make


def test_it_is_the_last_job_with_all_labels_that_passed(
    submit: Submit, passed: Callable[..., str], worker: PlayedWorker, sessions: SessionFactory
) -> None:
    older, newer, other, failed = passed(**MAIN), passed(**MAIN), passed(branch="next"), passed(**MAIN)
    submit(labels=MAIN)  # which waits
    with unit_of_work(sessions) as session:
        session.execute(update(Job).where(Job.id == UUID(failed)).values(verdict="failed"))

    def found(label: dict[str, str], before: str | None = None) -> str | None:
        baseline = Baseline(label=label, max_regression={"kl": 0.1})
        with unit_of_work(sessions) as session:
            job = baseline_of(session, baseline, before=UUID(before) if before else None)
            return None if job is None else str(job.id)

    assert found({"branch": "main"}) == found(MAIN) == newer
    assert found({"branch": "main"}, before=newer) == older
    assert found({"branch": "main"}, before=older) is None
    assert found({"branch": "next"}) == other
    assert found({"branch": "main", "team": "b"}) is None


def test_the_report_stage_is_handed_its_report(
    submit: Submit, passed: Callable[..., str], worker: PlayedWorker, sessions: SessionFactory, client: TestClient
) -> None:
    earlier = passed(**MAIN)
    job = submit(labels=MAIN, baseline=USUAL)
    passed(**MAIN)  # later than the job, so it does not count
    claim = worker.reach(job["id"], REPORT.name)
    with unit_of_work(sessions) as session:
        loaded = assignment.load(session, claim)
        assert loaded is not None
        given = loaded.inputs[assignment.BASELINE]
    assert given.kind == REPORT.name
    with unit_of_work(sessions) as session:
        outputs = {stage.kind: stage.output for stage in jobs.get(session, UUID(earlier)).stages}
    assert given.output == outputs[REPORT.name]
    assert {file.path for file in given.files} == {REPORT.file}

    assert client.delete(f"/jobs/{earlier}").status_code == 204
    with unit_of_work(sessions) as session:
        loaded = assignment.load(session, claim)
        assert loaded is not None
        assert assignment.BASELINE not in loaded.inputs


def test_none_with_these_labels_is_refused_unless_it_need_not_be_there(
    client: TestClient, spec: dict[str, Any], submit: Submit
) -> None:
    submit(labels=MAIN)  # which has passed nothing yet
    for path in ("/jobs", "/estimates"):
        response = client.post(path, json={**spec, "baseline": USUAL})
        assert response.status_code == 422
        (error,) = response.json()["errors"]
        assert (error["pointer"], error["value"]) == ("/baseline/label", {"branch": "main"})
        assert error["detail"] == "no job with the label branch=main has passed its gates"
        assert '"required": false' in error["expected"]
    job = submit(baseline={**USUAL, "required": False})
    assert job["spec"]["baseline"]["required"] is False


def test_a_job_that_is_named_must_have_succeeded(
    client: TestClient, spec: dict[str, Any], submit: Submit, passed: Callable[..., str]
) -> None:
    missing, waiting = str(uuid4()), submit()["id"]
    for job_id, words in ((missing, f"there is no job {missing}"), (waiting, f"job {waiting} is queued")):
        named = {"job": job_id, "max_regression": {"speedup": 0.1}}
        response = client.post("/jobs", json={**spec, "baseline": named})
        assert response.status_code == 422
        (error,) = response.json()["errors"]
        assert (error["pointer"], error["value"]) == ("/baseline/job", job_id)
        assert words in error["detail"]
    named = {"job": passed(), "max_regression": {"speedup": 0.1}}
    assert submit(baseline=named)["spec"]["baseline"]["job"] == named["job"]


def test_a_figure_that_the_earlier_job_lacks_is_refused(
    client: TestClient, spec: dict[str, Any], passed: Callable[..., str]
) -> None:
    earlier = passed(**MAIN)
    limits = {"accuracy": 0.02, "speedup": 0.1}
    body = {
        **spec,
        "benchmark": {"tasks": {"tasks": ["piqa"]}},
        "baseline": {"label": MAIN, "max_regression": limits},
    }
    response = client.post("/jobs", json=body)
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert error["pointer"] == "/baseline/max_regression/accuracy"
    assert earlier in error["detail"]
    assert "speedup" in error["expected"]


def test_a_sweep_holds_each_point_against_it(
    client: TestClient, spec: dict[str, Any], passed: Callable[..., str]
) -> None:
    sweep = {"spec": {**spec, "baseline": USUAL}, "points": [{"seed": 1}, {"seed": 2}]}
    refused = client.post("/sweeps", json=sweep)
    assert refused.status_code == 422
    assert {error["pointer"] for error in refused.json()["errors"]} >= {"/baseline/label"} or refused.json()["errors"]
    passed(**MAIN)
    assert client.post("/sweeps", json=sweep).status_code == 202
