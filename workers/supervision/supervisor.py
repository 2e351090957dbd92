"""One stage from claim to commit: take the one whose turn it is, run its process, relay its events, end it.

The process does the work and knows nothing of all this; the database decides. Every write carries the claim's fencing
token, so a supervisor that was believed dead finds its writes refused, stops its process and leaves no trace but an
orphan in the store. What a stage has done is never done again: the result of a process that has succeeded is kept in
the scratch folder until it is committed, and results of identical stages are shared.

Nothing here keeps a transaction open while it computes, and nothing here imports torch.
"""

from __future__ import annotations

import errno
import logging
import threading
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar
from uuid import UUID

from opentelemetry import trace
from opentelemetry.trace import Link, Span, SpanKind, StatusCode
from sqlalchemy.orm import Session
from structlog.contextvars import bind_contextvars

from app import tracing
from app.blobs.store import ArtifactStore, output_of
from app.db import claims, twins
from app.db.claims import Claim, Standing
from app.db.session import SessionFactory
from app.db.stage_ends import LOST, Ended
from app.settings import Settings
from secateur.contract.errors import PROBLEM_BASE, DeviceFailed, ServiceError, StageFailed
from secateur.contract.jobs import State, Verdict
from secateur.contract.protocol import StageSpec, WorkingDevice
from secateur.contract.shown import shortened
from secateur.masking import redact
from workers.launch.device import WorkerDevice
from workers.launch.fork_server import ForkServer
from workers.launch.guardian import lease_clock
from workers.supervision import assignment as assignments
from workers.supervision import crashes
from workers.supervision.assignment import Assignment
from workers.supervision.event_relay import StageResult
from workers.supervision.lease import LeaseKeeper
from workers.supervision.patient_transactions import GaveUp, transact_patiently
from workers.supervision.presence import worker_name
from workers.supervision.scratch import Scratch
from workers.supervision.stage_run import Crashed, Failed, StageRun, Stopped, Succeeded, reason_to_stop
from workers.supervision.worker_metrics import WorkerMetrics, end_of

logger = logging.getLogger(__name__)

T = TypeVar("T")

DEVICE_FAILED = PROBLEM_BASE + DeviceFailed.slug
LONGEST_REASON = 300  # characters
FULL = {errno.ENOSPC, errno.EDQUOT}


class Interrupted(Exception):
    """The claim was lost or cancelled, or the worker shuts down, while files were moved."""


class Supervisor:
    """Runs stages for one worker; each thread of the pool calls `run_next`."""

    def __init__(
        self,
        settings: Settings,
        sessions: SessionFactory,
        store: ArtifactStore,
        forkserver: ForkServer,
        device: WorkerDevice,
        *,
        send: Callable[[UUID], object],
        metrics: WorkerMetrics | None = None,
    ) -> None:
        """`send` wakes a worker for a stage, and must not raise if the broker is down."""
        self.settings = settings
        self.sessions = sessions
        self.store = store
        self.forkserver = forkserver
        self.device = device
        self.stopping = threading.Event()
        self._send = send
        self._metrics = metrics or WorkerMetrics()

    def stop(self) -> None:
        """The worker shuts down: running stages are stopped and put back into the queue."""
        self.stopping.set()

    def run_next(self) -> None:
        """Run the stage whose turn it is; do nothing if none waits for a worker."""
        working = self.device.working
        if self.stopping.is_set() or working is None:
            return  # it waits in the database, and is sent again
        worker = f"{worker_name()}#{uuid.uuid4().hex[:8]}"
        lease, until = self.settings.lease_seconds, LeaseKeeper.first_until(self.settings, lease_clock())
        try:
            claim = transact_patiently(
                self.sessions,
                lambda session: claims.claim_next(session, worker=worker, lease_seconds=lease),
                give_up=self.stopping.is_set,
            )
        except GaveUp:
            return
        if claim is None:
            logger.debug("no stage waits for a worker")
            return
        bind_contextvars(stage_id=str(claim.stage_id), job_id=str(claim.job_id), stage=claim.key, attempt=claim.attempt)
        if claim.origin.request_id is not None:
            bind_contextvars(request_id=claim.origin.request_id)
        with _span(claim) as span, self._metrics.attempt(claim.kind) as counted:
            bind_contextvars(**tracing.bound())
            logger.info("%s of job %s: attempt %d", claim.key, claim.job_id, claim.attempt)
            keeper = LeaseKeeper(self.sessions, claim, self.settings, until=until)
            keeper.start()
            try:
                ended = _Attempt(self, claim, keeper, working).work()
            finally:
                keeper.stop()
            counted.end = end_of(ended.state)
            logger.info("%s of job %s: %s", claim.key, claim.job_id, ended.state or "no longer this worker's")
            span.set_attribute("secateur.state", ended.state or "lost")
            if ended.state is State.FAILED:
                span.set_status(StatusCode.ERROR)
            for stage_id in (*ended.send, *self._woken()):
                self._send(stage_id)

    def _woken(self) -> list[UUID]:
        """Stages of other jobs that a stage which has ended here lets go on."""
        try:
            return transact_patiently(self.sessions, twins.wake, give_up=self.stopping.is_set)
        except GaveUp:
            return []  # the janitor wakes them


