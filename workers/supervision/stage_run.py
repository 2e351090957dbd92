"""One run of a stage process: start it, relay its events, stop it when that is asked, say how it went."""

from __future__ import annotations

import logging
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from structlog.contextvars import get_contextvars

from app.db import claims
from app.db.claims import Claim, Standing
from app.db.session import SessionFactory
from app.settings import Settings
from secateur import masking
from secateur.contract.errors import StageFailed
from workers.launch.fork_server import Exit, ForkServer, StageProcess
from workers.machine import memory
from workers.supervision import crashes
from workers.supervision.event_relay import EventRelay, StageResult
from workers.supervision.lease import LeaseKeeper
from workers.supervision.patient_transactions import GaveUp, transact_patiently
from workers.supervision.scratch import Scratch

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.1
DRAIN_SECONDS = 2.0  # for the rest of the events of a process that has ended
NEARLY_ALL = 0.9  # of its memory: a process that was killed when it used so much was killed for it
STARTS = 3  # of the process, where the fork server dies under it


@dataclass(frozen=True)
class Succeeded:
    result: StageResult
    memory: int | None = None  # bytes that its processes used at most; None where that is not known


@dataclass(frozen=True)
class Failed:
    """The stage has said what is wrong, or a limit was reached: trying again would end the same way."""

    problem: dict[str, Any]


@dataclass(frozen=True)
class Crashed:
    """The process broke without a word; it may be tried again."""

    error: StageFailed


class Stopped(Enum):
    """The process was stopped from outside."""

    LOST = "lost"  # the claim is another worker's
    CANCEL = "cancel"
    SHUTDOWN = "shutdown"
    LEASE = "lease"  # its guardian ended it: the lease was not renewed in time


Outcome = Succeeded | Failed | Crashed | Stopped


def reason_to_stop(standing: Standing, shutting_down: bool) -> Stopped | None:
    """Whether a stage is to be stopped, and why."""
    if standing is Standing.LOST:
        return Stopped.LOST
    if standing is Standing.CANCELLING:
        return Stopped.CANCEL
    return Stopped.SHUTDOWN if shutting_down else None


