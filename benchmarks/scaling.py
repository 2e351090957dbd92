"""How the queue bears one, ten and a hundred GPU workers: real PostgreSQL and Valkey, played workers, one ratio.

Each round has a database of its own. First the queue is full, which shows what share of their time workers work, whose
turn it is, and what the database does for it. Then jobs come at random, at eight tenths of what the workers can do,
which shows how long one waits. The ratio is the work of 10 and of 100 workers over 10 and 100 times that of one. At
last ten equal jobs are given at once to one worker: when does each end?

A hundred workers by the clock are more than two cores can play. So all that happens by the clock, stages, heartbeats,
looks and progress, may happen `--slower` times as slowly; rates and waits are then given in the seconds that are
played, and what one transaction takes in those of the clock.

    python benchmarks/scaling.py [--workers 1 10 100] [--seconds 60] [--second 0.2] [--slower 5] [--connections 1000]
                                 [--seed 1]
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import random
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import psycopg
import redis
from _played_workers import COMPUTES, RECORDED, Crew, Pace, Told, play, spec_text
from sqlalchemy.engine import make_url

from app.broker.messages import QUEUE, wake_up
from app.db import jobs
from app.db.migrate import upgrade
from app.db.session import make_engine, make_session_factory, unit_of_work
from app.local.embedded import PostgresServer, ValkeyServer
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_graph import planned

WARM_SECONDS = 8.0  # until every worker has its stage
BUSY = 0.8  # of what the workers can do, where jobs come at random
NEAR = 1.0  # seconds of the clock: who came later than this before a claim may not have been seen by it
CALLERS = ("many", "many", "many", "few", "other")
URGENT = 5  # the priority of some that come in the middle

_STATISTICS = """
    SELECT d.xact_commit, d.xact_rollback, d.tup_inserted + d.tup_updated + d.tup_deleted, d.deadlocks, w.wal_bytes
    FROM pg_stat_database AS d, pg_stat_wal AS w WHERE d.datname = current_database()
"""
_SESSIONS = """
    SELECT CASE WHEN state = 'active' AND pid <> pg_backend_pid()
                THEN coalesce(wait_event_type || ': ' || wait_event, 'computes') ELSE 'idle' END
    FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'
"""
_STAGES = """
    SELECT jobs.id::text, jobs.priority, jobs.caller, stages.place > 0, extract(epoch FROM stages.enqueued_at)::float,
           extract(epoch FROM stages.started_at)::float, extract(epoch FROM stages.finished_at)::float,
           extract(epoch FROM jobs.created_at)::float, extract(epoch FROM jobs.finished_at)::float,
           jobs.labels ->> 'number', stages.key
    FROM stages JOIN jobs ON jobs.id = stages.job_id WHERE stages.enqueued_at IS NOT NULL
