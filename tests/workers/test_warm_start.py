"""A recovery goes on with what an earlier job recovered, through the whole service."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import torch
from safetensors.torch import load_file

from app.blobs.store import LocalStore
from app.db import artifacts, jobs
from app.db.session import unit_of_work
from secateur.contract.jobs import State
from secateur.contract.results import Recovered
from secateur.contract.spec import CompressionSpec
from tests.fixtures.service import Service
from workers.launch.device import SoundDevice
from workers.launch.fork_server import ForkServer
from workers.supervision.supervisor import Supervisor

TRAINING: dict[str, Any] = {
    "kind": "distill",
    "train": "all",
    "tokens": 16,
    "batch_size": 4,
    "micro_batch_size": 4,
    "samples": 8,
    "max_steps": 2,
    "warmup_steps": 0,
}
SPEC: dict[str, Any] = {
    "model": {"source": "local", "path": "tiny"},
    "scoring": {"criterion": "magnitude", "plus": False},
    "pruning": {"kind": "depth", "drop": [2, 3]},
}


@pytest.mark.thorough
def test_the_training_goes_on_where_an_earlier_one_ended(
    service: Service, stage_server: ForkServer, tiny_checkpoint: Callable[..., Path]
) -> None:
    checkpoint = tiny_checkpoint("tiny", num_hidden_layers=6)
    settings = service.settings.model_copy(update={"model_roots": (checkpoint.parent,), "concurrency": 1})
    store = LocalStore(settings.data_dir / "artifacts")
    supervisor = Supervisor(settings, service.sessions, store, stage_server, SoundDevice(), send=lambda _: None)

    def run(**changes: Any) -> UUID:
        """A job up to the end of its recovery; the rest of it is cancelled."""
        with unit_of_work(service.sessions) as session:
            spec = CompressionSpec.model_validate({**SPEC, **changes})
            job = jobs.insert(session, spec=spec, caller="me")
            assert job is not None
        while not recovery(job.id).state.terminal:
            supervisor.run_next()
        if not service.job(job.id).state.terminal:
            with unit_of_work(service.sessions) as session:
                jobs.request_cancel(session, job.id)
        return job.id

    def recovery(job_id: UUID) -> Any:
        return next(stage for stage in service.job(job_id).stages if stage.key == "recover")

    def weights(job_id: UUID, stage: str) -> dict[str, torch.Tensor]:
        with unit_of_work(service.sessions) as session:
            (row,) = [row for row in artifacts.of_stage(session, job_id, stage) if row.path.endswith(".safetensors")]
            return load_file(settings.data_dir / "artifacts" / row.key)

    first = run(recovery={**TRAINING, "learning_rate": 0.01})
    assert recovery(first).state is State.SUCCEEDED, service.job(first).problem
    warm = {**TRAINING, "warm_start": str(first), "max_steps": 1}
    second = run(recovery={**warm, "learning_rate": 1e-12})
    assert recovery(second).state is State.SUCCEEDED, service.job(second).problem
    pruned, before, after = weights(first, "prune"), weights(first, "recover"), weights(second, "recover")
    assert all(torch.allclose(after[name], before[name], atol=1e-6) for name in before)
    assert not any(torch.allclose(before[name], pruned[name], atol=1e-4) for name in before if "_proj" in name)
    found = Recovered.model_validate(recovery(second).result)
    assert found.notes[0] == f"The training began with the model that job {first} recovered."
    assert found.healed.cuts == []

    chosen = run(recovery=warm, pruning={"kind": "depth", "blocks": 1})
    with unit_of_work(service.sessions) as session:
        jobs.delete(session, first)
    for job_id, words in ((chosen, "is without 2, 3, and this one without"), (run(recovery=warm), "no job")):
        job = service.job(job_id)
        assert job.state is State.FAILED
        assert job.problem is not None
        assert words in job.problem["detail"]
        assert job.problem["errors"][0]["pointer"] == "/recovery/warm_start"
