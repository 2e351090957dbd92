"""The supervisor, in this process: what it commits, what it shares, and what it does when something is cut or full."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, select

from app.blobs.store import ArtifactStore, LocalStore, RemoteStore, memory_store
from app.db import artifacts, claims, jobs, stages
from app.db.session import make_session_factory, unit_of_work
from app.db.tables.jobs import Stage
from app.stored_file import StoredFile
from secateur.contract.jobs import State
from tests.fixtures.service import PATIENCE, STAGES, Service
from tests.fixtures.supervisors import drive, make_janitor, make_supervisor
from tests.fixtures.worker_process import WorkerProcess
from workers.launch.fork_server import ForkServer
from workers.supervision.scratch import Scratch
from workers.supervision.supervisor import Supervisor


def test_a_bucket_serves_as_well(service: Service, forkserver: ForkServer) -> None:
    """Inputs are downloaded into the cache, checked, and used again."""
    store = memory_store()
    job_id = service.submit(send=False)
    drive(service, make_supervisor(service, store, forkserver), job_id)
    assert service.job(job_id).state is State.SUCCEEDED
    cached = list((service.settings.cache_dir / "artifacts").rglob("model.safetensors"))
    assert len(cached) == 5
    with unit_of_work(service.sessions) as session:
        for artifact in artifacts.list_for(session, job_id):
            assert sum(map(len, store.chunks(artifact.key))) == artifact.size


def test_what_a_stage_used_of_memory_is_kept(service: Service, supervisor: Supervisor) -> None:
    job_id = service.submit(send=False)
    drive(service, supervisor, job_id)
    used = [stage.memory for stage in service.job(job_id).stages]
    assert all(memory is not None and 10**6 < memory < 10**10 for memory in used), used


def test_nobody_runs_a_stage_twice_at_a_time(service: Service, supervisor: Supervisor) -> None:
    supervisor.run_next()  # no stage waits
    job_id = service.submit(send=False)
    with unit_of_work(service.sessions) as session:
        claims.claim_next(session, worker="another", lease_seconds=60)
    supervisor.run_next()
    assert service.started(job_id, "score") == 0
    assert service.job(job_id).stages[0].worker == "another"


def test_a_run_that_begins_leaves_no_result_of_another(service: Service, supervisor: Supervisor) -> None:
    """Its files are written over; a later attempt with the earlier one's spec would publish them under that result."""
    job_id = service.submit(send=False, check="crash:1")
    (stage_id,) = stages.waiting_ids(service.job(job_id))
    left = Scratch(service.settings.work_dir.resolve(), stage_id).root / "result.json"
    left.parent.mkdir(parents=True)
    left.write_text('{"spec": "of other settings", "result": {}}')
    supervisor.run_next()
    assert service.job(job_id).stages[0].state is State.QUEUED  # the process was killed in the middle
    assert not left.exists()


# fault 3: between writing the artifacts and committing, and just after the commit

WORKER_THAT_DIES = """
import os, signal
from app.db.session import session_factory
from app.settings import get_settings
from app.blobs.store import LocalStore
from workers.launch.device import SoundDevice
from workers.launch.fork_server import ForkServer
from workers.supervision.supervisor import Supervisor

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

class Store(LocalStore):
    def put_folder(self, folder, output, *, check):
        files = super().put_folder(folder, output, check=check)
        return die() if os.environ["DIES"] == "before the commit" else files

settings = get_settings()
store = Store(settings.data_dir / "artifacts")
forkserver = ForkServer(settings.stage_entry, ())
Supervisor(settings, session_factory(settings), store, forkserver, SoundDevice(), send=die).run_next()
"""


