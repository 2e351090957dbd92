"""A time without a past: arithmetic over speed, as a span, and nothing where the spec does not tell the work."""

from __future__ import annotations

from typing import Any

import pytest

from secateur.contract.estimates.model import known_model
from secateur.contract.estimates.removal import removal_of
from secateur.contract.estimates.rough import (
    CHOSEN,
    HEALED,
    START,
    TRAINED,
    TRIED_DEPTHS,
    Span,
    Speed,
    rough_duration,
)
from secateur.contract.estimates.setting import Setting
from secateur.contract.presets import PRESETS
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_graph import planned
from tests.fixtures.smollm2 import BLOCK, HEAD, PARAMETERS, SMOLLM2_CONFIG

SPEED = Speed(flops=1e11, read=1e10)
GIVEN = {"source": "local", "path": "news.txt"}


def setting(*, imported: bool = False, of_target: int | None = None, **sections: Any) -> Setting:
    """`of_target`: blocks of the model that a draft is for, of the same shapes."""
    body = {"model": {"source": "hub", "id": "a/b"}, "pruning": {"kind": "depth", "blocks": 6}}
    spec = CompressionSpec.model_validate({**body, **sections})
    model = known_model(SMOLLM2_CONFIG)
    assert model is not None
    target = None if of_target is None else known_model({**SMOLLM2_CONFIG, "num_hidden_layers": of_target})
    return Setting(spec, model, removal_of(spec, model), imported, "cpu", 4, target)


def middle(kind: str, speed: Speed = SPEED, **sections: Any) -> float:
    """Seconds without the start of a process."""
    found = rough_duration(kind, setting(**sections), speed)
    assert found is not None
    assert found.high == 4 * found.low
    return 2 * found.low - START


@pytest.mark.parametrize("name", PRESETS)
def test_every_stage_of_every_preset_has_a_time(name: str) -> None:
    job = setting(preset=name)
    for stage in planned(job.spec):
        assert rough_duration(stage.kind, job, SPEED) is not None


def test_scoring_by_perplexity_is_half_a_walk_and_a_head_for_each_block() -> None:
    scoring = {"calibration": {"text": GIVEN, "samples": 10, "tokens": 128}}
    operations = 2 * 1280 * (15 * 30 * BLOCK + 30 * HEAD)
    assert middle("score", scoring=scoring) == pytest.approx(operations / 1e11)
    half = middle("score", Speed(flops=2e11, read=1.0), scoring=scoring)
    assert half == pytest.approx(operations / 2e11)


def test_text_that_the_model_writes_is_read_out_of_its_weights_token_by_token() -> None:
    read = 128 * 4 * PARAMETERS / 1e10
    given, written = (middle("score", scoring={"calibration": {"text": text}}) for text in (GIVEN, {"source": "self"}))
    assert written - given == pytest.approx(read + 2 * 1280 * PARAMETERS / 1e11)


def test_a_choice_after_healing_takes_its_candidates() -> None:
    def chosen(candidates: int) -> float:
        return middle("choose", scoring={"after_healing": True, "candidates": candidates})

    more = chosen(20) - chosen(10)
    assert more == pytest.approx(10 * CHOSEN * 64 * 128 * PARAMETERS / 1e11)
    assert chosen(10) > more


def test_a_training_takes_its_steps_and_the_originals_predictions() -> None:
    bounds = {"text": GIVEN, "max_steps": 10, "batch_size": 8, "tokens": 256, "heal": False}
    left = PARAMETERS - 6 * BLOCK
    copied = middle("recover", recovery={"kind": "lora", **bounds}) - TRAINED * 4 * 10 * 8 * 256 * left / 1e11
    trained = middle("recover", recovery={"kind": "distill", **bounds}) - copied
    assert trained == pytest.approx((TRAINED * 6 * left + 2 * PARAMETERS) * 10 * 8 * 256 / 1e11)
    healed = middle("recover", recovery={"kind": "distill", **bounds, "heal": True}) - copied
    assert healed > trained


def test_generation_takes_the_reading_of_the_weights() -> None:
    bare = {"perplexity": None, "samples": None, "generation": None, "latency": {"output_tokens": [64]}}
    nothing = {"kind": "none"}
    expected = 2 * 30 * 64 * 4 * PARAMETERS / 1e10  # original and pruned
    assert middle("benchmark", recovery=nothing, benchmark=bare) == pytest.approx(expected)


def test_a_text_that_is_measured_takes_its_arithmetic_beside_the_originals() -> None:
    measured = {"texts": [GIVEN], "windows": 10, "tokens": 128}
    bare = {"perplexity": measured, "samples": None, "generation": None, "latency": None}
    expected = 2 * 2 * 2 * 1280 * PARAMETERS / 1e11
    assert middle("benchmark", recovery={"kind": "none"}, benchmark=bare) == pytest.approx(expected)


DRAFT: dict[str, Any] = {
    "use": "draft",
    "target_model": {"source": "hub", "id": "a/larger"},
    "pruning": {"kind": "depth", "maximise": "draft_speedup"},
}


def test_drafts_are_healed_at_some_depths_beside_a_target_that_writes() -> None:
    whole, bare = (
        middle("draft", of_target=60, **DRAFT),
        middle("draft", of_target=60, **DRAFT, recovery={"kind": "none"}),
    )
    assert whole - bare == pytest.approx(TRIED_DEPTHS * HEALED * 64 * 128 * PARAMETERS / 1e11)
    larger = middle("draft", of_target=90, **DRAFT) - whole
    assert larger == pytest.approx(30 * BLOCK * (2 * 64 * 128 / 1e11 + (128 + 2 * 168) * 4 / 1e10))
    assert rough_duration("draft", setting(**DRAFT), SPEED) is None  # nothing is known of the target


def test_a_file_is_unpacked_at_first() -> None:
    there, file = (rough_duration("check", setting(imported=imported), SPEED) for imported in (False, True))
    assert there == Span(START / 2, 2 * START)
    assert file is not None
    assert file.low == pytest.approx(START / 2 + 2 * PARAMETERS / 1e8 / 2)  # its config says bfloat16


@pytest.mark.parametrize(
    ("kind", "sections"),
    [
        ("recover", {"recovery": {"kind": "lora", "text": GIVEN}}),  # as long as the text
        ("benchmark", {"benchmark": {"tasks": {"tasks": ["piqa"]}}}),
        ("plan", {"pruning": {"kind": "depth", "target": {"speedup": 1.2}}}),
        ("score", {"scoring": {"criterion": "greedy"}, "pruning": {"kind": "depth", "target": {"speedup": 1.2}}}),
    ],
)
def test_what_the_spec_does_not_tell_is_not_guessed(kind: str, sections: dict[str, Any]) -> None:
    assert rough_duration(kind, setting(**sections), SPEED) is None
