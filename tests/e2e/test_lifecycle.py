"""A job on a worker, when nothing goes wrong."""

from __future__ import annotations

from tests.fixtures.service import Service


def test_a_job_runs_through_its_stages(service: Service) -> None:
    worker = service.worker()
    job_id = service.submit(score="sleep:0.3", recover="train:3:0.05")
    job = service.settled(job_id)
    assert [(stage.attempt, stage.crashes) for stage in job.stages] == [(1, 0)] * 5
    print(worker.log.read_text())
