"""The janitor: what it sends again, rescues, cancels and deletes, alone and beside another one."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, text

from app.blobs.store import OWNER, LocalStore, dataset_output, memory_store, output_of, set_owner
from app.db import claims, datasets, jobs, stages
from app.db.base import new_id
from app.db.session import SessionFactory, make_engine, make_session_factory, unit_of_work
from app.db.tables.installation import installation
from app.db.tables.jobs import Job
from app.settings import Settings
from secateur.contract.datasets import DatasetFormat, DatasetKind
from secateur.contract.jobs import State
from secateur.contract.spec import CompressionSpec
from tests.fixtures.crowd import CROWD, UNFINISHED, stage_of
from workers.supervision.janitor import Janitor
from workers.supervision.scratch import Scratch


class World:
    """A database with jobs, a store, and janitors that note what they send."""

    def __init__(self, sessions: SessionFactory, folder: Path) -> None:
        self.sessions = sessions
        self.settings = Settings(data_dir=folder / "data", resend_seconds=0.001)
        self.store = LocalStore(folder / "store")
        self.sent: list[UUID] = []
        self.depth: int | None = 0
        self.janitor().sweep()  # the empty store and scratch become this database's

    def janitor(self) -> Janitor:
        return Janitor(self.settings, self.sessions, self.store, send=self.sent.append, depth=lambda: self.depth)

    def job(self, *, deadline: float | None = None) -> Job:
        body = {"model": {"source": "hub", "id": "org/model"}, "pruning": {"kind": "depth", "blocks": 1}}
        deadline_at = None if deadline is None else datetime.now(UTC) + timedelta(seconds=deadline)
        with unit_of_work(self.sessions) as session:
            made = jobs.insert(session, spec=CompressionSpec.model_validate(body), caller="me", deadline_at=deadline_at)
            assert made is not None
            return jobs.get(session, made.id)

    def claim(self, job: Job, *, lease_seconds: float = 30) -> claims.Claim:
        with unit_of_work(self.sessions) as session:
            (stage_id,) = stages.waiting_ids(jobs.get(session, job.id))
            claim = claims.claim(session, stage_id, worker=str(uuid4()), lease_seconds=lease_seconds)
            assert claim is not None
        return claim

    def read(self, job: Job) -> Job:
        with unit_of_work(self.sessions) as session:
            return jobs.get(session, job.id)


@pytest.fixture
def world(sessions: SessionFactory, tmp_path: Path) -> World:
    return World(sessions, tmp_path)


def test_what_waits_unclaimed_is_sent_again(world: World) -> None:
    waiting, held = world.job(), world.job()
    world.claim(held)
    world.janitor().tick()
    assert world.sent == [waiting.stages[0].id]


@pytest.mark.parametrize("depth", [1, None], ids=["its message waits in the broker", "the broker is down"])
def test_nothing_is_sent_where_that_would_not_help(world: World, depth: int | None) -> None:
    world.job()
    world.depth = depth
    world.janitor().tick()
    assert world.sent == []


def test_a_lost_worker_costs_its_stage_an_attempt(world: World) -> None:
    job = world.job()
    for crash in range(1, 4):
        world.claim(job, lease_seconds=-1)
        world.janitor().rescue()
        assert world.read(job).stages[0].crashes == crash
    found = world.read(job)
    assert found.state is State.FAILED
    assert found.problem is not None
    assert "worker was lost" in found.problem["detail"]


def test_an_overdue_job_is_cancelled(world: World) -> None:
    overdue, early = world.job(deadline=-1), world.job(deadline=1000)
    world.janitor().tick()
    assert world.read(overdue).state is State.CANCELLED
    assert world.read(early).state is State.QUEUED


def test_janitors_race(world: World) -> None:
    """Each stage is rescued once, and each waiting one sent once in its time, however many janitors work at a time."""
    lost = [world.job() for _ in range(6)]
    for job in lost:
        world.claim(job, lease_seconds=-1)
    barrier = threading.Barrier(4)

    def work() -> None:
        janitor = world.janitor()
        barrier.wait()
        janitor.rescue()  # not by way of `tick`, whose lock would let only one work

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(world.sent) == sorted(job.stages[0].id for job in lost)
    assert [(s.state, s.token, s.crashes) for s in (world.read(job).stages[0] for job in lost)] == [
        (State.QUEUED, 2, 1)
    ] * 6


def test_only_one_janitor_is_elected(world: World) -> None:
    first, second = world.janitor(), world.janitor()
    with first._elected() as one, second._elected() as other:
        assert (one, other) == (True, False)
    with second._elected() as other:
        assert other


def test_the_store_is_swept_of_what_no_stage_refers_to(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "x.json").write_text("{}")
    running, done = world.job(), world.job()
    held, committed = world.claim(running), world.claim(done)
    kept = [output_of(claim.stage_id, claim.token) for claim in (held, committed)]
    orphans = [output_of(held.stage_id, 99), output_of(uuid4(), 1)]
    for output in (*kept, *orphans):
        files = world.store.put_folder(folder, output, check=lambda: None)
    with unit_of_work(world.sessions) as session:
        claims.succeed(session, committed, result={}, output=kept[1], files=[])
    assert files
    world.janitor().sweep()
    assert sorted(output for _, _, output in world.store.attempts()) == sorted(kept)


def test_the_store_is_swept_of_data_sets_that_nobody_names(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "upload"
    folder.mkdir()
    (folder / "content.txt").write_text("words")
    sha256 = hashlib.sha256(b"words").hexdigest()
    long_ago = UUID(int=(1 << 80) | (7 << 76) | (2 << 62))
    named, fresh = new_id(), new_id()
    for dataset_id in (named, fresh, long_ago):
        (stored,) = world.store.put_folder(folder, dataset_output(dataset_id, sha256), check=lambda: None)
    old = UUID(int=long_ago.int + (1 << 80))
    world.store.put_folder(folder, dataset_output(old, sha256), check=lambda: None)
    with unit_of_work(world.sessions) as session:
        for dataset_id, content in ((named, sha256), (old, "0" * 64)):
            format, kind = DatasetFormat.TEXT, DatasetKind.TEXT
            new = datasets.NewDataset(dataset_id, "a", format, kind, rows=1, size=5, sha256=content, key=stored.key)
            assert datasets.insert(session, new)
    world.janitor().sweep()
    assert {dataset_id for dataset_id, _ in world.store.datasets()} == {named, fresh, old}


@pytest.mark.parametrize("kind", ["a folder", "a bucket"])
def test_a_worker_with_another_database_deletes_nothing(
    kind: str, world: World, sessions: SessionFactory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A store and a scratch whose stages this database does not know: by a wrong address, or a database made anew."""
    folder, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "x.json").write_text("{}")
    store = LocalStore(elsewhere / "store") if kind == "a folder" else memory_store()
    output = output_of(uuid4(), 1)
    store.put_folder(folder, output, check=lambda: None)
    settings = Settings(data_dir=elsewhere)
    scratch = Scratch(settings.work_dir, uuid4())
    scratch.work.mkdir(parents=True)
    janitor = Janitor(settings, sessions, store, send=world.sent.append, depth=lambda: 0)

    def left() -> bool:
        janitor.sweep()
        return [found for _, _, found in store.attempts()] == [output] and scratch.root.is_dir()

    assert left()
    assert caplog.text.count("knows none of them: nothing is deleted there") == 2
    assert store.owner() is None, "not taken"
    store.set_owner("b0e0bc6e-6a5b-4a5c-9d0e-2f43a5e0f7aa")
    set_owner(settings.work_dir, "b0e0bc6e-6a5b-4a5c-9d0e-2f43a5e0f7aa")
    assert left()
    assert caplog.text.count("belongs to another database") == 2

    with unit_of_work(sessions) as session:  # as the message says, where this database has taken the other's place
        ours = str(session.execute(select(installation.c.id)).scalar_one())
    store.set_owner(ours)
    set_owner(settings.work_dir, ours)
    assert not left()
    assert not scratch.root.exists()


