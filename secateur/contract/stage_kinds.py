"""The kinds of stage that a job may have, one row each.

Whatever differs from kind to kind stands in its row: the queue, the workers, the dashboard and the command line ask it,
and know no kind by name. To add one, write its module, which has `run(context)` and returns its result, and its row.
Modules are named by strings, so that this side needs nothing of what they import.

A job has those kinds that its spec asks for; what a kind reads is what its stage waits for (`stage_graph.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from secateur.contract.between import BetweenSizes
from secateur.contract.measurements import Benchmarks
from secateur.contract.options.constraints import Constraints
from secateur.contract.options.joint import JointPruning
from secateur.contract.options.method import Method
from secateur.contract.options.pruning import DepthPruning
from secateur.contract.options.scoring import OF_THE_CHOICE
from secateur.contract.planning import Chosen, Corrected, DraftPlanned, Planned, Searched, UnitCosts
from secateur.contract.questions import Answered
from secateur.contract.report import Report
from secateur.contract.results import Checked, Pruned, Quantised, Recovered, Result, Scored
from secateur.contract.spec import CompressionSpec
from secateur.contract.target_figures import promised

R = TypeVar("R", bound=Result)
TARGET_MODEL = "target_model"  # the field of the spec, and of what a stage decides by
Decides = Callable[[CompressionSpec], dict[str, Any] | None]


@dataclass(frozen=True)
class StageKind(Generic[R]):
    """One kind of stage, whose result is an R."""

    name: str
    title: str  # for people: "Pruning"
    doing: str  # what a running stage does, for people: "removing blocks"
    module: str  # its `run` computes the result
    result: type[R]
    file: str  # in which the result lies, as JSON, beside whatever else the stage writes
    reads: tuple[str, ...]  # the kinds whose results it reads, where the job has them
    asked: Callable[[CompressionSpec], bool]  # whether a job of this spec has such a stage
    texts: tuple[str, ...] = ()  # the sections of the spec whose texts it reads
    reads_too: Callable[[CompressionSpec], tuple[str, ...]] | None = None  # further kinds, which not every spec needs
    # what of the spec is in the result, beside model, seed and dtype; None, or without it: not shared
    decides: Decides | None = None
    of_machine: bool = False  # whether its result belongs to the machine that it ran on
    hands_on: tuple[str, ...] | None = None  # fields of the result that decide those of later stages; None: its files
    opens_target: bool = False  # whether it opens the model that a draft is for, where the job makes one
    opens_model: bool = True  # whether it opens the original model, which may have to be fetched from the hub
    device: bool = True  # whether it computes on the worker's device
    checkpoint: bool = False  # whether it leaves a whole model, in `checkpoint/` of its folder
    concludes: bool = False  # whether its result is the job's report, with the verdict


def _always(spec: CompressionSpec) -> bool:
    return True


def _never(spec: CompressionSpec) -> bool:
    return False


def _sections(*names: str) -> Callable[[CompressionSpec], dict[str, Any]]:
    return lambda spec: spec.model_dump(mode="json", include=set(names))


def _with_target(*names: str) -> Callable[[CompressionSpec], dict[str, Any]]:
    """The same with the model that a draft is for, which the stage works with too."""
    return lambda spec: _sections(*names, *([TARGET_MODEL] if spec.target_model is not None else []))(spec)


def _scoring(spec: CompressionSpec) -> dict[str, Any]:
    """How many blocks go, and which may not, is chosen later, unless the criterion searches for such a set."""
    scoring = spec.scoring.model_dump(mode="json", exclude=set(OF_THE_CHOICE))
    if spec.scoring.searches:
        return {"scoring": scoring, **_sections("pruning")(spec)}
    del scoring["plus"]
    return {"scoring": scoring}


def _choice(spec: CompressionSpec) -> dict[str, Any]:
    """Scores come with the files of their stage; what cannot be quantised as asked is refused."""
    return {"plus": spec.scoring.plus, **_sections("pruning", "quantise")(spec)}


def _measuring(spec: CompressionSpec) -> dict[str, Any] | None:
    """Figures belong to the hour too, so they are shared where that was asked for; the data of tasks may change."""
    if not spec.benchmark.reuse_measurements or spec.benchmark.tasks is not None:
        return None
    return _with_target("recovery", "benchmark")(spec)  # the one for a note on its text


def _measured_target(*prunings: type[Method]) -> Callable[[CompressionSpec], bool]:
    """Whether pruning of these kinds has a target that takes measuring to be reached."""
    return lambda spec: spec.target is not None and spec.target.measured and isinstance(spec.pruning, prunings)


def _measuring_target(spec: CompressionSpec) -> dict[str, Any]:
    target, latency = spec.target, spec.benchmark.latency
    assert target is not None, "only then there is something to measure"
    assert latency is not None, "a spec that has such a target measures it"
    return {"target": target.model_dump(mode="json"), "latency": latency.model_dump(mode="json")}


def _plan(spec: CompressionSpec) -> dict[str, Any]:
    assert spec.target is not None, "only then there is a plan"
    return {**_measuring_target(spec), "plus": spec.scoring.plus, "promised": promised(spec.target, spec.gates)}


def _correction(spec: CompressionSpec) -> dict[str, Any]:
    """What is done once more is in the result too."""
    return {**_plan(spec), "stages": kinds_of(spec)}


def _costs(spec: CompressionSpec) -> dict[str, Any]:
    may_go = spec.pruning.model_dump(mode="json", include={"choices", "plus", "protected"})
    return {**_measuring_target(spec), "pruning": may_go}


def _constraints(spec: CompressionSpec) -> Constraints | None:
    return spec.pruning.constraints if isinstance(spec.pruning, DepthPruning) else None


def _search(spec: CompressionSpec) -> dict[str, Any]:
    constraints = _constraints(spec)
    assert constraints is not None, "only then it is searched"
    heals = spec.recovery.kind != "none"
    return {"constraints": constraints.model_dump(mode="json"), "plus": spec.scoring.plus, "heals": heals}


def _is_scored(spec: CompressionSpec) -> bool:
    """Other methods judge heads, neurons, experts or halves of blocks, and do so while they prune."""
    return isinstance(spec.pruning, DepthPruning) and spec.pruning.drop is None


def _best_draft(spec: CompressionSpec) -> bool:
    return isinstance(spec.pruning, DepthPruning) and spec.pruning.best_draft


def _draft(spec: CompressionSpec) -> dict[str, Any]:
    assert spec.benchmark.draft is not None, "a spec that asks for the best draft measures it"
    decides = {"tokens": spec.benchmark.draft.tokens, "plus": spec.scoring.plus, "heals": spec.recovery.kind != "none"}
    return decides | _with_target()(spec)


CHECK = StageKind(
    name="check",
    title="Check",
    doing="checking the job",
    module="workers.stages.check",
    result=Checked,
    file="checked.json",
    reads=(),
    asked=_always,  # what cannot work is told in seconds, and not after hours
    texts=("scoring", "pruning", "recovery", "quantise", "benchmark"),
    opens_target=True,
)
PLAN = StageKind(
    name="plan",
    title="Plan",
    doing="timing a few depths",
    module="workers.stages.plan",
    result=Planned,
    file="plan.json",
    reads=("check",),
    asked=_measured_target(DepthPruning),
    decides=_plan,
    of_machine=True,
    hands_on=("removed",),  # its timings are never the same twice, and change nothing that comes after
)
COSTS = StageKind(
    name="costs",
    title="Costs",
    doing="timing attentions and MLPs",
    module="workers.stages.costs",
    result=UnitCosts,
    file="costs.json",
    reads=("check",),
    asked=_measured_target(JointPruning),
    decides=_costs,
    of_machine=True,
    hands_on=("attention", "mlp", "needed", "original"),  # what is chosen by
)
SCORE = StageKind(
    name="score",
    title="Scoring",
    doing="scoring the blocks",
    module="workers.stages.score",
    result=Scored,
    file="scores.json",
    reads=("check",),
    reads_too=lambda spec: ("plan",) if spec.scoring.searches else (),
    asked=_is_scored,
    texts=("scoring",),
    decides=_scoring,
)
SEARCH = StageKind(
    name="search",
    title="Search",
    doing="searching the depth",
    module="workers.stages.search",
    result=Searched,
    file="search.json",
    reads=("check", "score"),
    asked=lambda spec: _constraints(spec) is not None,
    texts=("pruning",),
    decides=_search,
    hands_on=("removed",),
)
DRAFT = StageKind(
    name="draft",
    title="Draft",
    doing="trying depths as drafts",
    module="workers.stages.draft",
    result=DraftPlanned,
    file="draft.json",
    reads=("check", "score"),
    asked=_best_draft,
    decides=_draft,
    of_machine=True,
    hands_on=("removed",),
    opens_target=True,
)
CHOOSE = StageKind(
    name="choose",
    title="Choice",
    doing="healing the sets that could go",
    module="workers.stages.choose",
    result=Chosen,
    file="chosen.json",
    reads=("check", "plan", "score", "draft"),
    asked=lambda spec: _is_scored(spec) and spec.scoring.after_healing,
    texts=("scoring",),
    decides=_sections("scoring", "pruning"),
    hands_on=("dropped",),
)
PRUNE = StageKind(
    name="prune",
    title="Pruning",
    doing="pruning the model",
    module="workers.stages.prune",
    result=Pruned,
    file="pruned.json",
    reads=("check", "plan", "costs", "score", "search", "draft", "choose"),
    asked=_always,
    texts=("pruning",),
    decides=_choice,
    checkpoint=True,
)
RECOVER = StageKind(
    name="recover",
    title="Recovery",
    doing="recovering quality",
    module="workers.stages.recover",
    result=Recovered,
    file="recovered.json",
    reads=("check", "score", "prune"),
    asked=lambda spec: spec.recovery.kind != "none",
    texts=("recovery",),
    decides=_with_target("pruning", "recovery"),
    opens_target=True,
    checkpoint=True,
)
SIZES = StageKind(
    name="sizes",
    title="Sizes in between",
    doing="putting original blocks back",
    module="workers.stages.sizes",
    result=BetweenSizes,
    file="sizes.json",
    reads=("check", "prune", "recover"),
    asked=lambda spec: spec.sizes is not None,
    decides=_sections("sizes"),
)
QUANTISE = StageKind(
    name="quantise",
    title="Quantisation",
    doing="quantising the model",
    module="workers.stages.quantise",
    result=Quantised,
    file="quantised.json",
    reads=("check", "score", "prune", "recover"),
    asked=lambda spec: bool(spec.quantise),
    texts=("quantise",),
    decides=_sections("quantise"),
)
BENCHMARK = StageKind(
    name="benchmark",
    title="Benchmark",
    doing="measuring the models",
    module="workers.stages.benchmark",
    result=Benchmarks,
    file="benchmarks.json",
    reads=("check", "prune", "recover", "sizes", "quantise"),
    asked=_always,
    texts=("benchmark",),
    decides=_measuring,
    of_machine=True,
    opens_target=True,
)
CORRECT = StageKind(
    name="correct",
    title="Correction",
    doing="holding the result to its target",
    module="workers.stages.correct",
    result=Corrected,
    file="corrected.json",
    reads=("plan", "benchmark"),
    asked=PLAN.asked,
    decides=_correction,
    hands_on=("removed",),
    opens_model=False,
    device=False,
)
REPORT = StageKind(
    name="report",
    title="Report",
    doing="writing the report",
    module="workers.stages.report",
    result=Report,
    file="report.json",
    reads=(
        "plan",
        "costs",
        "score",
        "search",
        "draft",
        "choose",
        "prune",
        "recover",
        "sizes",
        "quantise",
        "benchmark",
        "correct",
    ),
    asked=_always,
    opens_model=False,
    device=False,
    concludes=True,
)

ANSWER = StageKind(
    name="answer",
    title="Answer",
    doing="answering a question",
    module="workers.stages.answer",
    result=Answered,
    file="answered.json",
    reads=("check", "prune", "recover", "quantise"),
    asked=_never,  # no spec asks for one: it is the only stage of a question's job, and reads of the job that is asked
)

CARDS = "cards"  # the report's folder of model cards, each at the path of the one that it takes the place of

# In the order in which people read them.
STAGE_KINDS: Mapping[str, StageKind[Any]] = {
    kind.name: kind
    for kind in (
        CHECK,
        PLAN,
        COSTS,
        SCORE,
        SEARCH,
        DRAFT,
        CHOOSE,
        PRUNE,
        RECOVER,
        SIZES,
        QUANTISE,
        BENCHMARK,
        CORRECT,
        REPORT,
        ANSWER,
    )
}


def read_by(kind: StageKind[Any], spec: CompressionSpec) -> tuple[str, ...]:
    """The kinds whose results a stage of this kind reads in a job of this spec, in the table's order."""
    reads = {*kind.reads, *(kind.reads_too(spec) if kind.reads_too else ())}
    return tuple(name for name, row in STAGE_KINDS.items() if name in reads and row.asked(spec))


def kinds_of(spec: CompressionSpec) -> tuple[str, ...]:
    """The names of the kinds that this job has stages of, in order."""
    return tuple(kind.name for kind in STAGE_KINDS.values() if kind.asked(spec))


def doing(name: str) -> str:
    """What a running stage of this kind does, in words; a kind of a newer service by its name."""
    return STAGE_KINDS[name].doing if name in STAGE_KINDS else name
