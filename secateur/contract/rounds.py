"""The rounds of a job with a measured target: at most two, the second with the number of blocks corrected.

What follows the plan is done once more, by stages of the same kinds whose keys end in `-2`; what the number of blocks
does not change, such as the scores, belongs to both rounds. A job hands one of them out, and its report says which.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from secateur.contract.protocol import NewStage
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_graph import behind, planned
from secateur.contract.stage_kinds import CORRECT, PLAN, REPORT

FIRST, SECOND = 1, 2
_ENDING = "-2"


def key_in(key: str, number: int) -> str:
    """The key that a stage has in a round, by its key in the first."""
    return key if number == FIRST else key + _ENDING


def round_of(key: str) -> int:
    """In which round a stage was begun."""
    return SECOND if key.endswith(_ENDING) else FIRST


def of_round(kinds: Mapping[str, str], number: int) -> list[str]:
    """The keys of the stages of one round, and of those that both have in common.

    Args:
        kinds: of the job's stages, by key.
    """
    again = {kind for key, kind in kinds.items() if round_of(key) == SECOND}
    return [key for key, kind in kinds.items() if round_of(key) == number or kind not in again]


def handed_out(keys: Iterable[str], report: Mapping[str, Any] | None) -> int:
    """The round whose model a job hands out: as its report says, and before there is one, the last that has begun."""
    number: int = max(map(round_of, keys), default=FIRST) if report is None else report.get("round", FIRST)
    return number


def second_round(spec: CompressionSpec) -> tuple[NewStage, ...]:
    """What a job of this spec does once more: all that follows its plan, with what the correction says in its place."""
    stages = planned(spec)
    again = [stage for stage in behind(stages, PLAN.name) if stage.kind not in (CORRECT.name, REPORT.name)]
    renamed = {PLAN.name: CORRECT.name, **{stage.key: key_in(stage.key, SECOND) for stage in again}}
    return tuple(
        NewStage(
            key=renamed[stage.key],
            kind=stage.kind,
            needs=tuple(renamed.get(key, key) for key in stage.needs),
            before=(REPORT.name,),
        )
        for stage in again
    )
