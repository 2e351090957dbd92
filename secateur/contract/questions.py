"""A question to the models of a finished job: the original, the pruned, the recovered, and each quantised one.

It is bounded in what it may take: so long a prompt, so many tokens, so many seconds. What comes of it is to be read,
and judges nothing: no figure of a report is made of it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from secateur.contract.measurements import VariantName
from secateur.contract.options.method import Options
from secateur.contract.results import Environment, Result

VARIANTS = ("original", "pruned", "recovered")  # who answers unless others are named, in this order
MOST_VARIANTS = 8

MOST_CHARACTERS = 8_000  # of a prompt
MOST_TOKENS = 1_024  # of an answer
MOST_SECONDS = 120.0  # in which all variants answer, beside the time that it takes to load them
WAIT_SECONDS = 900.0  # from the question to the last answer, in the queue too; it is cancelled then


def _said(prompt: str) -> str:
    if "\0" in prompt or not prompt.strip():
        raise PydanticCustomError("no_prompt", "the prompt is empty, or has a NUL character", {"expected": "a text"})
    return prompt


class Question(Options):
    """What is asked, and how it is to be answered."""

    prompt: Annotated[str, AfterValidator(_said)] = Field(
        min_length=1, max_length=MOST_CHARACTERS, examples=["Explain in two sentences why the sky is blue."]
    )
    max_tokens: int = Field(default=128, ge=1, le=MOST_TOKENS, description="Of each answer, at most.")
    temperature: float = Field(
        default=0.0, ge=0.0, le=2.0, description="0 takes the likeliest token; else they are drawn, by the job's seed."
    )
    chat: bool = Field(
        default=True,
        description="Put it to a model with a chat template as a user's message; as the beginning of a text otherwise.",
    )
    variants: tuple[VariantName, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=MOST_VARIANTS,
        description="Who answers, by the report's names: `original`, `pruned`, `recovered`, or a quantised one such as "
        "`recovered-int8`. If absent, those of the first three that the job has.",
    )


class VariantAnswer(Result):
    """What one model has answered."""

    variant: VariantName
    text: str
    tokens: int  # of the answer, the one that ended it left out
    prompt_tokens: int
    chat: bool  # whether the prompt went through a chat template
    first_token_seconds: float | None = None  # to read the prompt; None where nothing was answered
    # of the tokens after the first; None where there were none, and of a GGUF file, whose values are unpacked here
    tokens_per_second: float | None = None
    ended: Literal["end", "length", "time"]  # by itself, or by a bound


class Answered(Result):
    """All answers to one question, in the order in which they were given."""

    answers: list[VariantAnswer]
    environment: Environment
