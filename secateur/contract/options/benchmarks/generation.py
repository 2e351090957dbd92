"""Options of the built-in checks of what the variants generate."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from secateur.contract.options.method import Method

GenerationCheck = Literal["arithmetic", "copying", "format"]


class GenerationBenchmark(Method):
    """A pruned model may still tell the best of four answers and be unable to write one."""

    title = "Generation checks"
    summary = (
        "Short answers that every variant writes greedily: sums, words to copy, a form to keep. How many are right, "
        "and how many are the original's own."
    )
    paper = "Secateur 2026: prompts of its own, drawn from the job's seed"

    checks: tuple[GenerationCheck, ...] = Field(
        default=("arithmetic", "copying", "format"), min_length=1, description="Which checks are made."
    )
    prompts: int = Field(default=16, ge=1, le=1000, description="Prompts of each check.")
    max_new_tokens: int = Field(
        default=32,
        ge=1,
        le=1024,
        description="Tokens of an answer, at most; in no case more than six beyond the right one's.",
    )
    chat: bool = Field(
        default=True, description="Put the prompts to a model with a chat template as a chat; as plain text otherwise."
    )