@pytest.mark.thorough
@pytest.mark.parametrize("where", ["before the commit", "after the commit"])
def test_a_worker_killed_around_the_commit(
    service: Service, supervisor: Supervisor, store: LocalStore, tmp_path: Path, where: str
) -> None:
    """The process is not run again: what it left is published by the next attempt, and the orphan is deleted."""
    job_id = service.submit(send=False)
    for name in STAGES[:-1]:
        names = ("database_url", "data_dir", "stage_entry", "lease_seconds", "heartbeat_seconds")
        environment = {f"SECATEUR_{key.upper()}": str(getattr(service.settings, key)) for key in names}
        worker = WorkerProcess({**os.environ, **environment, "DIES": where}, tmp_path / "log", WORKER_THAT_DIES)
        assert worker.wait(PATIENCE) == -signal.SIGKILL, (tmp_path / "log").read_text()
        stage = next(stage for stage in service.job(job_id).stages if stage.key == name)
        assert stage.state is (State.RUNNING if where == "before the commit" else State.SUCCEEDED)
        if name == "prune":
            break
        make_janitor(service, store).sweep()  # takes nothing that a worker holds, or that is committed
        rescue(service, store)
        drive(service, supervisor, job_id, stages_=1 if where == "before the commit" else 0)
    rescue(service, store)
    drive(service, supervisor, job_id)
    service.settled(job_id)
    assert [service.started(job_id, name) for name in STAGES] == [1] * len(STAGES)
    before = len(list(store.attempts()))
    make_janitor(service, store).sweep()
    orphans = (
        2 if where == "before the commit" else 0
    )  # of the two last kills; the sweep in between took the first one's
    assert (before, len(list(store.attempts()))) == (len(STAGES) + orphans, len(STAGES))


def rescue(service: Service, store: ArtifactStore) -> None:
    """Let the janitor work until no lease is out."""
    janitor = make_janitor(service, store)
    give_up = time.monotonic() + 60
    while True:
        janitor.rescue()
        with unit_of_work(service.sessions) as session:
            running = jobs.count_by_state(session)[State.RUNNING]
            held = session.scalars(select(Stage.id).where(Stage.state == State.RUNNING)).all()
        if not running or not held:
            return
        assert time.monotonic() < give_up
        time.sleep(0.05)


# fault 9: the connection is lost in the middle of a commit


class Cut(psycopg.Connection[tuple[object, ...]]):
    """A connection that is lost at every fifth commit: before the server has heard of it, or after it has done it."""

    commits: ClassVar[int] = 0

    def commit(self) -> None:
        type(self).commits += 1
        if self.commits % 10 == 0:
            self.close()
            raise psycopg.OperationalError("cut before the commit")
        super().commit()
        if self.commits % 5 == 0:
            self.close()
            raise psycopg.OperationalError("cut after the commit")


@pytest.fixture
def cut_engine(service: Service) -> Iterator[Engine]:
    url = service.settings.database_url or ""
    engine = create_engine("postgresql+psycopg://", creator=lambda: Cut.connect(url), pool_pre_ping=True)
    yield engine
    engine.dispose()


@pytest.mark.thorough
def test_connections_cut_in_the_middle_of_commits(
    service: Service, store: LocalStore, forkserver: ForkServer, cut_engine: Engine
) -> None:
    """Whether a commit was done or not, it is found out, and nothing is written twice."""
    supervisor = make_supervisor(service, store, forkserver, sessions=make_session_factory(cut_engine))
    for seed in range(3):
        job_id = service.submit(send=False, seed=seed, recover="train:8:0.1")
        drive(service, supervisor, job_id)
        job = service.settled(job_id)
        assert [stage.attempt for stage in job.stages] == [1] * len(STAGES)
        assert [service.started(job_id, name) for name in STAGES] == [1] * len(STAGES)
        steps = [event.data["step"] for event in service.events(job_id) if event.type == "metrics"]
        assert steps == list(range(1, 9))
    assert Cut.commits > 30


# secrets