def test_a_store_from_before_its_mark_is_taken_by_the_database_that_knows_it(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "x.json").write_text("{}")
    done = world.claim(world.job())
    kept = output_of(done.stage_id, done.token)
    for output in (kept, output_of(uuid4(), 1)):
        world.store.put_folder(folder, output, check=lambda: None)
    with unit_of_work(world.sessions) as session:
        claims.succeed(session, done, result={}, output=kept, files=[])
    (tmp_path / "store" / OWNER).unlink()
    world.janitor().sweep()
    assert [output for _, _, output in world.store.attempts()] == [kept]
    assert world.store.owner() is not None


def test_scratch_is_kept_while_it_may_be_needed(world: World) -> None:
    work_dir = world.settings.work_dir
    waiting, done = world.job(), world.job()
    committed = world.claim(done)
    with unit_of_work(world.sessions) as session:
        claims.succeed(session, committed, result={}, output="o", files=[])
    for stage_id in (waiting.stages[0].id, committed.stage_id, uuid4()):
        Scratch(work_dir, stage_id).work.mkdir(parents=True)
    (work_dir / "not-a-stage").mkdir()
    world.janitor().sweep()
    assert {path.name for path in work_dir.iterdir()} == {str(waiting.stages[0].id), "not-a-stage", OWNER}
    old = Janitor(
        world.settings.model_copy(update={"keep_days": 1e-9}),
        world.sessions,
        world.store,
        send=world.sent.append,
        depth=lambda: 0,
    )
    claim = world.claim(waiting)
    old.sweep()  # a stage that a worker holds keeps its scratch, however old
    assert Scratch(work_dir, claim.stage_id).root.is_dir()
    with unit_of_work(world.sessions) as session:
        claims.release(session, claim, reason="shutdown")
    old.sweep()
    assert not Scratch(work_dir, claim.stage_id).root.exists()