"""


@dataclass(frozen=True)
class Seen:
    """A stage, as the database has it after a round. Times are those of the clock; None: not yet."""

    job: str
    priority: int
    caller: str
    begun: bool  # its job, before the stage was taken
    ready: float
    started: float | None
    finished: float | None
    made: float  # the job
    over: float | None  # the job
    number: str
    key: str


class Round:
    """One database, one crowd of workers."""

    def __init__(self, postgres: PostgresServer, valkey: ValkeyServer, folder: Path, pace: Pace, workers: int) -> None:
        self.pace, self.workers = pace, workers
        self._postgres, self._folder = postgres, folder
        self._redis_url = valkey.url
        self._broker = redis.Redis.from_url(valkey.url)
        self._broker.flushall()
        name = f"round_{time.time_ns()}"
        with closing(psycopg.connect(postgres.url, autocommit=True)) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        self.url = make_url(postgres.url).set(database=name).render_as_string(hide_password=False)
        upgrade(self.url)
        self._engine = make_engine(self.url)
        self._sessions = make_session_factory(self._engine)
        self._number = 0

    def submit(self, count: int, *, callers: Sequence[str] = CALLERS, priority: int = 0, alike: bool = False) -> None:
        """Write jobs and send their messages, as the API does."""
        sent = []
        for _ in range(count):
            number = 0 if alike else self._number
            spec = CompressionSpec.model_validate_json(spec_text(number, self.pace.seed, priority))
            with unit_of_work(self._sessions) as session:
                made = jobs.insert(session, spec=spec, caller=callers[self._number % len(callers)])
            assert made is not None, "no key was given that could have been there"
            sent.append(made.stage_ids[0])
            self._number += 1
        if sent:
            self._broker.lpush(QUEUE, *map(wake_up, sent))

    def play(self, seconds: float, meanwhile: Callable[[Round, threading.Event], None]) -> dict[str, Any]:
        """Let the workers work: some seconds to warm up, and so many that count."""
        context = multiprocessing.get_context("forkserver")
        go, stop = context.Event(), context.Event()
        crews = []
        for part in range(min(4, self.workers)):
            names = tuple(f"played-{number}" for number in range(part, self.workers, 4))
            ours, theirs = context.Pipe()
            crew = Crew(self.url, self._redis_url, self._folder, names, self.pace)
            process = context.Process(target=play, args=(crew, go, stop, theirs), daemon=True)
            process.start()
            crews.append((process, ours))
        for _, pipe in crews:
            pipe.recv()
        finish = threading.Event()
        go.set()
        coming = threading.Thread(target=meanwhile, args=(self, finish), daemon=True)
        coming.start()
        time.sleep(WARM_SECONDS)
        with closing(psycopg.connect(self.url, autocommit=True)) as connection:
            before, processors = self._statistics(connection), [self._processor(process.pid) for process, _ in crews]
            postgres, begun, sessions = self._processor(self._postgres.pid), time.time(), list[Counter[str]]()
            while time.time() < begun + seconds:
                sessions.append(Counter(what for (what,) in connection.execute(_SESSIONS).fetchall()))
                time.sleep(0.25)
            ended = time.time()
            after = self._statistics(connection)
            spent = sum(self._processor(process.pid) for process, _ in crews) - sum(processors)
            postgres = self._processor(self._postgres.pid) - postgres
        finish.set()
        stop.set()
        told: list[Told] = [pipe.recv() for _, pipe in crews]
        for process, _ in crews:
            process.join()
        coming.join()
        span = ended - begun
        worked = sum(max(0.0, min(to, ended) - max(since, begun)) for one in told for since, to in one.slept)
        slower = self.pace.slower
        commits, rollbacks, rows, deadlocks, wal = (new - old for new, old in zip(after, before, strict=True))
        return {
            "workers": self.workers,
            "working": worked / (span * self.workers),
            "transactions_a_second": slower * (commits + rollbacks - len(sessions)) / span,
            "rows_written_a_second": slower * rows / span,
            "wal_kB_a_second": slower * float(wal) / 1000 / span,
            "deadlocks": deadlocks,
            "connections_most": max(one.total() for one in sessions),
            "sessions_mean": {
                what: round(count / len(sessions), 2)
                for what, count in sum(sessions, Counter[str]()).most_common(6)
                if what != "idle"
            },
            "postgres_cores": slower * postgres / span,
            "played_workers_cores": slower * spent / span,
            "claim_ms": spread([1000 * one for crew in told for one in crew.claimed]),
            "commit_ms": spread([1000 * one for crew in told for one in crew.ended]),
            "messages_in_vain": sum(one.in_vain for one in told),
            "lost_claims": sum(one.lost for one in told),
            "refused_connections": self._postgres.log.read_text(errors="replace").count("too many clients"),
            **self._order(begun, ended),
        }

    def _order(self, begun: float, ended: float) -> dict[str, Any]:
        """Whose turn it was, by what the database has."""
        seen = self._seen()
        taken = sorted((one for one in seen if one.started and one.started < ended), key=lambda one: one.started or 0)
        passed_begun = passed_urgent = 0
        for one in taken:
            now = one.started or 0.0
            waiting = [w for w in seen if w.ready < now - NEAR and (w.started is None or w.started > now + NEAR)]
            passed_urgent += any(w.priority > one.priority for w in waiting)
            passed_begun += not one.begun and any(w.begun and w.priority >= one.priority for w in waiting)
        counted = [one for one in taken if (one.started or 0) >= begun]
        shares: Counter[str] = Counter()
        for one in taken:
            shares[one.caller] += max(0.0, min(one.finished or ended, ended) - max(one.started or 0, begun))  # type: ignore[assignment]
        whole, slower = sum(shares.values()) or 1, self.pace.slower
        return {
            "stages_a_second": slower * len(counted) / (ended - begun),
            "first_stages_taken": sum(not one.begun for one in taken),
            "taken_while_one_of_a_begun_job_waited": passed_begun,
            "taken_while_a_higher_priority_waited": passed_urgent,
            "jobs_over": len({one.job for one in seen if one.over and one.over < ended}),
            "next_stage_wait_s": spread([((one.started or 0) - one.ready) / slower for one in counted if one.begun]),
            "job_wait_s": spread([((one.started or 0) - one.made) / slower for one in counted if not one.begun]),
            "urgent_wait_s": spread(
                [((one.started or 0) - one.made) / slower for one in taken if one.priority == URGENT and not one.begun]
            ),
            "stretch": spread(self._stretches(seen)),
            "jobs_begun_of_callers": dict(sorted(Counter(one.caller for one in counted if not one.begun).items())),
            "time_of_callers": {caller: round(one / whole, 3) for caller, one in sorted(shares.items())},
        }

    def _stretches(self, seen: list[Seen]) -> list[float]:
        """Of each job that is over: from its first stage's start to its end, over the time of its stages alone."""
        own: dict[str, float] = {}
        since: dict[str, float] = {}
        over: dict[str, float] = {}
        for one in seen:
            if one.over is not None and one.started is not None:
                own[one.job] = own.get(one.job, 0.0) + self.pace.seconds(one.number, one.key)
                since[one.job] = min(since.get(one.job, math.inf), one.started)
                over[one.job] = one.over
        return [(over[job] - since[job]) / own[job] for job in own]

    def ends(self) -> list[float]:
        """When each job ended, counted from the first start."""
        seen = self._seen()
        first = min(one.started for one in seen if one.started is not None)
        return sorted({round(one.over - first, 1) for one in seen if one.over is not None})

    def _seen(self) -> list[Seen]:
        with closing(psycopg.connect(self.url, autocommit=True)) as connection:
            return [Seen(*row) for row in connection.execute(_STAGES).fetchall()]

    @staticmethod
    def _statistics(connection: psycopg.Connection[Any]) -> tuple[Any, ...]:
        found = connection.execute(_STATISTICS).fetchone()
        assert found is not None, "the database that is asked is there"
        return tuple(found)

    @staticmethod
    def _processor(pid: int | None) -> float:
        """Seconds of the process and of all that it has started."""
        total = 0.0
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            for one in (process, *process.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    times = one.cpu_times()
                    total += times.user + times.system
        return total


def spread(values: list[float]) -> dict[str, float] | None:
    """The median, and what 95 of 100 stay below."""
    if not values:
        return None
    values = sorted(values)
    last = values[min(len(values) - 1, math.ceil(0.95 * len(values)) - 1)]
    return {"median": round(statistics.median(values), 3), "95 %": round(last, 3), "of": len(values)}


def mean_job(pace: Pace, count: int = 400) -> float:
    """Seconds of the clock that a job of the mix takes by itself."""
    specs = [CompressionSpec.model_validate_json(spec_text(number, pace.seed)) for number in range(count)]
    return math.fsum(pace.seconds(str(n), one.key) for n, spec in enumerate(specs) for one in planned(spec)) / count


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--workers", type=int, nargs="+", default=[1, 10, 100])
    arguments.add_argument("--seconds", type=float, default=60.0, help="of the clock, of each round")
    arguments.add_argument("--second", type=float, default=0.2, help="that one of a stage is played in")
    arguments.add_argument("--slower", type=float, default=5.0, help="than by the clock everything happens")
    arguments.add_argument("--quicker", type=float, default=10.0, help="a GPU with its larger model, than was recorded")
    arguments.add_argument("--progress", type=float, default=1.0, help="seconds from one to the next")
    arguments.add_argument("--connections", type=int, default=1000, help="PostgreSQL's max_connections")
    arguments.add_argument("--only-full", action="store_true", help="leave out the rounds in which jobs come at random")
    arguments.add_argument("--no-fsync", action="store_true", help="as on a disk whose fsync takes no time")
    arguments.add_argument("--seed", type=int, default=1)
    given = arguments.parse_args()
    pace = Pace(given.second * given.slower, given.quicker, given.progress, given.slower, given.seed)
    job = mean_job(pace)
    gpu = {key: one / (pace.quicker if key in COMPUTES else 1) for key, one in RECORDED.items()}
    told = {"stage_seconds": gpu, "job_seconds_of_the_clock": round(job, 2), "fdatasync_ms": spread(syncs(30))}
    print(json.dumps(told), flush=True)
    multiprocessing.get_context("forkserver").set_forkserver_preload(["_played_workers"])
    full: dict[int, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="secateur-scaling-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        postgres = PostgresServer(folder / "postgres", durable=not given.no_fsync, connections=given.connections)
        valkey = ValkeyServer(folder / "valkey")
        try:
            postgres.start()
            valkey.start()

            for workers in given.workers:
                one = Round(postgres, valkey, folder, pace, workers)
                one.submit(int(3 * workers * (given.seconds + WARM_SECONDS) / job) + 20)
                full[workers] = shown("full", one.play(given.seconds, urgent_ones))
                if workers >= 10 and not given.only_full:
                    one = Round(postgres, valkey, folder, pace, workers)
                    shown("at random", one.play(given.seconds, at_random(job, workers, given.seed)))
            if not given.only_full:
                quick = replace(pace, second=0.025, slower=1.0)
                one = Round(postgres, valkey, folder, quick, 1)
                one.submit(10, alike=True)
                one.play(2 * 10 * mean_job(quick), lambda *_: None)
                print(json.dumps({"ten_equal_jobs_at_once_end_after_s": one.ends()}), flush=True)
        finally:
            valkey.stop()
            postgres.stop()
    least = full[min(full)]["working"]
    print(json.dumps({"ratio": {workers: round(found["working"] / least, 3) for workers, found in full.items()}}))


def shown(kind: str, found: dict[str, Any]) -> dict[str, Any]:
    """The figures of a round, printed."""
    rounded = {key: round(one, 3) if isinstance(one, float) else one for key, one in found.items()}
    print(json.dumps({"round": kind, **rounded}), flush=True)
    return found


def syncs(count: int) -> list[float]:
    """Milliseconds that this machine takes to have eight kilobytes on its disk: at least one such wait per commit."""
    taken = []
    with tempfile.TemporaryFile() as file:
        for _ in range(count):
            file.write(bytes(8192))
            file.flush()
            begun = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(1000 * (time.perf_counter() - begun))
    return taken


def urgent_ones(one: Round, finish: threading.Event) -> None:
    """Three times in the round, jobs of a higher priority come."""
    for _ in range(3):
        if finish.wait(WARM_SECONDS):
            return
        one.submit(max(1, one.workers // 10), callers=("urgent",), priority=URGENT)


def at_random(job: float, workers: int, seed: int) -> Callable[[Round, threading.Event], None]:
    """Jobs that come one by one, as many as keep the workers busy for `BUSY` of their time."""
    chance = random.Random(seed)

    def come(one: Round, finish: threading.Event) -> None:
        due = time.monotonic()
        while not finish.wait(max(0.0, due - time.monotonic())):
            one.submit(1)
            due += chance.expovariate(BUSY * workers / job)

    return come


if __name__ == "__main__":
    main()