def _span(claim: Claim) -> AbstractContextManager[Span]:
    """The attempt in the trace of the request that asked for it; the message that woke this worker up is linked."""
    told: dict[str, str | int] = {
        "secateur.job_id": str(claim.job_id),
        "secateur.stage": claim.key,
        "secateur.attempt": claim.attempt,
        "secateur.request_id": claim.origin.request_id or "",
    }
    woken_by = trace.get_current_span().get_span_context()
    return trace.get_tracer("secateur").start_as_current_span(
        claim.key,
        context=tracing.context_of(claim.origin.traceparent),
        kind=SpanKind.CONSUMER,
        attributes=told,
        links=[Link(woken_by)] if woken_by.is_valid else [],
    )


class _Attempt:
    """One claim of one stage."""

    def __init__(self, supervisor: Supervisor, claim: Claim, keeper: LeaseKeeper, device: WorkingDevice) -> None:
        self._supervisor = supervisor
        self._device = device
        self._settings = supervisor.settings
        self._claim = claim
        self._keeper = keeper
        self._scratch = Scratch(supervisor.settings.work_dir.resolve(), claim.stage_id)

    def work(self) -> Ended:
        """Bring the stage to an end, whatever happens; the end as it was committed."""
        try:
            return self._settle()
        except GaveUp:
            logger.warning("%s of job %s is left to the janitor", self._claim.key, self._claim.job_id)
            return LOST

    def _settle(self) -> Ended:
        try:
            return self._work()
        except GaveUp:
            raise
        except Interrupted:
            return self._stopped(self._reason() or Stopped.SHUTDOWN)
        except ServiceError as error:
            return self._fail(error.to_problem())
        except Exception as error:
            if isinstance(error, OSError) and error.errno in FULL:
                return self._fail(crashes.disk_full("the worker's data folder or the artifact store").to_problem())
            logger.exception("%s of job %s broke its supervisor", self._claim.key, self._claim.job_id)
            first = shortened(next(iter(str(error).strip().splitlines()), ""), LONGEST_REASON)
            words = redact(f"{type(error).__name__}: {first}" if first else type(error).__name__)
            return self._crash(StageFailed(f"The worker could not run the stage ({words})."))

    def _work(self) -> Ended:
        assignment = self._transact(lambda session: assignments.load(session, self._claim))
        if assignment is None:
            return LOST
        spec = assignment.spec(
            self._settings, self._supervisor.store, self._scratch.work, device=self._device, check=self._check
        )
        key = assignment.dedupe_key(spec, self._device) if self._settings.reuse_results else None
        if key is not None:
            own_key = key
            met = self._transact(lambda session: assignments.meet(session, self._claim, own_key))
            if met.state is not State.RUNNING:
                return met
        self._scratch.prepare(spec)
        memory: int | None = None
        result = self._scratch.saved_result(spec)
        if result is None:
            self._scratch.forget_result()
            match self._run(fetches=assignment.fetches):
                case Succeeded() as ended:
                    result, memory = ended.result, ended.memory
                    self._scratch.save_result(spec, result)
                case Failed(problem=problem) if problem.get("type") != DEVICE_FAILED:
                    return self._fail(problem)
                case Failed(problem=problem):
                    return self._device_failed(problem)
                case Crashed(error=error) if self._device.setting == "cpu" or not spec.row.device:
                    return self._crash(error)
                case Crashed(error=error):
                    return self._device_failed(error.to_problem())
                case Stopped() as stopped:
                    return self._stopped(stopped)
        return self._publish(assignment, spec, result, key, memory=memory)

    def _run(self, *, fetches: bool) -> Succeeded | Failed | Crashed | Stopped:
        return StageRun(
            self._claim,
            self._scratch,
            self._keeper,
            self._settings,
            self._supervisor.sessions,
            self._supervisor.forkserver,
            fetches=fetches,
            shutting_down=self._supervisor.stopping.is_set,
        ).run()

    def _publish(
        self, assignment: Assignment, spec: StageSpec, result: StageResult, key: str | None, *, memory: int | None
    ) -> Ended:
        """Put the files into the store, then commit everything at once."""
        if spec.row.concludes and result.data.get("verdict") not in set(Verdict):
            raise StageFailed("The report has no verdict.")
        store, output = self._supervisor.store, output_of(self._claim.stage_id, self._claim.token)
        self._scratch.out.mkdir(parents=True, exist_ok=True)
        files = store.put_folder(self._scratch.out, output, check=self._check)
        if key is not None and assignment.dedupe_key(spec, self._device) != key:
            key = None  # the model or a text was changed while the stage read it
        ended = self._transact(
            lambda session: assignments.commit(
                session, self._claim, result=result, output=output, files=files, dedupe_key=key, memory=memory
            )
        )
        if ended.state is State.SUCCEEDED:
            self._scratch.remove()
        else:  # refused or cancelled: nothing refers to these files, and nothing ever will
            store.delete_folder(output)
        return ended

    def _stopped(self, stopped: Stopped) -> Ended:
        if stopped is Stopped.LOST:
            return LOST
        if stopped is Stopped.CANCEL:
            return self._transact(lambda session: claims.cancelled(session, self._claim))
        reason = (
            "The worker shuts down; the stage goes on from its last checkpoint on another one."
            if stopped is Stopped.SHUTDOWN
            else "The worker could not renew its lease in time, and stopped the stage."
        )
        return self._transact(lambda session: claims.release(session, self._claim, reason=reason))

    def _device_failed(self, problem: dict[str, Any]) -> Ended:
        """The stage says that its GPU failed, or has died on it: whose fault is it?"""
        if self._supervisor.device.doubt():
            most = self._settings.max_attempts
            return self._transact(
                lambda session: claims.crash(session, self._claim, problem=problem, max_attempts=most)
            )
        reason = f"{problem['detail']} The worker takes no more stages; this one waits for a worker whose device works."
        return self._transact(lambda session: claims.release(session, self._claim, reason=reason))

    def _fail(self, problem: dict[str, Any]) -> Ended:
        logger.warning("%s of job %s failed: %s", self._claim.key, self._claim.job_id, problem.get("detail"))
        return self._transact(lambda session: claims.fail(session, self._claim, problem=problem))

    def _crash(self, error: StageFailed) -> Ended:
        problem, most = error.to_problem(), self._settings.max_attempts
        return self._transact(lambda session: claims.crash(session, self._claim, problem=problem, max_attempts=most))

    def _transact(self, work: Callable[[Session], T]) -> T:
        return transact_patiently(self._supervisor.sessions, work, give_up=self._supervisor.stopping.is_set)

    def _reason(self) -> Stopped | None:
        return reason_to_stop(self._keeper.standing, self._supervisor.stopping.is_set())

    def _check(self) -> None:
        """Called between chunks while files are moved: a claim that is lost or cancelled ends that at once."""
        if self._reason() is not None or self._keeper.standing is not Standing.HELD:
            raise Interrupted
