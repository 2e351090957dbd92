"""Workers that play: everything that a worker does with database and broker, with a sleep in place of the stage.

Claims, leases, events, ends and the janitor are the product's own calls, as `workers/supervision` makes them, and as
often as it does by the clock; only the sleep is shortened. Two things are replaced: Celery's consumer, by the blocking
pop of the list that it reads, and the files of a stage, which have rows and no bytes.
"""

from __future__ import annotations

import json
import math
import random
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import redis
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.blobs.store import open_store, output_of
from app.broker.messages import QUEUE, BadMessage, stage_of, wake_up
from app.db import claims, events, twins, workers
from app.db.base import new_id
from app.db.claims import Claim, Standing
from app.db.session import SessionFactory, make_engine, make_session_factory, unit_of_work
from app.db.stage_ends import Ended
from app.settings import Settings
from app.stored_file import StoredFile
from secateur.contract.jobs import State
from workers.launch.guardian import lease_clock
from workers.supervision import assignment as assignments
from workers.supervision import lease
from workers.supervision.event_relay import StageResult
from workers.supervision.janitor import Janitor
from workers.supervision.lease import LeaseKeeper
from workers.supervision.patient_transactions import GaveUp, transact_patiently
from workers.supervision.presence import MISSED

T = TypeVar("T")

# seconds of SmolLM2's stages on two cores (docs/benchmarks.md: scoring on B, healing on C, a second job's check and
# pruning on C; half of the eleven minutes of the README's job), and a second for the report, which was not recorded
RECORDED = {"check": 7.0, "score": 26.2, "prune": 1.2, "recover": 271.0, "benchmark": 330.0, "report": 1.0}
COMPUTES = {"score", "recover", "benchmark"}  # what a GPU makes quicker
SPREAD = 0.4  # of the logarithm of a stage's time around what was recorded
FILES = {"check": 1, "score": 1, "prune": 8, "recover": 8, "benchmark": 2, "report": 4}


@dataclass(frozen=True)
class Pace:
    """How stages are played."""

    second: float  # of a stage, in seconds of the clock
    quicker: float  # a GPU computes so many times as fast as what was recorded, for its larger model
    progress: float  # seconds from one event of progress to the next
    slower: float  # than by the clock all of it happens
    seed: int

    def seconds(self, number: str, key: str) -> float:
        """By the clock, of this stage of this job."""
        recorded = RECORDED[key] / (self.quicker if key in COMPUTES else 1.0)
        spread = random.Random(f"{self.seed} {number} {key}").gauss(-(SPREAD**2) / 2, SPREAD)
        return recorded * self.second * math.exp(spread)


@dataclass(frozen=True)
class Crew:
    """The workers of one process."""

    database_url: str
    redis_url: str
    folder: Path
    names: tuple[str, ...]
    pace: Pace


@dataclass
class Told:
    """What the workers of a crew have seen. Times are those of the clock."""

    slept: list[tuple[float, float]] = field(default_factory=list)  # from and to
    claimed: list[float] = field(default_factory=list)  # seconds that a claim took
    ended: list[float] = field(default_factory=list)  # and a commit
    in_vain: int = 0  # messages that found no stage
    lost: int = 0  # claims that were taken away
    refused: int = 0  # heartbeats and rounds that the database did not take


def play(crew: Crew, go: Any, stop: Any, pipe: Connection) -> None:
    """The process of a crew: says that it is ready, plays from `go` to `stop`, and hands on what it has seen."""
    lease.POLL_SECONDS *= crew.pace.slower
    told = Told()
    done = threading.Event()
    threads = [threading.Thread(target=_Worker(crew, name, told, done).run, daemon=True) for name in crew.names]
    pipe.send("ready")
    go.wait()
    for thread in threads:
        thread.start()
    stop.wait()
    done.set()
    for thread in threads:
        thread.join(timeout=20)
    pipe.send(told)


