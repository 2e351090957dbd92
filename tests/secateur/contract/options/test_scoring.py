"""The options of the choice after healing: what is refused, at which field, and what scores are kept free of."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from secateur.contract.catalog import CRITERIA
from secateur.contract.options.scoring import OF_THE_CHOICE, HealedGreedyScoring, PerplexityScoring
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_kinds import STAGE_KINDS
from secateur.contract.validation_errors import field_errors

SPEC: dict[str, Any] = {"model": {"source": "hub", "id": "org/m"}, "pruning": {"kind": "depth", "blocks": 2}}


def spec(scoring: dict[str, Any], **changes: Any) -> CompressionSpec:
    return CompressionSpec.model_validate({**SPEC, "scoring": scoring, **changes})


def refused(scoring: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Pointer → what is expected there."""
    with pytest.raises(ValidationError) as caught:
        spec(scoring, **changes)
    return {field.pointer: field.expected for field in field_errors(CompressionSpec, caught.value.errors())}


@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_criterion_has_the_choice(criterion: str) -> None:
    found = spec({"criterion": criterion, "after_healing": True, "finalists": 3, "finalist_steps": 20}).scoring
    assert (found.after_healing, found.finalists, found.finalist_steps, found.candidates) == (True, 3, 20, 12)
    assert found.healing_text.samples == 64


@pytest.mark.parametrize(
    ("given", "field", "expected"),
    [
        ({"finalists": 3}, "finalists", '"after_healing": true'),
        ({"finalist_steps": 10}, "finalist_steps", '"after_healing": true'),
        ({"candidates": 5}, "candidates", '"after_healing": true'),
        ({"healing_samples": 9}, "healing_samples", '"after_healing": true'),
        ({"after_healing": True, "finalist_steps": 10}, "finalist_steps", "a number of `finalists`"),
        ({"after_healing": True, "finalists": 13}, "finalists", "at most 12"),
        ({"after_healing": True, "finalists": 4, "candidates": 3}, "finalists", "at most 3"),
        ({"after_healing": True, "finalists": 1}, "finalists", "2"),
        ({"after_healing": True, "candidates": 1}, "candidates", "2"),
        ({"after_healing": True, "finalists": 2, "finalist_steps": 0}, "finalist_steps", "1"),
        ({"after_healing": True, "healing_samples": 1}, "healing_samples", "2"),
        ({"after_healing": "often"}, "after_healing", "true or false"),
    ],
    ids=str,
)
def test_what_does_not_fit_together_is_told_at_its_field(given: dict[str, Any], field: str, expected: str) -> None:
    found = refused({"criterion": "greedy", **given})
    (pointer,) = found
    assert pointer == f"/scoring/{field}"
    assert expected in found[pointer]


@pytest.mark.parametrize(
    "changes",
    [
        {"pruning": {"kind": "depth", "drop": [3]}},
        {"pruning": {"kind": "depth", "constraints": {"max_kl": 0.3}}},
        {"recovery": {"kind": "none"}},
    ],
    ids=str,
)
def test_a_job_that_has_no_sets_or_heals_nothing_has_no_such_choice(changes: dict[str, Any]) -> None:
    assert list(refused({"after_healing": True}, **changes)) == ["/scoring/after_healing"]
    assert spec({}, **changes).scoring.after_healing is False


def test_a_spec_that_was_filled_in_is_one_again() -> None:
    for scoring in ({}, {"after_healing": True}, {"after_healing": True, "finalists": 2}):
        found = spec(scoring)
        assert CompressionSpec.model_validate(found.model_dump(mode="json")) == found


def test_candidates_are_healed_on_the_calibrations_text() -> None:
    text = {"source": "local", "path": "a.txt"}
    given = PerplexityScoring.model_validate({"calibration": {"text": text, "samples": 7, "tokens": 99, "bos": "none"}})
    found = given.model_copy(update={"after_healing": True, "healing_samples": 30}).healing_text
    assert found.model_dump(mode="json")["text"]["path"] == "a.txt"
    assert (found.samples, found.tokens, found.bos) == (30, 99, "none")
    assert HealedGreedyScoring(criterion="healed_greedy").healing_text.samples == 64


def test_jobs_that_differ_in_how_they_choose_share_their_scores() -> None:
    decides = STAGE_KINDS["score"].decides
    assert decides is not None
    for criterion in ("taylor", "greedy"):
        plain = decides(spec({"criterion": criterion}))
        assert plain == decides(spec({"criterion": criterion, "after_healing": True, "finalists": 2}))
        assert plain is not None
        assert not set(OF_THE_CHOICE) & set(plain["scoring"])
