"""What depth pruning would give, from a config alone: sizes by arithmetic, a speedup by the traffic of weights.

At batch 1 each generated token reads every weight once, and that reading is what takes the time (Kim et al. 2024,
Shortened LLaMA, arXiv 2402.02834, section 1). So the estimate of the speedup is the ratio of the bytes read: all blocks
and the head before, over those that stay and the head. It leaves out overheads and the cache, and nothing is measured:
every figure is called an estimate, and a job's report has the real ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from secateur.contract.depth import blocks_to_remove, check_depth
from secateur.contract.errors import BadCheckpoint, FieldError, InvalidInput, UnsupportedModel
from secateur.contract.models.families import model_types
from secateur.contract.models.formulas import ParameterCount
from secateur.contract.models.parameters import key_value_size, parameter_count
from secateur.contract.options.method import Options
from secateur.contract.options.pruning import DepthPruning
from secateur.contract.options.target import COUNTED
from secateur.contract.shown import shortened
from secateur.contract.targets import Sizes, blocks_for_size

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


class EstimateRequest(Options):
    """A model by its config, and what is to be removed."""

    config: dict[str, Any] | None = Field(default=None, description="The contents of the model's config.json.")
    path: str | None = Field(
        default=None, min_length=1, description="A checkpoint folder under the model roots, whose config.json is read."
    )
    pruning: DepthPruning
    plus: bool = Field(default=True, description='Whether the "+" rule keeps the first four and last two blocks.')
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="bfloat16", description="Of weights and cache, for figures in bytes."
    )

    @model_validator(mode="after")
    def _one_model(self) -> EstimateRequest:
        if (self.config is None) == (self.path is None):
            raise PydanticCustomError(
                "exactly_one", "give exactly one of `config` and `path`", {"expected": "one of config, path"}
            )
        return self


@dataclass(frozen=True)
class SizeEstimate:
    """One model, before or after."""

    blocks: int
    parameters_estimate: int
    bytes_estimate: int
    kv_bytes_per_token_estimate: int  # of one sequence


@dataclass(frozen=True)
class Estimate:
    """Before, after, and the speedup between them."""

    family: str
    original: SizeEstimate
    pruned: SizeEstimate
    speedup_estimate: float  # of generation at batch 1
    notes: list[str]


def estimate(config: Mapping[str, Any], request: EstimateRequest, *, pointer: str) -> Estimate:
    """The estimate for the model of this config; `pointer` is where the config came from.

    Raises:
        InvalidInput: more blocks than may go.
        BadCheckpoint: the config lacks a size.
        UnsupportedModel: no formula is known for the family.
    """
    family = str(config.get("model_type"))
    try:
        count, cached = parameter_count(config), key_value_size(config)
    except InvalidInput as error:
        moved = [FieldError(pointer, item.detail, item.value, item.expected) for item in error.errors]
        raise type(error)(error.detail, errors=moved) from error
    if count is None or cached is None:
        detail = f"no formula is known for models of type {shortened(family)!r}"
        raise UnsupportedModel(detail, errors=[FieldError(pointer, detail, None, f"one of {', '.join(model_types())}")])
    blocks = len(count.per_block)
    check_depth(request.pruning, blocks, plus=request.plus)
    width = DTYPE_BYTES[request.dtype]
    gone = _gone(count, request, width)
    removed, notes = _removed_parameters(count, request.pruning, gone)

    def size(left: int, parameters: int) -> SizeEstimate:
        return SizeEstimate(left, parameters, parameters * width, left * cached * width)

    read = sum(count.per_block) + (count.head or count.embedding)  # a tied head reads the embedding's matrix
    if read <= removed:
        raise BadCheckpoint.field(pointer, "the config describes a model without weights", expected="sizes above zero")
    if "num_experts" in config or "num_local_experts" in config:
        notes.append(
            "A mixture of experts reads only some experts for a token; the speedup takes all blocks for alike."
        )
    return Estimate(
        family, size(blocks, count.total), size(blocks - gone, count.total - removed), read / (read - removed), notes
    )


def _gone(count: ParameterCount, request: EstimateRequest, width: int) -> int:
    """How many blocks go."""
    target = request.pruning.target
    if target is not None and target.measured:
        raise InvalidInput.field(
            f"/pruning/target/{target.figure}",
            f"how many blocks a target of `{target.figure}` takes is measured by a job, and not estimated",
            value=target.value,
            expected=f"a target of {' or '.join(COUNTED)}, or a number of blocks",
        )
    if target is None:
        return blocks_to_remove(request.pruning, len(count.per_block))
    return blocks_for_size(target, Sizes.of(count, width=width if target.figure == "bytes" else 1), plus=request.plus)


def _removed_parameters(count: ParameterCount, pruning: DepthPruning, gone: int) -> tuple[int, list[str]]:
    """How many parameters go; where blocks differ in size and none is named, as many as those of mean size have."""
    if pruning.drop is not None:
        return sum(count.per_block[block] for block in pruning.drop), []
    mean = sum(count.per_block) / len(count.per_block)
    notes = (
        [] if len(set(count.per_block)) == 1 else ["Blocks differ in size; those removed are taken as of mean size."]
    )
    return round(gone * mean), notes
