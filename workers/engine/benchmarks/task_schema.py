"""What a user's task definition may hold: the fields of the harness's YAML that are plain data and reach no code.

The harness runs code that a definition names in a dozen ways: `!function` imports a file, `include` reads one, `class`
and `process_docs` and their like are callables, a metric's name is a script that `evaluate` executes, `dataset_path`
may be any folder or a reader of pickles, `generation_kwargs` reach `generate`, which loads decoding loops from the hub.
So a definition is no dictionary that is searched for what is bad: it is read into these classes, which hold what is
known to be harmless, and the harness is given what they hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

FORMATS = ("json", "csv", "parquet", "text")


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"is no regular expression: {error}") from None
    return text


Template = Annotated[str, StringConstraints(max_length=20_000)]
Short = Annotated[str, StringConstraints(max_length=1000)]
Pattern = Annotated[str, StringConstraints(max_length=1000), AfterValidator(_pattern)]
Split = Annotated[str, StringConstraints(pattern=r"^\w+([.-]\w+)*$", max_length=100)]
Name = Annotated[str, StringConstraints(pattern=r"^[\w-][\w.+-]*$", max_length=200)]
FileName = Annotated[str, StringConstraints(pattern=r"^[\w./ ,=+@-]+$", max_length=400)]
FileNames = FileName | list[FileName]
HubId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)?$", max_length=200)]
Choices = Template | list[Template] | dict[Short, Template]


class _Plain(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataOptions(_Plain):
    data_files: FileNames | dict[Split, FileNames] | None = None
    field: Short | None = None  # of JSON files: where in the object the rows stand
    delimiter: Annotated[str, StringConstraints(min_length=1, max_length=1)] | None = None  # of CSV files
    revision: Name | None = None  # of a data set on the hub


class Metric(_Plain):
    """A score from 0 to 1 of each item, of which the mean is told."""

    metric: Literal["acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match"]
    aggregation: Literal["mean"] = "mean"
    higher_is_better: Literal[True] = True
    regexes_to_ignore: list[Pattern] | None = None
    ignore_case: bool = False
    ignore_punctuation: bool = False
    ignore_numbers: bool = False


class FilterStep(_Plain):
    function: Literal[
        "regex",
        "multi_choice_regex",
        "remove_whitespace",
        "lowercase",
        "uppercase",
        "map",
        "take_first",
        "take_first_k",
        "majority_vote",
    ]
    regex_pattern: Pattern | None = None
    group_select: int = Field(default=0, ge=-1000, le=1000)
    fallback: Short | None = None
    mapping_dict: dict[Short, Short] | None = None
    default_value: Short | None = None
    k: int | None = Field(default=None, ge=1, le=100)
    ignore_case: bool = False
    ignore_punctuation: bool = False
    regexes_to_ignore: list[Pattern] | None = None

    @model_validator(mode="after")
    def _options_of_the_function(self) -> FilterStep:
        known = _STEP_OPTIONS.get(self.function, frozenset())
        for name in sorted(self.model_fields_set - {"function"} - known):
            raise ValueError(f"`{name}` is no option of the filter {self.function}")
        return self


_REGEX = frozenset({"regex_pattern", "group_select", "fallback"})
_STEP_OPTIONS: Mapping[str, frozenset[str]] = {
    "regex": _REGEX,
    "multi_choice_regex": _REGEX | {"ignore_case", "ignore_punctuation", "regexes_to_ignore"},
    "map": frozenset({"mapping_dict", "default_value"}),
    "take_first_k": frozenset({"k"}),
}


class AnswerFilter(_Plain):
    """How an answer is read off what the model wrote."""

    name: Name
    filter: list[FilterStep] = Field(min_length=1, max_length=20)


class GenerationOptions(_Plain):
    until: Short | list[Short] | None = None
    do_sample: bool = False
    temperature: float = Field(default=0.0, ge=0, le=5)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=50, ge=1, le=1_000_000)
    max_gen_toks: int = Field(default=256, ge=1, le=131_072)


class FewShotOptions(_Plain):
    sampler: Literal["default", "first_n"] = "default"
    split: Split | None = None
    samples: list[dict[Short, str | int | float | bool | list[Short] | None]] | None = None
    fewshot_indices: list[Annotated[int, Field(ge=0)]] | None = None
    doc_to_text: Template | int | None = None
    doc_to_choice: Choices | None = None
    doc_to_target: Template | int | None = None
    gen_prefix: Template | None = None
    fewshot_delimiter: Short | None = None
    target_delimiter: Short | None = None


class TaskDefinition(_Plain):
    """One task, as plain data."""

    task: Name
    task_alias: Short | None = Field(default=None, exclude=True)
    tag: Short | list[Short] | None = Field(default=None, exclude=True)
    dataset_path: HubId
    dataset_name: Name | None = None
    dataset_kwargs: DataOptions | None = None
    training_split: Split | None = None
    validation_split: Split | None = None
    test_split: Split | None = None
    fewshot_split: Split | None = None
    output_type: Literal["multiple_choice", "generate_until", "loglikelihood"] = "generate_until"
    description: Template = ""
    doc_to_text: Template | int
    doc_to_target: Template | int | list[Template]
    doc_to_choice: Choices | None = None
    gen_prefix: Template | None = None
    target_delimiter: Short = " "
    fewshot_delimiter: Short = "\n\n"
    fewshot_config: FewShotOptions | None = None
    num_fewshot: int | None = Field(default=None, ge=0, le=100)
    repeats: int = Field(default=1, ge=1, le=100)
    metric_list: list[Metric] | None = Field(default=None, min_length=1, max_length=20)
    filter_list: list[AnswerFilter] | None = Field(default=None, min_length=1, max_length=20)
    generation_kwargs: GenerationOptions | None = None
    should_decontaminate: Literal[False] = Field(default=False, exclude=True)
    metadata: dict[Short, Any] | None = None  # of which the version is told

    @model_validator(mode="after")
    def _whole(self) -> TaskDefinition:
        if self.test_split is None and self.validation_split is None:
            raise ValueError("names no `test_split` and no `validation_split`, one of which is measured on")
        if self.output_type == "multiple_choice" and self.doc_to_choice is None:
            raise ValueError("is a multiple choice without `doc_to_choice`")
        if self.output_type != "generate_until" and (self.generation_kwargs or self.filter_list):
            raise ValueError("has `generation_kwargs` or `filter_list`, which are for `output_type: generate_until`")
        names = [filter.name for filter in self.filter_list or ()]
        if len(set(names)) < len(names):
            raise ValueError("names two filters alike")
        metrics = [metric.metric for metric in self.metric_list or ()]
        if wrong := sorted(set(metrics) - _METRICS[self.output_type]):
            raise ValueError(
                f"asks for {', '.join(wrong)}; with `output_type: {self.output_type}` there are "
                f"{', '.join(sorted(_METRICS[self.output_type]))}"
            )
        return self

    @model_validator(mode="after")
    def _where_the_data_lie(self) -> TaskDefinition:
        """In files of a known format, or on the hub; other single words are readers of `datasets`, of pickles too."""
        data = self.dataset_kwargs or DataOptions()
        if self.dataset_path not in FORMATS:
            if "/" not in self.dataset_path:
                raise ValueError(
                    f"names the `dataset_path` {self.dataset_path}, which is neither one of {', '.join(FORMATS)} nor a "
                    "data set on the hub with its owner (owner/name)"
                )
            if data.data_files is not None or data.field is not None or data.delimiter is not None:
                raise ValueError(f"names `data_files`, which are for a `dataset_path` of {', '.join(FORMATS)}")
            return self
        if data.data_files is None:
            raise ValueError("names no `data_files` in `dataset_kwargs`")
        if self.dataset_name is not None or data.revision is not None:
            raise ValueError("names `dataset_name` or `revision`, which are for data sets on the hub")
        return self


_METRICS: Mapping[str, frozenset[str]] = {
    "multiple_choice": frozenset({"acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match"}),
    "generate_until": frozenset({"exact_match"}),
    "loglikelihood": frozenset({"acc"}),
}
