"""Questions to the models of a finished job, and what they answered."""

from __future__ import annotations

from uuid import UUID

from pydantic import Field

from secateur.contract.jobs import State
from secateur.contract.questions import Question, VariantAnswer
from secateur.schemas.base import Body, Timestamp
from secateur.schemas.problem import Problem


class Answer(Body):
    """One question, and the answers to it once all are there.

    It is a small job of its own: `GET /jobs/{id}/events` of its id streams the answers as they are written, and it is
    cancelled and deleted as any job is.
    """

    id: UUID
    asked_of: UUID = Field(description="The job whose models answer.")
    state: State
    question: Question
    answers: list[VariantAnswer] = Field(
        default=[], description="In the order in which they were given; none before the last of them is."
    )
    problem: Problem | None = Field(default=None, description="Why there are none.")
    created_at: Timestamp
    started_at: Timestamp | None = None
    finished_at: Timestamp | None = None


class AnswerList(Body):
    """The last questions that a job was asked, the newest first."""

    data: list[Answer]
