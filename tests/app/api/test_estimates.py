"""Estimates follow from the config by arithmetic, and say so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.api.examples import SMOLLM2_CONFIG
from secateur.contract.models.estimates import EstimateRequest, estimate
from tests.fixtures.small_files import write_gguf

DEPTH = {"kind": "depth", "blocks": 6}


def test_the_figures_of_a_known_model() -> None:
    request = EstimateRequest.model_validate({"config": SMOLLM2_CONFIG, "pruning": DEPTH, "dtype": "float32"})
    found = estimate(SMOLLM2_CONFIG, request, pointer="/config")
    block = 576 * 576 * 2 + 2 * 576 * 192 + 3 * 576 * 1536 + 2 * 576
    assert found.original.parameters_estimate == 134_515_008  # as published, the tied head once
    assert found.pruned.parameters_estimate == 134_515_008 - 6 * block
    assert found.pruned.bytes_estimate == 4 * found.pruned.parameters_estimate
    assert (found.original.kv_bytes_per_token_estimate, found.pruned.kv_bytes_per_token_estimate) == (
        30 * 2 * 3 * 64 * 4,
        24 * 2 * 3 * 64 * 4,
    )
    read = 30 * block + 49152 * 576
    assert found.speedup_estimate == pytest.approx(read / (read - 6 * block))
    assert found.notes == []


def test_over_http_from_a_config_and_from_a_folder(client: TestClient, model_root: Path) -> None:
    given = client.post("/estimates", json={"config": SMOLLM2_CONFIG, "pruning": DEPTH})
    assert given.status_code == 200
    folder = model_root / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**SMOLLM2_CONFIG, "architectures": ["LlamaForCausalLM"]}))
    (folder / "model.safetensors").write_bytes(b"x")
    assert client.post("/estimates", json={"path": "model", "pruning": DEPTH}).json() == given.json()
    dropped = client.post("/estimates", json={"config": SMOLLM2_CONFIG, "pruning": {"kind": "depth", "drop": [0]}})
    assert dropped.json()["pruned"]["blocks"] == 29


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"pruning": DEPTH}, ""),
        ({"config": SMOLLM2_CONFIG, "path": "model", "pruning": DEPTH}, ""),
        ({"config": {"model_type": "mamba"}, "pruning": DEPTH}, "/config"),
        ({"config": {}, "pruning": DEPTH}, "/config"),
        ({"config": {**SMOLLM2_CONFIG, "hidden_size": "wide"}, "pruning": DEPTH}, "/config"),
        ({"config": {**SMOLLM2_CONFIG, "num_attention_heads": 0}, "pruning": DEPTH}, "/config"),
        ({"config": SMOLLM2_CONFIG, "pruning": {"kind": "depth", "blocks": 25}}, "/pruning/blocks"),
        ({"path": "../etc", "pruning": DEPTH}, "/path"),
        ({"path": "m.gguf", "pruning": DEPTH}, "/path"),
    ],
)
def test_what_cannot_be_estimated(client: TestClient, model_root: Path, body: dict[str, Any], pointer: str) -> None:
    write_gguf(model_root / "m.gguf", 12)
    response = client.post("/estimates", json=body)
    assert response.status_code == 422
    assert [error["pointer"] for error in response.json()["errors"]] == [pointer]


@pytest.mark.parametrize(("number", "shown"), [("NaN", "NaN"), ("1e400", "inf"), ("-Infinity", "-inf")])
def test_numbers_that_are_none_are_told_as_such(client: TestClient, number: str, shown: str) -> None:
    config = json.dumps({**SMOLLM2_CONFIG, "hidden_size": "here"}).replace('"here"', number)
    body = f'{{"config": {config}, "pruning": {{"kind": "depth", "blocks": 6}}}}'
    answer = client.post("/estimates", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/config"
    assert answer.json()["errors"][0]["value"] == shown
