"""The section `pruning` of a spec: what goes, with its options, and the table of the kinds.

A kind of pruning is a class here and a line in `Pruning`, at the end. What it runs is its row in
`workers/stages/prune.py`. The arithmetic of how much goes is
`secateur/contract/{depth,targets,sub_blocks,joint,experts,vocabulary}.py`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from secateur.contract.options.constraints import Constraints
from secateur.contract.options.joint import JointPruning
from secateur.contract.options.method import Method, require_one
from secateur.contract.options.papers import SHORTENED_LLAMA
from secateur.contract.options.target import Target
from secateur.contract.options.texts import Calibration
from secateur.contract.options.unit_names import UnitName, refuse_twins
from secateur.contract.options.vocabulary import VocabularyPruning
from secateur.contract.options.width import WidthMethod


class DepthPruning(Method):
    """Exactly one of `blocks`, `ratio`, `drop`, `target` and `constraints` says how much goes; of a draft, none may."""

    title = "Depth pruning"
    summary = (
        "Removes whole Transformer blocks, all at once. Faster at every batch size, and the checkpoint stays of the "
        "same architecture."
    )
    paper = SHORTENED_LLAMA

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
    target: Target | None = Field(
        default=None, description="What the pruned model is to reach; as many blocks go as that takes."
    )
    constraints: Constraints | None = Field(
        default=None, description="How far from the original the result may be; as many blocks go as that allows."
    )
    maximise: Literal["speedup", "draft_speedup"] | None = Field(
        default=None,
        description="What is to be gained: within the constraints the most speed, which is the fewest blocks; or, of a "
        "job that makes a draft, its target's speed, for which as many blocks go as are best.",
    )
    minimise: Literal["kl"] | None = Field(
        default=None, description="What is to be kept low under a target: the least KL is that of the fewest removals."
    )
    gguf: bool | None = Field(
        default=None,
        description="Write the pruned model as a GGUF file too, still quantised as the model's own; for models that "
        "are a `.gguf` file. If absent, that is done for those, where the format can say it.",
    )

    @model_validator(mode="after")
    def _one_of(self) -> DepthPruning:
        if self.best_draft:
            given = next((name for name in HOW_MUCH if getattr(self, name) is not None), None)
            if given is not None:
                raise PydanticCustomError(
                    "depth_chosen_and_given",
                    "the best depth of a draft is chosen, and `{field}` says how much goes",
                    {"field": given, "expected": f'no `{given}`, or no `maximise`: "draft_speedup"'},
                )
            return self
        require_one(self, HOW_MUCH, ", ".join(f"`{name}`" for name in HOW_MUCH))
        for name, other in (("maximise", "constraints"), ("minimise", "target")):
            if getattr(self, name) is not None and getattr(self, other) is None:
                raise PydanticCustomError(
                    "goal_without_bounds",
                    "`{field}` is for a job with `{other}`",
                    {"field": name, "other": other, "expected": f"no `{name}`, or `{other}`"},
                )
        if self.drop is not None and len(set(self.drop)) != len(self.drop):
            raise PydanticCustomError(
                "duplicate_blocks", "`drop` names a block twice", {"expected": "distinct block numbers"}
            )
        return self

    @property
    def best_draft(self) -> bool:
        """Whether as many blocks go as make the best draft."""
        return self.maximise == "draft_speedup"

    @property
    def left_open(self) -> bool:
        """Whether it takes measuring to know how many blocks go."""
        measured = self.target is not None and self.target.measured
        return measured or self.constraints is not None or self.best_draft


HOW_MUCH = ("blocks", "ratio", "drop", "target", "constraints")


class SubBlockPruning(Method):
    """Exactly one of `units`, `ratio` and `drop` says how much goes."""

    title = "Sub-block pruning"
    summary = (
        "Removes the attention of some blocks and the MLP of others, one by one, each time the one whose loss hurts "
        "least. Finer than whole blocks. What is left loads with a file that lies beside it; a Llama-shaped model also "
        "runs in vLLM and, where attention alone went, in llama.cpp."
    )
    paper = "Zhong et al. 2024, BlockPruner, arXiv 2406.10594"

    kind: Literal["sub_block"]
    units: int | None = Field(
        default=None, ge=1, description="How many units to remove; a block is two, its attention and its MLP."
    )
    ratio: float | None = Field(
        default=None, gt=0, lt=1, description="Fraction of the units to remove; rounded to whole units, at least one."
    )
    drop: tuple[UnitName, ...] | None = Field(
        default=None,
        min_length=1,
        description="These very units, blocks counted from 0; nothing is searched.",
        examples=[["3.attention", "5.mlp"]],
    )
    only: Literal["attention", "mlp"] | None = Field(
        default=None,
        description="Which half may go. `attention` alone shrinks the cache, and leaves a Llama-shaped model that vLLM "
        "and llama.cpp run. `ratio` is then a fraction of these halves.",
    )
    plus: bool = Field(
        default=False,
        description='The "+" rule: both halves of the first four and of the last two blocks are never removed.',
    )
    protected: tuple[UnitName, ...] = Field(
        default=(), description="Units that are never removed.", examples=[["0.attention", "0.mlp"]]
    )
    calibration: Calibration = Field(
        default_factory=Calibration, description="The text on which the loss without a unit is taken."
    )

    @model_validator(mode="after")
    def _one_of(self) -> SubBlockPruning:
        require_one(self, ("units", "ratio", "drop"), "`units`, `ratio` and `drop`")
        for name in ("drop", "protected"):
            refuse_twins(name, getattr(self, name) or ())
        return self

    @model_validator(mode="after")
    def _no_search_of_what_is_named(self) -> SubBlockPruning:
        """Options of the search would be passed over where the units are named."""
        if self.drop is None:
            return self
        given = {
            "only": self.only is not None,
            "plus": self.plus,
            "protected": bool(self.protected),
            "calibration": self.calibration != Calibration(),
        }
        name = next((name for name, set_ in given.items() if set_), None)
        if name is not None:
            raise PydanticCustomError(
                "search_of_named_units",
                "`{field}` is for the search, and `drop` names the units",
                {"field": name, "expected": f"no `{name}`, or `units` or `ratio` instead of `drop`"},
            )
        return self


class ExpertPruning(Method):
    """Exactly one of `experts` and `ratio` says how much goes; every mixture loses the same number."""

    title = "Expert pruning"
    summary = (
        "Removes experts of a mixture, as many in every block, with their rows of the router. The model takes less "
        "memory and computes as much for a token as before, and loads as it is."
    )
    paper = "Lasby et al. 2025, REAP, arXiv 2510.13999"

    kind: Literal["experts"]
    experts: int | None = Field(default=None, ge=1, description="How many experts to remove from every mixture.")
    ratio: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Fraction of every mixture's experts to remove; rounded to whole experts, at least one.",
    )
    criterion: Literal["reap", "frequency", "reconstruction"] = Field(
        default="reap",
        description="What an expert is judged by: the mean over its tokens of gate times norm of its output (reap), "
        "the share of tokens that go to it (frequency), or how much the mixture's output changes without it "
        "(reconstruction).",
    )
    calibration: Calibration = Field(
        default_factory=lambda: Calibration(samples=128), description="The text on which experts are judged."
    )

    @model_validator(mode="after")
    def _one_of(self) -> ExpertPruning:
        if (self.experts is None) == (self.ratio is None):
            raise PydanticCustomError(
                "exactly_one",
                "give exactly one of `experts` and `ratio`",
                {"expected": "one of experts, ratio"},
            )
        return self


# The table of kinds of pruning.
Pruning = Annotated[
    DepthPruning  #
    | SubBlockPruning
    | JointPruning
    | WidthMethod
    | ExpertPruning
    | VocabularyPruning,
    Field(discriminator="kind"),
]
