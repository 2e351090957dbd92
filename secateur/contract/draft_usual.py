"""What is usual of a job that makes a draft, where its spec says nothing of it.

As many blocks go as make the best draft. It is measured beside its target, and learns from it: what the target
predicts, on what the target answers to prompts, since that is what it will be asked to propose.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import PydanticCustomError

from secateur.contract.options.benchmark import Benchmark
from secateur.contract.options.pruning import HOW_MUCH
from secateur.contract.options.recovery import USUAL_RECOVERY
from secateur.contract.options.scoring import Scoring

_DEPTHS = (*HOW_MUCH, "maximise", "minimise")
_KIND = USUAL_RECOVERY.model_fields["kind"].default


def as_a_draft(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a spec with that filled in; what is there, and be it null, stays.

    >>> as_a_draft({"use": "draft"})["recovery"]
    {'kind': 'distill', 'text': {'source': 'answers'}}
    >>> as_a_draft({"use": "draft", "pruning": {"kind": "depth"}})["pruning"]
    {'maximise': 'draft_speedup', 'kind': 'depth'}
    """
    filled = dict(spec)
    benchmark, recovery, pruning = spec.get("benchmark", {}), spec.get("recovery", {}), spec.get("pruning")
    if isinstance(pruning, Mapping) and pruning.get("kind") == "depth" and not any(map(pruning.get, _DEPTHS)):
        filled["pruning"] = {"maximise": "draft_speedup", **pruning}
    if isinstance(benchmark, Mapping):
        filled["benchmark"] = {"draft": {}, **benchmark}
    if isinstance(recovery, Mapping) and recovery.get("kind", _KIND) == _KIND:
        filled["recovery"] = {"kind": _KIND, "text": {"source": "answers"}, **recovery}
    return filled


def refuse_no_best_draft(scoring: Scoring, benchmark: Benchmark) -> None:
    """Raise PydanticCustomError where the depth of the best draft is asked for and cannot be chosen."""
    if benchmark.draft is None:
        raise PydanticCustomError(
            "best_draft_of_none",
            "the best depth of a draft is for a job that makes and measures one",
            {"field": "pruning/maximise", "expected": 'how much goes, or `use`: "draft" with its benchmark'},
        )
    if scoring.searches:
        raise PydanticCustomError(
            "best_draft_without_ranking",
            "`{criterion}` looks for a set of so many blocks, and many depths of one order are tried",
            {
                "criterion": scoring.criterion,
                "field": "scoring/criterion",
                "expected": "a criterion that ranks all blocks, such as perplexity, or a number of blocks",
            },
        )
