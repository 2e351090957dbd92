"""Where a text comes from: of calibration, of training, of measuring."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from secateur.contract.named_texts import NAMED_TEXTS, Split, TextName
from secateur.contract.options.method import Options

_TEMPERATURE = Field(default=1.0, gt=0, le=5, description="Sampling temperature.")


class SelfText(Options):
    """Text that the model writes itself, sampled from the original: no data set is needed."""

    source: Literal["self"] = "self"
    temperature: float = _TEMPERATURE


class HubText(Options):
    """A text column of a data set on the Hugging Face hub."""

    source: Literal["hub"]
    id: str = Field(
        min_length=1,
        max_length=200,
        pattern=r"^[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*$",
        description="owner/name. A single word is the name of a reader of files to the hub's client, and no data set.",
        examples=["Salesforce/wikitext"],
    )
    config: str | None = Field(default=None, examples=["wikitext-2-raw-v1"])
    split: str = "train"
    column: str = "text"
    revision: str | None = Field(default=None, description="Branch, tag or commit; the default branch if absent.")


_START = Field(default=0.0, ge=0, lt=1, description="Where to begin, as a fraction of the file.")
_STOP = Field(default=1.0, gt=0, le=1, description="Where to end, as a fraction of the file.")


class LocalText(Options):
    """A text file (UTF-8) under one of the service's data roots."""

    source: Literal["local"]
    path: str = Field(min_length=1, examples=["news.txt"])
    start: float = _START
    stop: float = _STOP

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_slice(self.start, self.stop)
        return self


class UploadText(Options):
    """A data set that was uploaded with `POST /datasets`, or a part of it."""

    source: Literal["upload"]
    id: UUID = Field(description="The data set's id.", examples=["019ab8e2-3f40-7d21-8a55-6c1de0b7f913"])
    start: float = _START
    stop: float = _STOP

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_slice(self.start, self.stop)
        return self


class NamedText(Options):
    """A text set that published figures are measured on: WikiText-2, Penn Treebank or C4, read as the papers do."""

    source: Literal["named"]
    name: TextName
    split: Split | None = Field(
        default=None, description="Its part; where measured, that of published figures if absent, else `train`."
    )

    @model_validator(mode="after")
    def _has_the_split(self) -> Self:
        files = NAMED_TEXTS[self.name].files
        if self.split is not None and self.split not in files:
            raise PydanticCustomError(
                "no_such_split",
                "{title} has no part `{split}`",
                {
                    "title": NAMED_TEXTS[self.name].title,
                    "split": self.split,
                    "field": "split",
                    "expected": f"one of {', '.join(files)}",
                },
            )
        return self


class AnswersText(Options):
    """What the original answers to prompts, through its chat template where it has one: text that looks like use."""

    source: Literal["answers"]
    prompts: Annotated[HubText | LocalText | UploadText, Field(discriminator="source")] | None = Field(
        default=None,
        description="A data set of prompts: lines of a plain text, or rows with `text`, with `instruction` and "
        "`output`, or with `messages`, of which the answers are not read. Those that are built in if absent.",
    )
    temperature: float = _TEMPERATURE


def _check_slice(start: float, stop: float) -> None:
    if start >= stop:
        raise PydanticCustomError(
            "empty_slice",
            "`start` ({start}) must be below `stop` ({stop})",
            {"start": start, "stop": stop, "expected": "start < stop"},
        )


class BlendPart(Options):
    """One text of a blend."""

    text: Annotated[
        SelfText | AnswersText | NamedText | HubText | LocalText | UploadText, Field(discriminator="source")
    ] = Field(description="A text, which is no blend itself.")
    weight: float = Field(default=1.0, gt=0, le=1e9, description="Its share of the samples, over the weights' sum.")


class BlendText(Options):
    """Samples of several texts, as many of each as its weight says."""

    source: Literal["blend"]
    parts: tuple[BlendPart, ...] = Field(min_length=2, max_length=16, description="The texts with their weights.")


Text = Annotated[
    SelfText | AnswersText | NamedText | HubText | LocalText | UploadText | BlendText, Field(discriminator="source")
]


def is_written(text: Options) -> bool:
    """Whether the original writes the text, or a part of it, as long as it may be; otherwise data sets hold it.

    >>> is_written(SelfText()), is_written(LocalText(source="local", path="news.txt"))
    (True, False)
    """
    if isinstance(text, BlendText):
        return any(is_written(part.text) for part in text.parts)
    return isinstance(text, SelfText | AnswersText)


Bos = Literal["auto", "each", "first", "none"]
BOS: Bos = Field(
    default="auto",
    description="Where a beginning-of-text token stands: `auto` puts one before each sample where the tokenizer begins "
    "texts with one, `each` in any case, `first` at the text's start alone if the tokenizer puts it there, `none` "
    "nowhere. It is one of a sample's tokens.",
)


class Calibration(Options):
    """The token batch on which blocks are judged."""

    text: Text = Field(default_factory=SelfText, description="Where the calibration text comes from.")
    samples: int = Field(default=10, ge=1, le=100_000, description="Samples of the calibration batch.")
    tokens: int = Field(default=128, ge=8, le=131_072, description="Tokens per sample.")
    bos: Bos = BOS
