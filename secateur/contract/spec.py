"""CompressionSpec: what a job is asked to do. It is the body of `POST /jobs` and the payload of the job.

Only the model and how much to remove are required. Defaults are the paper's (Shortened LLaMA, arXiv 2402.02834), but
for the recovery, which is the one that measured best (docs/benchmarks.md); the paper's whole recipe is a preset.
What can be checked without looking at the model is checked here, what needs the model's config in
`app/services/submit.py`, and what only the weights or the text can tell, in the stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from secateur.contract.draft_usual import as_a_draft, refuse_no_best_draft
from secateur.contract.options.baseline import Baseline
from secateur.contract.options.benchmark import Benchmark
from secateur.contract.options.gates import Gates
from secateur.contract.options.joint import JointPruning
from secateur.contract.options.labels import Label, LabelName
from secateur.contract.options.method import Method, Options
from secateur.contract.options.pruning import DepthPruning, Pruning
from secateur.contract.options.quantise import Quantisation
from secateur.contract.options.recovery import (
    USUAL_RECOVERY,
    DistillRecovery,
    HealingRecovery,
    NoRecovery,
    Recovery,
)
from secateur.contract.options.scoring import USUAL_SCORING, Scoring
from secateur.contract.options.sizes import Sizes
from secateur.contract.options.target import Target
from secateur.contract.options.training import TrainedRecovery
from secateur.contract.options.vocabulary import VocabularyPruning
from secateur.contract.presets import PRESETS, fill_in
from secateur.contract.sweep_presets import refuse_for_one_job


class HubModel(Options):
    """A model on the Hugging Face hub."""

    source: Literal["hub"]
    id: str = Field(
        min_length=1,
        max_length=200,
        pattern=r"^[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)?$",
        examples=["HuggingFaceTB/SmolLM2-135M-Instruct"],
    )
    revision: str | None = Field(
        default=None, description="Branch, tag or commit; resolved to a commit when the job starts."
    )


class LocalModel(Options):
    """A checkpoint folder (safetensors) or a `.gguf` file under one of the service's model roots."""

    source: Literal["local"]
    path: str = Field(min_length=1, examples=["SmolLM2-135M-Instruct.Q4_1.gguf"])


ModelSource = Annotated[HubModel | LocalModel, Field(discriminator="source")]


PresetName: Any = Literal[tuple(PRESETS)]


def _method(usual: type[Method], tag: str) -> Any:
    """A field that names a method, `usual` where it is absent; the JSON schema says so by the method's name."""
    return Field(default_factory=usual, json_schema_extra={"default": {tag: usual.model_fields[tag].default}})


(VOCABULARY,) = get_args(VocabularyPruning.model_fields["kind"].annotation)


