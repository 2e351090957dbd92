"""Asking the models of a finished job: a question is bounded, few wait at a time, and the last are kept.

It becomes a job of its own and no stage of the job that is asked, which stays as it ended: its verdict, its history
and its report are done with (docs/decisions/playground.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from app.db import jobs, questions
from app.db.rounds import of_what_is_handed_out
from app.db.tables.jobs import Job
from app.services.submit import send
from app.services.work import Work
from secateur.contract.errors import Conflict, InvalidInput
from secateur.contract.jobs import State
from secateur.contract.questions import VARIANTS, WAIT_SECONDS, Answered, Question
from secateur.contract.results import Quantised
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_kinds import PRUNE, QUANTISE, RECOVER
from secateur.schemas.answers import Answer
from secateur.schemas.problem import Problem

MOST_UNANSWERED = 2  # questions of one job
MOST_KEPT = 50
SETTING = "SECATEUR_PLAYGROUND"
OFF = f"the playground is switched off on this service ({SETTING})"
_MADE_BY = {"pruned": PRUNE.name, "recovered": RECOVER.name}


def ask(work: Work, job_id: UUID, question: Question, *, caller: str) -> Answer:
    """Put a question to the models of a job that has succeeded.

    Raises:
        NotFound: there is no such job.
        Conflict: the playground is off, the job is not over or has no models left, or too many questions wait.
        InvalidInput: the job has no variant that is named.
    """
    if not work.settings.playground:
        raise Conflict(OFF)
    job = jobs.lock(work.session, job_id)
    there = variants_of(job)
    for place, name in enumerate(question.variants or ()):
        if name not in there:
            detail = f"the job has no {name} model"
            raise InvalidInput.field(f"/variants/{place}", detail, value=name, expected=f"one of {', '.join(there)}")
    if questions.count_unanswered(work.session, job_id) >= MOST_UNANSWERED:
        raise Conflict(f"job {job_id} is answering {MOST_UNANSWERED} questions already; wait for an answer, or cancel")
    questions.keep(work.session, job_id, most=MOST_KEPT - 1)
    made = jobs.insert(
        work.session,
        spec=_spec(job),
        caller=caller,
        deadline_at=datetime.now(UTC) + timedelta(seconds=WAIT_SECONDS),
        origin=work.origin,
        asked=(job_id, question.model_copy(update={"variants": question.variants or usual(there)})),
    )
    assert made is not None, "it has no idempotency key"
    send(work, made.stage_ids[0])
    return shown(questions.get(work.session, job_id, made.id))


def usual(there: Sequence[str]) -> tuple[str, ...]:
    """Of those that can be asked, the ones that answer where nobody is named."""
    return tuple(name for name in there if name in VARIANTS)


def variants_of(job: Job) -> tuple[str, ...]:
    """Who can be asked. Raises Conflict where that is nobody."""
    if job.asked_of is not None:
        raise Conflict(f"{job.id} is a question itself; ask job {job.asked_of}")
    if job.state is not State.SUCCEEDED:
        raise Conflict(f"job {job.id} is {job.state.value}; the models of a job that has succeeded can be asked")
    done = {stage.kind: stage for stage in of_what_is_handed_out(job)[1] if stage.state is State.SUCCEEDED}
    whole = tuple(name for name in VARIANTS if _MADE_BY.get(name, PRUNE.name) in done)
    if QUANTISE.name not in done:
        return whole
    made = Quantised.model_validate(done[QUANTISE.name].result, extra="ignore")
    return (*whole, *(f"{whole[-1]}-{variant.name}" for variant in made.variants))


def answers_of(work: Work, job_id: UUID, *, limit: int = MOST_KEPT) -> list[Answer]:
    """The last questions that the job was asked, the newest first. Raises NotFound."""
    jobs.get(work.session, job_id)
    found: Sequence[Job] = questions.newest(work.session, job_id, limit=limit)
    return [shown(one) for one in found]


def find(work: Work, job_id: UUID, answer_id: UUID) -> Answer:
    """One question and its answers. Raises NotFound."""
    return shown(questions.get(work.session, job_id, answer_id))


def shown(job: Job) -> Answer:
    """The job of a question as the API shows it."""
    assert job.asked_of is not None, "it is a question's"
    result: dict[str, Any] | None = job.stages[0].result
    return Answer(
        id=job.id,
        asked_of=job.asked_of,
        state=job.state,
        question=Question.model_validate(job.question),
        answers=Answered.model_validate(result).answers if result else [],
        problem=Problem.model_validate(job.problem) if job.problem else None,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
    )


def _spec(job: Job) -> CompressionSpec:
    """What the asked job was to do, as its models are opened; the question is found by no label of it."""
    try:
        return CompressionSpec.model_validate({**job.spec, "labels": {}})
    except ValidationError as error:
        detail = f"job {job.id} was asked for in words that this version no longer takes; submit it again to ask it"
        raise Conflict(detail) from error
