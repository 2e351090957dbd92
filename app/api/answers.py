"""Questions to the models of a finished job: asked, read, listed. Their answers are streamed as a job's events."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body, Response

from app.api import example_errors
from app.api.example_specs import JOB_ID
from app.api.responses import BAD_PATH, BODY_ERRORS, FOREIGN_PAGE, UNAUTHORIZED, example, problems
from app.api.scores import TAG
from app.deps import Caller, WorkDep, transaction
from app.services import answers as service
from secateur.contract.errors import Conflict, InvalidInput, NotFound
from secateur.contract.questions import Question
from secateur.schemas.answers import Answer, AnswerList

router = APIRouter(prefix="/jobs/{job_id}/answers", tags=[TAG.name])

EXAMPLE_ID = "019ab8f0-6c11-7f3e-9d20-4b7a1e2c9d55"
_PATH = f"/jobs/{JOB_ID}/answers"
QUESTION: dict[str, Any] = {
    "prompt": "Explain in two sentences why the sky is blue.",
    "max_tokens": 64,
    "temperature": 0.0,
    "chat": True,
    "variants": ["original", "recovered"],
}
ASKED: dict[str, Any] = {
    "id": EXAMPLE_ID,
    "asked_of": JOB_ID,
    "state": "queued",
    "question": QUESTION,
    "answers": [],
    "problem": None,
    "created_at": "2026-11-24T18:25:11.420000Z",
    "started_at": None,
    "finished_at": None,
}
EXAMPLE: dict[str, Any] = {
    **ASKED,
    "state": "succeeded",
    "answers": [
        {
            "variant": variant,
            "text": text,
            "tokens": tokens,
            "prompt_tokens": 41,
            "chat": True,
            "first_token_seconds": first,
            "tokens_per_second": speed,
            "ended": "end",
        }
        for variant, text, tokens, first, speed in (
            ("original", "Air scatters short waves of light more than long ones, and blue is short.", 17, 0.31, 19.4),
            ("recovered", "The air scatters blue light more than red light.", 11, 0.24, 24.8),
        )
    ],
    "started_at": "2026-11-24T18:25:11.910000Z",
    "finished_at": "2026-11-24T18:25:16.020000Z",
}
NO_ANSWER = NotFound(f"job {JOB_ID} was not asked a question {EXAMPLE_ID}")
BUSY = Conflict(f"job {JOB_ID} is answering 2 questions already; wait for an answer, or cancel")
NOT_OVER = Conflict(f"job {JOB_ID} is running; the models of a job that has succeeded can be asked")
NO_VARIANT = InvalidInput.field(
    "/variants/0", "the job has no recovered model", value="recovered", expected="one of original, pruned"
)


@router.post(
    "",
    status_code=202,
    summary="Ask the models of a job",
    responses={
        202: {
            **example(ASKED, description="A worker answers as soon as one is free."),
            "headers": {"Location": {"description": "Where the answers will be.", "schema": {"type": "string"}}},
        },
        **problems(
            UNAUTHORIZED,
            FOREIGN_PAGE,
            example_errors.NO_JOB,
            NOT_OVER,
            BUSY,
            Conflict(service.OFF),
            *BODY_ERRORS,
            BAD_PATH,
            NO_VARIANT,
            instance=_PATH,
        ),
    },
)
@transaction
def ask_job(
    job_id: UUID,
    question: Annotated[Question, Body(examples=[QUESTION])],
    response: Response,
    work: WorkDep,
    caller: Caller,
) -> Answer:
    """Puts a prompt to the original, the pruned and the recovered model of a job that has succeeded.

    A worker answers before it takes other work: the models one after the other, each with the device to itself, so
    that its tokens per second are its own. The answer is a small job: the events of its id are a stream with the text
    as it is written (`text`) and the figures of each model (`metrics`). The asked job stays as it is. Two questions of
    a job may wait at a time, the last 50 are kept, and one that is not answered within 15 minutes is cancelled.
    """
    answer = service.ask(work, job_id, question, caller=caller)
    response.headers["Location"] = f"/jobs/{job_id}/answers/{answer.id}"
    return answer


@router.get(
    "",
    summary="List the questions that a job was asked",
    responses={
        200: example({"data": [EXAMPLE]}),
        **problems(UNAUTHORIZED, example_errors.NO_JOB, BAD_PATH, instance=_PATH),
    },
)
@transaction
def list_answers(job_id: UUID, work: WorkDep, _: Caller) -> AnswerList:
    """The last 50, the newest first, with their answers."""
    return AnswerList(data=service.answers_of(work, job_id))


@router.get(
    "/{answer_id}",
    summary="Read the answers to a question",
    responses={
        200: example(EXAMPLE),
        **problems(UNAUTHORIZED, example_errors.NO_JOB, NO_ANSWER, BAD_PATH, instance=f"{_PATH}/{EXAMPLE_ID}"),
    },
)
@transaction
def get_answer(job_id: UUID, answer_id: UUID, work: WorkDep, _: Caller) -> Answer:
    """The question, and what each model has answered, once all have."""
    return service.find(work, job_id, answer_id)
