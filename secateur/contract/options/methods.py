"""The options of texts, of criteria, and of depth and width pruning that a job may name, with the paper's defaults.

Each class is the shape of one object of the spec: the method's name (a literal, by which the spec's unions choose)
and the fields beside it. `secateur/contract/catalog.py` ties a class to its title and paper.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from secateur.contract.named_texts import NAMED_TEXTS, Split, TextName


class Options(BaseModel):
    """Frozen, and closed: a field that does not exist is an error, not a shrug. No number is infinite or NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


# --- texts ---------------------------------------------------------------------------------------------------


class SelfText(Options):
    """Text that the model writes itself, sampled from the original: no data set is needed."""

    source: Literal["self"] = "self"
    temperature: float = Field(default=1.0, gt=0, le=5, description="Sampling temperature.")


class HubText(Options):
    """A text column of a data set on the Hugging Face hub."""

    source: Literal["hub"]
    id: str = Field(min_length=1, examples=["Salesforce/wikitext"])
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


def _check_slice(start: float, stop: float) -> None:
    if start >= stop:
        raise PydanticCustomError(
            "empty_slice",
            "`start` ({start}) must be below `stop` ({stop})",
            {"start": start, "stop": stop, "expected": "start < stop"},
        )


Text = Annotated[SelfText | NamedText | HubText | LocalText | UploadText, Field(discriminator="source")]


Bos = Literal["auto", "each", "first", "none"]
BOS: Bos = Field(
    default="auto",
    description="Where a beginning-of-text token stands: `auto` puts one before each sample where the tokenizer begins "
    "texts with one, `each` in any case, `first` at the text's start alone if the tokenizer puts it there, `none` "
    "nowhere. It is one of a sample's tokens.",
)

# --- scoring -------------------------------------------------------------------------------------------------


class Calibration(Options):
    """The token batch on which blocks are judged."""

    text: Text = Field(default_factory=SelfText, description="Where the calibration text comes from.")
    samples: int = Field(default=10, ge=1, le=100_000, description="Samples of the calibration batch.")
    tokens: int = Field(default=128, ge=8, le=131_072, description="Tokens per sample.")
    bos: Bos = BOS


PLUS = Field(
    default=True,
    description='The "+" rule: the first four and the last two blocks are never removed.',
)


class PerplexityScoring(Options):
    criterion: Literal["perplexity"] = "perplexity"
    plus: bool = PLUS
    calibration: Calibration = Field(default_factory=Calibration)
    racing: bool = Field(
        default=False,
        description="Spend no more samples on blocks that can no longer be among the lowest: faster, and the scores of "
        "those blocks are from fewer samples.",
    )


class TaylorScoring(Options):
    criterion: Literal["taylor"]
    plus: bool = PLUS
    calibration: Calibration = Field(default_factory=Calibration)


class MagnitudeScoring(Options):
    criterion: Literal["magnitude"]
    plus: bool = PLUS


class BlockInfluenceScoring(Options):
    criterion: Literal["block_influence"]
    plus: bool = PLUS
    calibration: Calibration = Field(default_factory=Calibration)


class AngularScoring(Options):
    criterion: Literal["angular"]
    plus: bool = PLUS
    calibration: Calibration = Field(default_factory=Calibration)


class CosineScoring(Options):
    criterion: Literal["cosine"]
    plus: bool = PLUS
    calibration: Calibration = Field(default_factory=Calibration)
    batch_size: int = Field(default=1, ge=1, description="Samples whose cosines are averaged before they are added up.")


class GreedyScoring(Options):
    criterion: Literal["greedy"]
    plus: bool = PLUS
    calibration: Calibration = Field(default_factory=Calibration)


class EvolutionaryScoring(Options):
    criterion: Literal["evolutionary"]
    plus: bool = PLUS
    calibration: Calibration = Field(default_factory=Calibration)
    evaluations: int = Field(default=704, ge=1, le=1_000_000, description="The budget: sets of blocks to try in all.")
    initial: int = Field(default=64, ge=1, le=100_000, description="Random sets in the first generation.")
    offspring: int = Field(default=32, ge=1, le=100_000, description="Mutations tried in each later generation.")


