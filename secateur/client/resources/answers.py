"""Questions to the models of a finished job, and what they answer: `client.answers`."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from secateur.client.connection import finish
from secateur.client.requests import Requests
from secateur.schemas.answers import Answer, AnswerList

Found = list[Answer]  # in a class that has a method `list`, the word means that


class AsyncAnswers:
    """What the models of a job answer to the same prompt."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    async def create(
        self,
        job_id: UUID | str,
        prompt: str,
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        chat: bool | None = None,
        variants: Sequence[str] | None = None,
    ) -> Answer:
        """Put a question to the models of a finished job.

        The text comes as it is written by `client.jobs.events` of the answer's id; `retrieve` has all of it in the
        end. What is not given is as the service has it.

        Args:
            max_tokens: that each model writes at most.
            temperature: 0: always the likeliest token.
            chat: whether the prompt goes through the model's chat template.
            variants: which models answer, such as `original` and `recovered`; all unless given.
        """
        options = {"max_tokens": max_tokens, "temperature": temperature, "chat": chat, "variants": variants}
        body = {"prompt": prompt, **{name: value for name, value in options.items() if value is not None}}
        return await self._requests.model(Answer, "POST", f"/jobs/{job_id}/answers", json=body, repeat=False)

    async def retrieve(self, job_id: UUID | str, answer_id: UUID | str) -> Answer:
        """One question to a job, and what each model has answered once all have."""
        return await self._requests.model(Answer, "GET", f"/jobs/{job_id}/answers/{answer_id}")

    async def list(self, job_id: UUID | str) -> Found:
        """The last questions that a job was asked, the newest first, with their answers."""
        return (await self._requests.model(AnswerList, "GET", f"/jobs/{job_id}/answers")).data


class Answers:
    """What the models of a job answer to the same prompt."""

    def __init__(self, calls: AsyncAnswers) -> None:
        self._calls = calls

    def create(
        self,
        job_id: UUID | str,
        prompt: str,
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        chat: bool | None = None,
        variants: Sequence[str] | None = None,
    ) -> Answer:
        """Put a question to the models of a finished job.

        The text comes as it is written by `client.jobs.events` of the answer's id; `retrieve` has all of it in the
        end. What is not given is as the service has it.

        Args:
            max_tokens: that each model writes at most.
            temperature: 0: always the likeliest token.
            chat: whether the prompt goes through the model's chat template.
            variants: which models answer, such as `original` and `recovered`; all unless given.
        """
        return finish(
            self._calls.create(
                job_id, prompt, max_tokens=max_tokens, temperature=temperature, chat=chat, variants=variants
            )
        )

    def retrieve(self, job_id: UUID | str, answer_id: UUID | str) -> Answer:
        """One question to a job, and what each model has answered once all have."""
        return finish(self._calls.retrieve(job_id, answer_id))

    def list(self, job_id: UUID | str) -> Found:
        """The last questions that a job was asked, the newest first, with their answers."""
        return finish(self._calls.list(job_id))