class CompressionSpec(Options):
    """One compression job."""

    preset: PresetName | None = Field(
        default=None,
        description="Settings under one name, for what the spec itself leaves out; `GET /catalog` lists them.",
    )
    model: ModelSource
    use: Literal["model", "draft"] = Field(
        default="model",
        description="What the result is for: a model by itself, or a speculative draft, which proposes tokens to the "
        "larger `target_model`.",
    )
    target_model: ModelSource | None = Field(
        default=None, description="The model that the draft is for. It has the same tokenizer as `model`."
    )
    scoring: Scoring = _method(USUAL_SCORING, "criterion")
    pruning: Pruning
    recovery: Recovery = _method(USUAL_RECOVERY, "kind")
    sizes: Sizes | None = Field(
        default=None,
        description="Models between the recovered one and the original, made of both without further training; each "
        "is a variant of its own, measured like the others.",
    )
    quantise: tuple[Quantisation, ...] = Field(
        default=(),
        max_length=8,
        description="Ways to quantise the final model; each gives a variant of its own, measured like the others.",
    )
    benchmark: Benchmark = Field(default_factory=Benchmark)
    gates: Gates = Field(default_factory=Gates)
    baseline: Baseline | None = Field(
        default=None, description="An earlier job that the result is held against; each figure named is a gate."
    )
    labels: dict[LabelName, Label] = Field(default_factory=dict, max_length=32)
    priority: int = Field(
        default=0,
        ge=-9,
        le=9,
        description="Stages of jobs with a higher one are taken first; a stage that runs is not interrupted.",
    )
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Of everything that is drawn at random.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="Arithmetic of the stages; auto is float32 on a CPU and bfloat16 on a GPU.",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, spec: Any) -> Any:
        """What a preset says, and then what is usual of a draft, where the spec itself says nothing."""
        name = spec.get("preset") if isinstance(spec, Mapping) else None
        refuse_for_one_job(name)
        if isinstance(name, str) and name in PRESETS:
            spec = fill_in(spec, PRESETS[name])
        return as_a_draft(spec) if isinstance(spec, Mapping) and spec.get("use") == "draft" else spec

    @model_validator(mode="after")
    def _draft_has_a_target(self) -> CompressionSpec:
        if self.use == "draft" and self.target_model is None:
            raise PydanticCustomError(
                "draft_without_target",
                "a draft is for a larger model, and `target_model` names none",
                {"field": "target_model", "expected": "the model that it is to draft for, named as `model` is"},
            )
        for field, given in (("target_model", self.target_model), ("benchmark/draft", self.benchmark.draft)):
            if self.use != "draft" and given is not None:
                raise PydanticCustomError(
                    "target_without_draft",
                    "`{name}` is for drafts",
                    {"name": field.split("/")[-1], "field": field, "expected": 'no such field, or `use`: "draft"'},
                )
        if self.use == "draft" and self.changes_vocabulary:
            raise PydanticCustomError(
                "draft_of_other_tokens",
                "a draft has the tokens of its target, and pruning of the vocabulary leaves others",
                {"field": "pruning/kind", "expected": 'another kind of pruning, or no `use`: "draft"'},
            )
        if isinstance(self.pruning, DepthPruning) and self.pruning.best_draft:
            refuse_no_best_draft(self.scoring, self.benchmark)
        if self.use == "draft" and isinstance(self.recovery, DistillRecovery) and self.recovery.hidden_weight:
            raise PydanticCustomError(
                "states_of_another_model",
                "`hidden_weight` holds states to the original's, and a draft learns from its target",
                {"field": "recovery/hidden_weight", "expected": "0"},
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _nothing_to_recover(cls, spec: Any) -> Any:
        """Pruning of the vocabulary leaves the weights as they were, so what is meant by no recovery is none."""
        pruning = spec.get("pruning") if isinstance(spec, Mapping) else None
        kind = pruning.get("kind") if isinstance(pruning, Mapping) else getattr(pruning, "kind", None)
        if kind == VOCABULARY and "recovery" not in spec:
            return {**spec, "recovery": {"kind": "none"}}
        return spec

    @model_validator(mode="after")
    def _preset_is_for_this_pruning(self) -> CompressionSpec:
        """What a preset fills in is no slip of the user's; it comes before what would blame a field for it."""
        if self.preset and PRESETS[self.preset].depth_alone and not isinstance(self.pruning, DepthPruning):
            alike = [name for name, preset in PRESETS.items() if not preset.depth_alone]
            raise PydanticCustomError(
                "preset_without_depth",
                "the preset `{preset}` is for pruning of whole blocks, and `{kind}` removes something else",
                {
                    "preset": self.preset,
                    "kind": self.pruning.kind,
                    "field": "preset",
                    "expected": f"one of {', '.join(alike)}, or pruning of the kind `depth`",
                },
            )
        return self

    @model_validator(mode="after")
    def _scoring_is_for_blocks(self) -> CompressionSpec:
        """Other methods judge what they remove by themselves; a criterion would be passed over."""
        if not isinstance(self.pruning, DepthPruning) and self.scoring != USUAL_SCORING():
            raise PydanticCustomError(
                "scoring_without_depth",
                "`scoring` chooses whole blocks, and pruning of the kind `{kind}` judges by itself what it removes",
                {
                    "kind": self.pruning.kind,
                    "field": "scoring",
                    "expected": "no `scoring`, or pruning of the kind `depth`",
                },
            )
        return self

    @model_validator(mode="after")
    def _no_recovery_in_another_vocabulary(self) -> CompressionSpec:
        """The original's predictions and the texts are in tokens that the pruned model does not have."""
        if self.changes_vocabulary and self.recovery.kind != "none":
            raise PydanticCustomError(
                "recovery_in_another_vocabulary",
                "`{recovery}` trains on the original's tokens, and pruning of the vocabulary leaves others; it changes "
                "no weight that would have to be mended",
                {
                    "recovery": self.recovery.kind,
                    "field": "recovery",
                    "expected": 'no `recovery`, or "none"; train before, in a job whose result this one prunes',
                },
            )
        return self

    @property
    def changes_vocabulary(self) -> bool:
        """Whether the result reads text by other tokens than the original, so that figures of tokens do not compare."""
        return isinstance(self.pruning, VocabularyPruning)

    @model_validator(mode="after")
    def _healing_is_for_cuts(self) -> CompressionSpec:
        """What heals stands in for blocks that are gone, and its place is the block before them."""
        recovery = self.recovery
        heals = isinstance(recovery, HealingRecovery) or (isinstance(recovery, TrainedRecovery) and recovery.heal)
        if heals and not isinstance(self.pruning, DepthPruning):
            raise PydanticCustomError(
                "healing_without_depth",
                "healing mends cuts of whole blocks, which pruning of the kind `{kind}` does not make",
                {
                    "kind": self.pruning.kind,
                    "field": "recovery",
                    "expected": "a recovery without healing, or pruning of the kind `depth`",
                },
            )
        drop = self.pruning.drop if isinstance(self.pruning, DepthPruning) else None
        if heals and drop is not None and set(drop) == set(range(len(drop))):
            raise PydanticCustomError(
                "healing_at_the_beginning",
                "healing changes the block before a cut, and before the first {count} blocks there is none",
                {
                    "count": len(drop),
                    "field": "recovery",
                    "expected": "a recovery without healing, or blocks from further on in /pruning/drop",
                },
            )
        return self

    @model_validator(mode="after")
    def _what_follows_a_cut_needs_one(self) -> CompressionSpec:
        """Pruning of width changes every block, so none stands before the first change."""
        after_cut = isinstance(self.recovery, DistillRecovery) and self.recovery.train == "after_cut"
        if after_cut and not isinstance(self.pruning, DepthPruning):
            raise PydanticCustomError(
                "after_cut_without_depth",
                '`train` "after_cut" is for cuts of whole blocks, which pruning of the kind `{kind}` does not make',
                {
                    "kind": self.pruning.kind,
                    "field": "recovery",
                    "expected": '"all", "last_blocks", "lora" or "auto", or pruning of the kind `depth`',
                },
            )
        return self

    @model_validator(mode="after")
    def _sizes_are_of_a_recovered_depth(self) -> CompressionSpec:
        """Blocks can come back where whole ones went; without a recovery that is a smaller cut and no new model."""
        if self.sizes is None:
            return self
        if not isinstance(self.pruning, DepthPruning):
            raise PydanticCustomError(
                "sizes_without_depth",
                "`sizes` puts whole blocks back, and pruning of the kind `{kind}` removes none",
                {"kind": self.pruning.kind, "field": "sizes", "expected": "no `sizes`, or pruning of the kind `depth`"},
            )
        if isinstance(self.recovery, NoRecovery):
            raise PydanticCustomError(
                "sizes_without_recovery",
                "`sizes` lies between a recovered model and the original, and nothing is recovered; to remove fewer "
                "blocks is the same",
                {"field": "sizes", "expected": "no `sizes`, or a recovery"},
            )
        return self

    @model_validator(mode="after")
    def _target_is_measured(self) -> CompressionSpec:
        """What a target asks for is measured by the benchmark too, in the same cell: else nobody knew what came."""
        target = self.target
        latency = self.benchmark.latency
        if target is None or not target.measured:
            return self
        if latency is None or not latency.times_by("transformers"):
            raise PydanticCustomError(
                "target_not_measured",
                "the target `{figure}` is measured with the benchmark's {what}",
                {
                    "what": "`latency`, which is left out"
                    if latency is None
                    else "`latency` by transformers, which its `engines` leave out",
                    "figure": target.figure,
                    "field": f"pruning/target/{target.figure}",
                    "expected": "a benchmark with `latency` by transformers, or a target of parameters or bytes",
                },
            )
        for name, measured in (("batch_size", latency.batch_sizes), ("output_tokens", latency.output_tokens)):
            asked = getattr(target, name)
            if asked is not None and asked not in measured:
                listed = ", ".join(map(str, dict.fromkeys(measured)))
                raise PydanticCustomError(
                    "target_in_no_cell",
                    "the benchmark does not measure at a `{name}` of {asked}",
                    {
                        "name": name,
                        "asked": asked,
                        "field": f"pruning/target/{name}",
                        "expected": f"one of those of /benchmark/latency: {listed}",
                    },
                )
        return self

    @model_validator(mode="after")
    def _constraints_go_by_a_ranking(self) -> CompressionSpec:
        """A depth that is searched for takes the first blocks of one order; and what it keeps is judged once."""
        constraints = self.pruning.constraints if isinstance(self.pruning, DepthPruning) else None
        if constraints is None:
            return self
        if self.scoring.searches:
            raise PydanticCustomError(
                "constraints_without_ranking",
                "`{criterion}` looks for a set of so many blocks, and constraints try many depths of one order",
                {
                    "criterion": self.scoring.criterion,
                    "field": "scoring/criterion",
                    "expected": "a criterion that ranks all blocks, such as perplexity, or a number of blocks",
                },
            )
        twice = next((name for name in constraints.limits if getattr(self.gates, name) is not None), None)
        if twice is not None:
            raise PydanticCustomError(
                "constraint_and_gate",
                "`{name}` is a constraint, and is judged as a gate already",
                {"name": twice, "field": f"gates/{twice}", "expected": f"no gate `{twice}`, or no such constraint"},
            )
        return self

    @model_validator(mode="after")
    def _a_choice_after_healing_has_sets_and_heals(self) -> CompressionSpec:
        """Sets of one size are compared as what follows finds them: it has to be known how many go, and it mends."""
        pruning = self.pruning
        if not self.scoring.after_healing or not isinstance(pruning, DepthPruning):
            return self
        for problem, why, expected in (
            (pruning.drop is not None, "`drop` names the blocks, so nothing is chosen", "no `after_healing`"),
            (
                pruning.constraints is not None,
                "constraints try depths of one order, which a choice among sets would leave",
                "no `after_healing`, or a number of blocks",
            ),
            (
                self.recovery.kind == "none",
                "sets are judged with their cuts healed, and this job heals nothing",
                "a recovery, such as `healing`, or no `after_healing`",
            ),
        ):
            if problem:
                raise PydanticCustomError(
                    "choice_without_sets", "{why}", {"why": why, "field": "scoring/after_healing", "expected": expected}
                )
        return self

    @property
    def target(self) -> Target | None:
        """What the pruned model is to reach, where that was said in place of how much goes."""
        return self.pruning.target if isinstance(self.pruning, DepthPruning | JointPruning) else None

    @property
    def judged(self) -> Gates:
        """All that the result is judged by: the gates, and the constraints of the depth as such."""
        constraints = self.pruning.constraints if isinstance(self.pruning, DepthPruning) else None
        return self.gates if constraints is None else self.gates.model_copy(update=constraints.limits)

    @model_validator(mode="after")
    def _each_quantisation_once(self) -> CompressionSpec:
        names = [quantisation.variant for quantisation in self.quantise]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise PydanticCustomError(
                "quantised_twice",
                "`quantise` makes the variant `{name}` twice",
                {"name": twice, "field": "quantise", "expected": "each way to quantise once"},
            )
        return self