@pytest.mark.parametrize("source", ["hub", "local"])
def test_a_stage_has_the_hubs_token_only_while_it_fetches(
    service: Service, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_the_workers_token")
    model = {"source": "hub", "id": "org/m", "revision": "0" * 40} if source == "hub" else None
    job_id = service.submit(send=False, model=model, score="token", report="token")
    drive(service, supervisor, job_id)
    assert service.logged(job_id, "token of score: (.*)") == [f"False {source == 'hub'} False"]
    assert service.logged(job_id, "token of report: (.*)") == ["False False False"]


# fault 13: the time limit


def test_a_stage_over_its_time_limit_fails(service: Service, store: LocalStore, forkserver: ForkServer) -> None:
    settings = service.settings.model_copy(update={"stage_time_limit_seconds": 5.0})
    job_id = service.submit(send=False, score="sleep:60")
    drive(service, make_supervisor(service, store, forkserver, settings=settings), job_id)
    job = service.settled(job_id, State.FAILED)
    assert job.problem is not None
    assert "limit of 5 seconds" in job.problem["detail"]
    assert job.problem["stage"] == "score"
    assert job.stages[1].attempt == 1
    assert [stage.state for stage in job.stages[2:]] == [State.CANCELLED] * 4


def test_a_download_that_is_broken_fails_the_stage(service: Service, forkserver: ForkServer) -> None:
    class Broken(RemoteStore):
        """A bucket that gives other bytes back."""

        def folder(self, *_: object, **__: object) -> Path:
            raise OSError("the bucket does not answer")

    whole = memory_store()
    broken = Broken(whole._fs, whole._root)
    job_id = service.submit(send=False)
    drive(service, make_supervisor(service, whole, forkserver), job_id, stages_=1)
    drive(service, make_supervisor(service, broken, forkserver), job_id)
    job = service.job(job_id)
    assert job.state is State.FAILED
    assert job.problem is not None
    assert (
        "could not run the stage (OSError: the bucket does not answer). It was tried 3 times." in job.problem["detail"]
    )


# stages that stages add


def test_a_stage_adds_stages_that_run_before_what_waits_for_them(service: Service, supervisor: Supervisor) -> None:
    """Two of one kind, side by side; each is given what it needs and no more."""
    adds = "add:prune_a:prune:score:report;add:prune_b:prune:check+score:report"
    job_id = service.submit(send=False, score=adds, prune_a="crash:1")
    drive(service, supervisor, job_id)
    job = service.job(job_id)
    assert job.state is State.SUCCEEDED
    assert {stage.key: (stage.kind, stage.attempt) for stage in job.stages if stage.added_by == "score"} == {
        "prune_a": ("prune", 2),
        "prune_b": ("prune", 1),
    }
    with unit_of_work(service.sessions) as session:
        paths = [artifact.path for artifact in artifacts.list_for(session, job_id)]
    assert {"prune/prune.json", "prune_a/prune_a.json", "prune_b/prune_b.json"} <= set(paths)
    assert [stage.key for stage in job.stages][-3:] == ["prune_a", "prune_b", "report"]


def test_stages_that_cannot_be_added_fail_the_stage(service: Service, supervisor: Supervisor) -> None:
    job_id = service.submit(send=False, score="add:prune:prune:score")
    drive(service, supervisor, job_id)
    problem = service.settled(job_id, State.FAILED).problem
    assert problem is not None
    assert "The stage score adds the stage prune, whose key another stage has." in problem["detail"]


def test_a_result_that_was_not_committed_keeps_what_it_adds(
    service: Service, supervisor: Supervisor, forkserver: ForkServer
) -> None:
    class Full(LocalStore):
        """A store that takes nothing."""

        def put_folder(self, *_: object, **__: object) -> list[StoredFile]:
            raise OSError(28, "no space left")

    job_id = service.submit(send=False, score="add:prune_a:prune:score:report")
    drive(service, supervisor, job_id, stages_=1)
    drive(service, make_supervisor(service, Full(service.settings.data_dir / "artifacts"), forkserver), job_id)
    service.retry(job_id)
    drive(service, supervisor, job_id)
    assert service.started(job_id, "score") == service.started(job_id, "prune_a") == 1
    assert service.job(job_id).state is State.SUCCEEDED