class StageRun:
    """Runs the process of one claim."""

    def __init__(
        self,
        claim: Claim,
        scratch: Scratch,
        keeper: LeaseKeeper,
        settings: Settings,
        sessions: SessionFactory,
        forkserver: ForkServer,
        *,
        fetches: bool,
        shutting_down: Callable[[], bool],
    ) -> None:
        self._claim = claim
        self._scratch = scratch
        self._keeper = keeper
        self._settings = settings
        self._sessions = sessions
        self._forkserver = forkserver
        self._fetches = fetches
        self._shutting_down = shutting_down
        self._memory = memory.stage_limit(settings.stage_memory_bytes, slots=settings.concurrency)
        self._relayed = 0

    def run(self) -> Outcome:
        """Start the process on the scratch folder's spec and see it to its end; no process is left afterwards."""
        for start in range(1, STARTS + 1):
            outcome, began = self._run_once()
            if began or start == STARTS:
                break
        return outcome

    def _run_once(self) -> tuple[Outcome, bool]:
        """The outcome, and whether the process has begun at all."""
        oom_kills = memory.oom_kills()
        process = self._forkserver.start(
            self._scratch.spec,
            log=self._scratch.log,
            until=self._keeper.until,
            memory=self._memory,
            hub_token=_hub_token() if self._fetches else None,
            about=get_contextvars(),
        )
        relay = EventRelay(self._claim, process.events)
        self._keeper.watch(process)
        try:
            exit_, stopped, timed_out = self._watch(process, relay)
            self._drain(process, relay)
            outcome = self._outcome(exit_, relay, stopped, timed_out, oom_killed=memory.oom_kills() > oom_kills)
            if isinstance(outcome, Crashed) and (printed := self._scratch.log_tail()):
                relay.log(f"the last lines that the process printed:\n{printed}", level="error")
            relay.finish()
            if outcome is not Stopped.LOST:
                self._flush_rest(relay)
            return outcome, exit_.code is not None or process.pid is not None or stopped is not None
        finally:
            self._keeper.watch(None)
            process.close()

    def _watch(self, process: StageProcess, relay: EventRelay) -> tuple[Exit, Stopped | None, bool]:
        """Relay events until the process is gone: how it ended, why it was stopped, whether for its time limit."""
        limit = time.monotonic() + self._settings.stage_time_limit_seconds
        stopped: Stopped | None = None
        timed_out, kill_at, retry_at = False, float("inf"), 0.0
        while (exit_ := process.poll()) is None:
            listening = [process.status] if relay.ended or relay.full else [process.status, process.events]
            select.select(listening, [], [], TICK_SECONDS)
            relay.processes = process.use
            relay.read()
            self._keeper.use = relay.use
            now = time.monotonic()
            if relay.due() and now >= retry_at and not self._flush(relay):
                retry_at = now + 1.0  # the database does not answer; the stage goes on until its pipe is full
            if stopped is None:
                stopped = reason_to_stop(self._keeper.standing, self._shutting_down())
                if stopped is Stopped.LOST:
                    kill_at = now
                elif stopped is not None:
                    process.terminate()
                    kill_at = now + self._settings.cancel_grace_seconds
                elif now >= limit and not timed_out:
                    timed_out, kill_at = True, now
            if now >= kill_at:
                kill_at = float("inf")
                process.kill()
        return exit_, stopped, timed_out

    def _outcome(
        self, exit_: Exit, relay: EventRelay, stopped: Stopped | None, timed_out: bool, *, oom_killed: bool
    ) -> Outcome:
        if stopped in {Stopped.LOST, Stopped.CANCEL}:
            return stopped
        if relay.result is not None and exit_.code == 0:
            return Succeeded(relay.result, exit_.memory or None)
        if exit_.reason == "memory" or (exit_.code == -signal.SIGKILL and self._out_of_memory(exit_, oom_killed)):
            return Failed(crashes.out_of_memory(exit_, limit=self._memory).to_problem())
        if relay.problem is not None:
            return Failed(relay.problem)
        if timed_out:
            return Failed(crashes.time_limit(self._settings.stage_time_limit_seconds).to_problem())
        if stopped is not None:
            return stopped
        if exit_.reason == "lease":
            return Stopped.LEASE
        return Crashed(crashes.describe(exit_))

    def _out_of_memory(self, exit_: Exit, oom_killed: bool) -> bool:
        """Whether it was the kernel that killed the process, for memory: by its count, or by what the process used."""
        most = min(self._memory, memory.machine_memory())
        return exit_.reason == "ended" and (oom_killed or exit_.memory >= NEARLY_ALL * most)

    def _drain(self, process: StageProcess, relay: EventRelay) -> None:
        """Read what the process wrote before it ended; the guardian has ended all who could still write."""
        give_up = time.monotonic() + DRAIN_SECONDS
        while not relay.ended and time.monotonic() < give_up:
            if relay.full and not self._flush(relay):
                return
            select.select([process.events], [], [], TICK_SECONDS)
            relay.read()

    def _flush_rest(self, relay: EventRelay) -> None:
        """Write all that is left, however long the database is away; GaveUp if the worker shuts down meanwhile."""
        if relay.pending:
            self._write(relay, give_up=self._shutting_down)

    def _flush(self, relay: EventRelay) -> bool:
        """Write events in one short transaction. False if the database does not answer; they are kept then."""
        try:
            self._write(relay, give_up=lambda: True)
        except GaveUp:
            return False
        return True

    def _write(self, relay: EventRelay, *, give_up: Callable[[], bool]) -> None:
        batch, progress = relay.batch()
        standing = transact_patiently(
            self._sessions,
            lambda session: claims.add_events(
                session, self._claim, batch, before=self._relayed, progress=progress, use=relay.use
            ),
            give_up=give_up,
        )
        if standing is Standing.LOST:
            self._keeper.standing = Standing.LOST
        self._relayed += len(batch)
        relay.written(len(batch))


def _hub_token() -> str | None:
    """The worker's token of the hub: from its environment, or from the file in which `hf auth login` leaves it."""
    from huggingface_hub import get_token

    try:
        token = get_token()
    except Exception as error:
        logger.warning("the hub's token cannot be had: %s", error)
        return None
    masking.learn([token] if token else [])
    return token