class RandomScoring(Options):
    criterion: Literal["random"]
    plus: bool = PLUS


# --- pruning -------------------------------------------------------------------------------------------------


class DepthPruning(Options):
    """Exactly one of `blocks`, `ratio` and `drop` says how much goes."""

    kind: Literal["depth"] = "depth"
    blocks: int | None = Field(default=None, ge=1, description="How many blocks to remove.")
    ratio: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Fraction of the blocks to remove; rounded to whole blocks, at least one.",
    )
    drop: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        default=None, min_length=1, description="These very blocks, counted from 0; nothing is scored."
    )
    gguf: bool | None = Field(
        default=None,
        description="Write the pruned model as a GGUF file too, still quantised as the model's own; for models that "
        "are a `.gguf` file. If absent, that is done for those, where the format can say it.",
    )

    @model_validator(mode="after")
    def _one_of(self) -> DepthPruning:
        given = [name for name in ("blocks", "ratio", "drop") if getattr(self, name) is not None]
        if len(given) != 1:
            raise PydanticCustomError(
                "exactly_one",
                "give exactly one of `blocks`, `ratio` and `drop`, not {given}",
                {"given": " and ".join(given) or "none", "expected": "one of blocks, ratio, drop"},
            )
        if self.drop is not None and len(set(self.drop)) != len(self.drop):
            raise PydanticCustomError(
                "duplicate_blocks", "`drop` names a block twice", {"expected": "distinct block numbers"}
            )
        return self


class WidthPruning(Options):
    """What all width methods have in common: every block stays, and loses heads and neurons."""

    kind: str
    ratio: float = Field(gt=0, lt=1, description="Fraction of all parameters to remove, embeddings included.")
    multiple: Literal[1, 8, 64, 128] = Field(
        default=1, description="Neurons of each block come in multiples of this, which suits some hardware better."
    )


class WandaSpPruning(WidthPruning):
    """The same share of every block goes."""

    kind: Literal["wanda_sp"]
    calibration: Calibration = Field(
        default_factory=lambda: Calibration(samples=128), description="The text on which activations are measured."
    )


_UNIFORM = Field(
    default=True,
    description="Every block keeps the same numbers of heads and neurons, so that transformers loads the checkpoint as "
    "it is. Otherwise they differ as the method has it, and a small loader is shipped beside the weights.",
)


class FlapPruning(WidthPruning):
    kind: Literal["flap"]
    uniform: bool = _UNIFORM
    compensate: bool = Field(
        default=True,
        description="Put what the pruned channels gave on average into biases. Families whose projections have no "
        "biases then need the loader.",
    )
    calibration: Calibration = Field(
        default_factory=lambda: Calibration(samples=1024), description="The text on which activations are measured."
    )


class LlmPrunerPruning(WidthPruning):
    kind: Literal["llm_pruner"]
    importance: Literal["param_first", "param_second", "param_mix", "vectorize"] = Field(
        default="param_first", description="How gradients and weights make up the importance of a weight."
    )
    uniform: bool = _UNIFORM
    keep_first: int | None = Field(
        default=None, ge=0, description="Blocks at the start that stay whole, unless uniform; 4 if absent."
    )
    keep_last: int | None = Field(
        default=None, ge=0, description="Blocks at the end that stay whole, unless uniform; 2 if absent."
    )
    calibration: Calibration = Field(
        default_factory=lambda: Calibration(tokens=64), description="The text on which gradients are taken."
    )

    @model_validator(mode="after")
    def _whole_blocks(self) -> LlmPrunerPruning:
        if self.uniform and not (self.keep_first is None and self.keep_last is None):
            raise PydanticCustomError(
                "uniform_keeps_none",
                "`keep_first` and `keep_last` make blocks of different widths, and `uniform` asks for one width",
                {"expected": "`uniform`: false, or neither of the two"},
            )
        return self
