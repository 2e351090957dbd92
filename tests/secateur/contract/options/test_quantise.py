"""Ways to quantise in a job's spec: their names, their limits, and the stage that they bring."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from secateur.contract.catalog import QUANTISATIONS
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_kinds import kinds_of

LEAST: dict[str, Any] = {"model": {"source": "local", "path": "m"}, "pruning": {"kind": "depth", "blocks": 1}}


def spec(*ways: dict[str, Any]) -> CompressionSpec:
    return CompressionSpec.model_validate({**LEAST, "quantise": ways})


def test_each_way_names_its_variant() -> None:
    ways = spec(
        {"kind": "int8"},
        {"kind": "int8", "group_size": 128},
        {"kind": "int4"},
        {"kind": "int4", "group_size": 64},
        {"kind": "gguf"},
        {"kind": "gguf", "type": "Q4_0"},
        {"kind": "gptq"},
        {"kind": "gptq", "bits": 8, "group_size": 128},
    ).quantise
    assert [way.variant for way in ways] == [
        *("int8", "int8-g128", "int4", "int4-g64", "gguf-q8_0", "gguf-q4_0", "gptq", "gptq-8bit-g128"),
    ]
    assert {way.kind for way in ways} == set(QUANTISATIONS)


def test_the_stage_is_there_only_where_it_is_asked_for() -> None:
    assert "quantise" not in kinds_of(spec())
    stages = kinds_of(spec({"kind": "int8"}))
    assert stages.index("recover") < stages.index("quantise") < stages.index("benchmark")


@pytest.mark.parametrize(
    "ways",
    [
        ({"kind": "int8"}, {"kind": "int8"}),
        ({"kind": "int4"}, {"kind": "int4", "group_size": 32}),
        ({"kind": "int2"},),
        ({"kind": "int4", "group_size": 33},),
        ({"kind": "int4", "group_size": None},),
        ({"kind": "gguf", "type": "Q4_K"},),
    ],
)
def test_what_there_is_not_and_what_stands_twice_is_refused(ways: tuple[dict[str, Any], ...]) -> None:
    with pytest.raises(ValidationError):
        spec(*ways)