def test_a_janitor_outlives_its_failures(world: World, caplog: pytest.LogCaptureFixture) -> None:
    rounds = threading.Semaphore(0)

    def broken() -> int:
        rounds.release()
        raise OSError("the broker speaks nonsense")

    settings = world.settings.model_copy(update={"janitor_seconds": 0.01})
    world.job()
    janitor = Janitor(settings, world.sessions, world.store, send=world.sent.append, depth=broken)
    janitor.start()
    for _ in range(3):
        assert rounds.acquire(timeout=60)
    janitor.stop()
    janitor.join(timeout=60)
    assert not janitor.is_alive()
    assert "goes on in the next round" in caplog.text


class Crowded(LocalStore):
    """A store that lists folders which need not lie on the disk, and notes what is deleted."""

    def __init__(self, root: Path, attempts: list[tuple[UUID, int, str]]) -> None:
        super().__init__(root)
        self._attempts = attempts
        self.deleted: list[str] = []

    def attempts(self) -> Iterator[tuple[UUID, int, str]]:
        yield from self._attempts

    def delete_folder(self, output: str) -> None:
        if output == "stages/stuck":
            raise PermissionError("this folder cannot be deleted")
        self.deleted.append(output)


def test_a_sweep_of_a_hundred_thousand_attempts(
    world: World, crowd_sessions: SessionFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that stages have as their output and those that workers fill stay; what cannot go keeps no other."""
    monkeypatch.setattr("workers.supervision.janitor.BATCH", 70_000)  # two queries, each with more than 65,535 values
    first = [(stage_of(n), 1, output_of(stage_of(n), 1)) for n in range(1, CROWD + 1)]
    queued = {output for n, (_, _, output) in enumerate(first, 1) if n > CROWD - UNFINISHED and n % 3 == 0}
    orphans = [(uuid4(), 1, "stages/stuck"), (uuid4(), 1, "stages/orphan"), (stage_of(CROWD), 2, "stages/late")]
    store = Crowded(tmp_path / "crowded", [*orphans, *first])
    with unit_of_work(crowd_sessions) as session:
        store.set_owner(str(session.execute(select(installation.c.id)).scalar_one()))
    Janitor(world.settings, crowd_sessions, store, send=world.sent.append, depth=lambda: 0).sweep()
    assert set(store.deleted) == {"stages/orphan", "stages/late", *queued}
    assert len(store.deleted) == len(set(store.deleted))


def test_lists_of_a_hundred_thousand(crowd_sessions: SessionFactory) -> None:
    everything = {stage_of(n) for n in range(1, CROWD + 1)}
    with unit_of_work(crowd_sessions) as session:
        assert stages.unfinished(session, everything) == {stage_of(CROWD - n) for n in range(UNFINISHED)}
        assert datasets.hold(session, everything) == {}


def test_the_janitor_tells_a_broken_query_from_a_database_that_is_away(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    waiting = world.job()
    with unit_of_work(world.sessions) as session:
        session.execute(text("ALTER TABLE stages RENAME lease_expires_at TO lease_ends_at"))
    world.janitor().tick()
    assert "rescue" in caplog.text
    assert "column stages.lease_expires_at does not exist" in caplog.text
    assert "could not be reached" not in caplog.text
    assert world.sent == [waiting.stages[0].id]  # the rest of the round was done
    caplog.clear()
    away = make_session_factory(make_engine("postgresql://nobody@127.0.0.1:9/none"))
    Janitor(world.settings, away, world.store, send=world.sent.append, depth=lambda: 0).tick()
    assert "the database could not be reached (OperationalError)" in caplog.text
    assert "Traceback" not in caplog.text
