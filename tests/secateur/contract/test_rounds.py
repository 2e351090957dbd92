"""The rounds of a job with a target, by the keys of its stages."""

from __future__ import annotations

from typing import Any

from secateur.contract.rounds import FIRST, SECOND, handed_out, key_in, of_round, round_of, second_round
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_graph import planned
from secateur.contract.stage_kinds import CORRECT

KINDS = {
    **{key: key for key in ("check", "plan", "score", "prune", "benchmark", "correct")},
    **{"prune-2": "prune", "benchmark-2": "benchmark"},
}


def spec(**pruning: Any) -> CompressionSpec:
    body = {"model": {"source": "hub", "id": "org/model"}, "pruning": {"kind": "depth", **pruning}}
    return CompressionSpec.model_validate(body)


def test_a_round_has_its_own_stages_and_what_was_done_once() -> None:
    assert of_round(KINDS, FIRST) == ["check", "plan", "score", "prune", "benchmark", "correct"]
    assert of_round(KINDS, SECOND) == ["check", "plan", "score", "correct", "prune-2", "benchmark-2"]
    assert [round_of(key_in("prune", number)) for number in (FIRST, SECOND)] == [FIRST, SECOND]


def test_the_report_decides_what_is_handed_out() -> None:
    assert handed_out(KINDS, {"round": 1}) == FIRST
    assert handed_out(KINDS, {}) == FIRST, "as of an older version"
    assert handed_out(KINDS, None) == SECOND
    assert handed_out([], None) == FIRST


def test_only_a_job_whose_depth_is_planned_is_corrected() -> None:
    assert CORRECT.asked(spec(target={"speedup": 1.3}))
    assert not CORRECT.asked(spec(target={"bytes": 0.8}))
    assert not CORRECT.asked(spec(blocks=2))


def test_what_is_done_again_waits_for_the_correction_and_the_report_for_it() -> None:
    asked = spec(target={"speedup": 1.3})
    again = second_round(asked)
    assert [stage.key for stage in again] == ["prune-2", "recover-2", "benchmark-2"]
    assert again[0].needs == ("check", "correct", "score")
    assert {stage.before for stage in again} == {("report",)}
    known = {stage.key for stage in planned(asked)} | {stage.key for stage in again}
    assert all(known.issuperset(stage.needs) for stage in again)