class _Worker:
    def __init__(self, crew: Crew, name: str, told: Told, done: threading.Event) -> None:
        self._crew, self._name, self._told, self._done = crew, name, told, done
        self._settings = Settings(
            database_url=crew.database_url,
            redis_url=crew.redis_url,
            data_dir=crew.folder,
            concurrency=1,
            heartbeat_seconds=5.0 * crew.pace.slower,
            lease_seconds=30.0 * crew.pace.slower,
            janitor_seconds=10.0 * crew.pace.slower,
            resend_seconds=30.0 * crew.pace.slower,
        )
        self._engine = make_engine(crew.database_url, pool_size=5)  # as a worker of one slot has it
        self._sessions: SessionFactory = make_session_factory(self._engine)
        self._broker = redis.Redis.from_url(crew.redis_url)

    def run(self) -> None:
        chores = threading.Thread(target=self._chores, daemon=True)
        chores.start()
        while not self._done.is_set():
            popped: Any = self._broker.brpop([QUEUE], timeout=1)
            if popped is None or self._done.is_set():
                continue
            try:
                stage_of(popped[1])
                self._run_next()
            except (BadMessage, GaveUp):
                continue
        chores.join(timeout=10)

    def _chores(self) -> None:
        """The worker's own row, and the janitor, which each worker has."""
        settings, worker_id = self._settings, new_id()
        janitor = Janitor(
            settings, self._sessions, open_store(settings.store_url), send=self._send, depth=lambda: self._depth()
        )
        told = {"name": self._name, "host": "played", "version": "0", "slots": 1, "stage_memory": 0, "device": "cuda"}
        tidy_at = time.monotonic() + random.random() * settings.janitor_seconds
        self._done.wait(random.random() * settings.heartbeat_seconds)
        while not self._done.is_set():
            try:
                with unit_of_work(self._sessions) as session:
                    workers.beat(session, worker_id, told, seconds=MISSED * settings.heartbeat_seconds)
                if time.monotonic() >= tidy_at:
                    janitor.tick()
                    tidy_at = time.monotonic() + settings.janitor_seconds
            except SQLAlchemyError:
                self._told.refused += 1
            self._done.wait(settings.heartbeat_seconds)

    def _depth(self) -> int:
        return int(self._broker.llen(QUEUE))

    def _send(self, stage_id: UUID) -> None:
        self._broker.lpush(QUEUE, wake_up(stage_id))

    def _run_next(self) -> None:
        seconds, until = self._settings.lease_seconds, LeaseKeeper.first_until(self._settings, lease_clock())
        worker, begun = f"{self._name}#{uuid.uuid4().hex[:8]}", time.monotonic()
        claim = self._transact(lambda session: claims.claim_next(session, worker=worker, lease_seconds=seconds))
        if claim is None:
            self._told.in_vain += 1
            return
        self._told.claimed.append(time.monotonic() - begun)
        keeper = LeaseKeeper(self._sessions, claim, self._settings, until=until)
        keeper.start()
        try:
            ended = self._stage(claim, keeper)
        finally:
            keeper.stop()
        if ended is not None:
            for stage_id in (*ended.send, *self._transact(twins.wake)):
                self._send(stage_id)

    def _stage(self, claim: Claim, keeper: LeaseKeeper) -> Ended | None:
        """None where it did not come to its end."""
        assignment = self._transact(lambda session: assignments.load(session, claim))
        if assignment is None:
            return None
        key = None if claim.key in {"check", "report"} else uuid.uuid4().hex  # nobody's twin
        if key is not None and self._transact(partial(assignments.meet, claim=claim, key=key)).state != State.RUNNING:
            self._told.lost += 1
            return None
        if not self._sleep(claim, keeper, self._crew.pace.seconds(assignment.asked.labels["number"], claim.key)):
            return None
        output = output_of(claim.stage_id, claim.token)
        files = [
            StoredFile(f"file-{number}", f"{output}/file-{number}", 1, "0" * 64, "application/octet-stream")
            for number in range(FILES[claim.key])
        ]
        result = StageResult({"verdict": "none"} if claim.key == "report" else {"told": "x" * 500})
        begun = time.monotonic()
        ended = self._transact(
            lambda session: assignments.commit(
                session, claim, result=result, output=output, files=files, dedupe_key=key, memory=1
            )
        )
        self._told.ended.append(time.monotonic() - begun)
        if ended.state is not State.SUCCEEDED:
            self._told.lost += 1
        return ended

    def _sleep(self, claim: Claim, keeper: LeaseKeeper, seconds: float) -> bool:
        """The stage: its time passes, and it tells how far it is. False if it is to stop."""
        begun, relayed, every = time.time(), 0, self._crew.pace.progress * self._crew.pace.slower
        batch = [events.log(f"{line} of the stage", stage=claim.key, attempt=claim.attempt) for line in ("one", "two")]
        while True:
            before, written = relayed, tuple(batch)
            progress = {"done": int(1000 * (time.time() - begun)), "total": int(1000 * seconds), "unit": "steps"}
            standing = self._transact(
                partial(claims.add_events, claim=claim, batch=written, before=before, progress=progress)
            )
            if standing is not Standing.HELD or keeper.standing is not Standing.HELD:
                self._told.lost += 1
                return False
            relayed += len(batch)
            left = begun + seconds - time.time()
            stopped = self._done.wait(max(0.0, min(left, every)))
            if stopped or left <= every:
                break
            batch = [events.NewEvent("progress", progress, stage=claim.key, attempt=claim.attempt)]
        self._told.slept.append((begun, time.time()))
        return not stopped

    def _transact(self, work: Callable[[Session], T]) -> T:
        return transact_patiently(self._sessions, work, give_up=self._done.is_set)


def spec_text(number: int, seed: int, priority: int = 0) -> str:
    """A job of the mix: six in ten heal, one in four is pruned alone, the others lose heads and neurons and train."""
    chosen = random.Random(f"{seed} {number} kind").random()
    spec: dict[str, Any] = {
        "model": {"source": "hub", "id": f"org/model-{number % 20}"},
        "labels": {"number": str(number)},
        "benchmark": {"latency": {"batch_sizes": [1]}},
        "priority": priority,
    }
    if chosen < 0.6:
        spec |= {"pruning": {"kind": "depth", "blocks": 6}, "recovery": {"kind": "healing"}}
    elif chosen < 0.85:
        spec |= {"pruning": {"kind": "depth", "blocks": 6}, "recovery": {"kind": "none"}}
    else:
        spec |= {"pruning": {"kind": "wanda_sp", "ratio": 0.2}, "recovery": {"kind": "lora"}}
    return json.dumps(spec)
