"""Options of the samples that every variant generates."""

from __future__ import annotations

from pydantic import Field

from secateur.contract.options.method import Method
from secateur.contract.options.papers import SHORTENED_LLAMA

GRAM = 4  # tokens, of those whose repetition is counted


class SamplesBenchmark(Method):
    title = "Generated samples"
    summary = (
        "Continuations of the same prompts with the same seed by every variant, to read, with their length and how "
        "much they repeat themselves."
    )
    paper = SHORTENED_LLAMA

    prompts: tuple[str, ...] = Field(
        default=(
            "The history of the city begins",
            "In a large pot, heat the oil and",
            "The experiment showed that",
            "She opened the letter and read:",
            "To install the software, first",
        ),
        max_length=50,
        description="What the variants continue.",
    )
    max_new_tokens: int = Field(default=48, ge=1, le=4096, description="Tokens of each continuation.")
    chat: bool = Field(
        default=True,
        description="Put the prompts to a model with a chat template as a user's messages; as plain text otherwise.",
    )
    temperature: float = Field(default=0.7, ge=0, le=5, description="Sampling temperature; 0 is greedy.")
