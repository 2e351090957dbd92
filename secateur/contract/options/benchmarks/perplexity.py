"""Options of the measurement of perplexity."""

from __future__ import annotations

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from secateur.contract.options.method import Method
from secateur.contract.options.papers import SHORTENED_LLAMA
from secateur.contract.options.texts import BOS, BlendText, Bos, SelfText, Text, is_written


class PerplexityBenchmark(Method):
    """Windows of a text; the paper's are of 128 tokens and do not overlap."""

    title = "Perplexity"
    summary = "exp of the mean next-token loss on held-out text, over non-overlapping windows."
    paper = SHORTENED_LLAMA

    texts: tuple[Text, ...] = Field(
        default_factory=lambda: (SelfText(),), min_length=1, description="Texts to measure on, each by itself."
    )
    tokens: int = Field(default=128, ge=8, le=131_072, description="Tokens per window.")
    windows: int = Field(default=40, ge=1, le=1_000_000, description="At most this many windows per text.")
    stride: int | None = Field(
        default=None,
        ge=1,
        description="Tokens between the starts of windows; less than `tokens` gives each token more context, and only "
        "those that no window before has predicted count. No overlap if absent.",
    )
    bos: Bos = BOS

    @model_validator(mode="after")
    def _windows_of_a_text(self) -> PerplexityBenchmark:
        if self.stride is None:
            return self
        if self.stride >= self.tokens:
            raise PydanticCustomError(
                "stride_too_long",
                "`stride` ({stride}) must be below `tokens` ({tokens})",
                {"stride": self.stride, "tokens": self.tokens, "expected": f"at most {self.tokens - 1}, or none"},
            )
        if any(is_written(text) or isinstance(text, BlendText) for text in self.texts):
            raise PydanticCustomError(
                "stride_of_samples",
                "`stride` needs a text that goes on from window to window; neither generated samples nor blends do",
                {"expected": "no `stride`, or texts from the hub or from files"},
            )
        return self
