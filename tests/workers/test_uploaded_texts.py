"""Uploaded data sets on their way to a stage: by a folder, by a bucket, and through the whole service."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from app.blobs.store import ArtifactStore, LocalStore, memory_store
from app.db import datasets, jobs, stages
from app.db.session import unit_of_work
from app.db.tables.datasets import Dataset
from app.http.multipart import ReceivedFile, ReceivedForm
from app.main import create_app
from app.services.datasets import add
from secateur.client.http_client import Client
from secateur.contract.jobs import State
from secateur.contract.measurements import Benchmarks
from secateur.contract.results import Recovered, Scored
from secateur.contract.spec import CompressionSpec
from tests.fixtures.live import serving
from tests.fixtures.service import Service
from tests.workers.conftest import plain_text
from workers.launch.device import SoundDevice
from workers.launch.fork_server import ForkServer
from workers.supervision.supervisor import Supervisor

CONTENT = b'{"text": "one"}\n{"text": "two"}\n'


@pytest.fixture(scope="module")
def forkserver() -> Iterator[ForkServer]:
    server = ForkServer("tests.fixtures.stages:main", ())
    yield server
    server.stop()


@pytest.fixture(params=["local", "remote"])
def store(request: pytest.FixtureRequest, service: Service) -> ArtifactStore:
    return LocalStore(service.settings.data_dir / "artifacts") if request.param == "local" else memory_store()


def upload(service: Service, store: ArtifactStore, content: bytes = CONTENT) -> Dataset:
    with store.staging() as folder:
        path = folder / "received"
        path.write_bytes(content)
        file = ReceivedFile(path, "rows.jsonl", len(content), hashlib.sha256(content).hexdigest())
        return add(service.sessions, store, ReceivedForm({}, file), most_bytes=1 << 30).dataset


def submit(service: Service, dataset: Dataset, *, seed: int = 0) -> UUID:
    text = {"source": "upload", "id": str(dataset.id)}
    body = {
        "model": {"source": "hub", "id": "org/model"},
        "pruning": {"kind": "depth", "blocks": 1},
        "scoring": {"criterion": "perplexity", "calibration": {"text": text}},
        "benchmark": {"perplexity": {"texts": [text]}},
        "labels": {"do/check": "uploads", "do/score": "uploads", "do/prune": "uploads", "do/benchmark": "uploads"},
        "seed": seed,
    }
    with unit_of_work(service.sessions) as session:
        job = jobs.insert(session, spec=CompressionSpec.model_validate(body), caller="me")
        assert job is not None
    return job.id


def drive(service: Service, supervisor: Supervisor, job_id: UUID) -> None:
    while stages.waiting_ids(service.job(job_id)):
        supervisor.run_next()


def make(service: Service, store: ArtifactStore, forkserver: ForkServer) -> Supervisor:
    return Supervisor(service.settings, service.sessions, store, forkserver, SoundDevice(), send=lambda _: None)


@pytest.mark.thorough
def test_a_stage_gets_the_data_sets_that_it_reads(
    service: Service, store: ArtifactStore, forkserver: ForkServer
) -> None:
    dataset = upload(service, store)
    job_id = submit(service, dataset)
    drive(service, make(service, store, forkserver), job_id)
    assert service.job(job_id).state is State.SUCCEEDED
    told = [(e.stage, e.data["message"]) for e in service.events(job_id) if "upload rows" in e.data.get("message", "")]
    assert [stage for stage, _ in told] == ["check", "score", "benchmark"]  # not the pruning, which reads no text
    assert all(message.startswith("upload rows.jsonl True ") for _, message in told)
    cached = list((service.settings.cache_dir / "artifacts" / "datasets").rglob("content.jsonl"))
    assert len(cached) == (0 if isinstance(store, LocalStore) else 1)  # in place, or fetched once


def test_a_data_set_that_was_deleted_before_a_retry(
    service: Service, store: ArtifactStore, forkserver: ForkServer
) -> None:
    dataset = upload(service, store)
    job_id = submit(service, dataset)
    with unit_of_work(service.sessions) as session:
        jobs.request_cancel(session, job_id)
    with unit_of_work(service.sessions) as session:
        datasets.delete(session, dataset.id)
    with unit_of_work(service.sessions) as session:
        jobs.retry(session, job_id)
    drive(service, make(service, store, forkserver), job_id)
    job = service.job(job_id)
    assert job.state is State.FAILED
    assert job.problem is not None
    assert job.problem["detail"] == f"The data set {dataset.id} was deleted."
    assert job.problem["errors"][0]["pointer"] == "/scoring/calibration/text/id"


def test_a_file_that_the_store_lost(service: Service, store: ArtifactStore, forkserver: ForkServer) -> None:
    dataset = upload(service, store)
    store.delete_folder(dataset.key.rpartition("/")[0])
    job_id = submit(service, dataset)
    supervisor = make(service, store, forkserver)
    for _ in range(service.settings.max_attempts):
        drive(service, supervisor, job_id)
    job = service.job(job_id)
    assert job.state is State.FAILED


@pytest.mark.thorough
def test_from_the_upload_to_the_report(
    service: Service, stage_server: ForkServer, tiny_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    """The client, the API on a real connection, a real supervisor and the real stages, on a tiny model.

    The training runs in two processes, as the worker's setting says.
    """
    checkpoint = tiny_checkpoint("tiny", num_hidden_layers=8, max_position_embeddings=512)
    own = {"model_roots": (checkpoint.parent,), "concurrency": 1, "training_processes": 2}
    settings = service.settings.model_copy(update=own)
    words, exercises = tmp_path / "words.txt", tmp_path / "exercises.jsonl"
    words.write_text(plain_text(300))
    rows = [{"instruction": f"Repeat {n}.", "input": "", "output": plain_text(1, seed=n)} for n in range(24)]
    exercises.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with serving(create_app(settings)) as url, Client(url) as client:
        text, practice = client.datasets.create(words), client.datasets.create(exercises)
        spec = {
            "model": {"source": "local", "path": "tiny"},
            "scoring": {
                "criterion": "block_influence",
                "calibration": {"text": {"source": "upload", "id": str(text.id), "stop": 0.5}, "tokens": 32},
            },
            "pruning": {"kind": "depth", "blocks": 1},
            "recovery": {
                "kind": "lora",
                "format": "alpaca",
                "mask_prompt": True,
                "text": {"source": "upload", "id": str(practice.id)},
                "tokens": 320,
                "batch_size": 4,
                "micro_batch_size": 2,
                "max_steps": 1,
            },
            "benchmark": {
                "latency": None,
                "samples": None,
                "generation": None,
                "perplexity": {
                    "texts": [{"source": "upload", "id": str(text.id), "start": 0.5}],
                    "tokens": 32,
                    "windows": 4,
                },
            },
        }
        job = client.jobs.create(spec)
        store = LocalStore(settings.data_dir / "artifacts")
        supervisor = Supervisor(settings, service.sessions, store, stage_server, SoundDevice(), send=lambda _: None)
        drive(service, supervisor, job.id)
        done = client.jobs.retrieve(job.id)
        assert done.state is State.SUCCEEDED, done.problem
        report = client.jobs.report(job.id)
    results = {stage.key: stage.result or {} for stage in service.job(job.id).stages}
    scored = Scored.model_validate(results["score"]).calibration
    trained = Recovered.model_validate(results["recover"]).text
    measured = Benchmarks.model_validate(results["benchmark"]).variants[0].perplexity[0].text
    assert scored is not None
    assert trained is not None
    assert (scored.source, scored.identity) == ("upload", text.sha256)
    assert (trained.source, trained.identity) == ("upload", practice.sha256)
    assert measured.identity == text.sha256
    assert measured.description.startswith("words.txt, 0.5 to 1")
    assert report.recovered is not None
    assert any("ran in 2 processes" in note for note in report.recovered.notes)
    assert not any("overlap" in note for note in _notes(report))


def _notes(report: Any) -> list[str]:
    return [*report.notes, *report.benchmarks.notes]
