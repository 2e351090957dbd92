"""A target that a local model cannot reach is refused when the job is submitted, as far as its config shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.fixtures.model_folders import LLAMA, checkpoint, local
from tests.fixtures.refusals import only
from tests.fixtures.smollm2 import SMOLLM2_CONFIG

CONFIG = {**SMOLLM2_CONFIG, "architectures": ["LlamaForCausalLM"]}


@pytest.mark.parametrize("target", [{"parameters": 0.8}, {"parameters": 49_552_705}, {"bytes": 0.8}])
def test_a_size_that_can_be_reached(client: TestClient, model_root: Path, target: dict[str, Any]) -> None:
    checkpoint(model_root, config=CONFIG)
    response = client.post("/jobs", json=local("model", target=target))
    assert response.status_code == 202, response.text


@pytest.mark.parametrize(
    ("target", "part"),
    [
        ({"parameters": 134_515_008}, "no more than 134,515,008 parameters as it is"),
        ({"parameters": 49_552_703}, "the model has 49,552,704 parameters even without 24 of its 30 blocks"),
        ({"parameters": 0.01}, "even without 24 of its 30 blocks"),
        ({"bytes": 10**12}, "no more than 1 bytes of weights"),
    ],
)
def test_a_size_that_cannot(client: TestClient, model_root: Path, target: dict[str, Any], part: str) -> None:
    checkpoint(model_root, config=CONFIG)
    error = only(client, local("model", target=target))
    (figure,) = target
    assert (error["pointer"], error["value"]) == (f"/pruning/target/{figure}", target[figure])
    assert part in error["detail"]


def test_a_head_that_the_files_may_have_is_left_to_the_worker(client: TestClient, model_root: Path) -> None:
    header = b'{"lm_head.weight":{}}'
    (checkpoint(model_root, config=CONFIG) / "model.safetensors").write_bytes(
        len(header).to_bytes(8, "little") + header
    )
    with_head = 134_515_008 + 49_152 * 576
    assert client.post("/jobs", json=local("model", target={"parameters": with_head - 1})).status_code == 202
    only(client, local("model", target={"parameters": with_head}))


def test_a_config_that_leaves_sizes_to_its_class_is_left_to_the_worker(client: TestClient, model_root: Path) -> None:
    checkpoint(model_root, config=LLAMA)
    assert client.post("/jobs", json=local("model", target={"parameters": 1})).status_code == 202


def test_a_target_contradicts_a_number(client: TestClient) -> None:
    error = only(client, local("model", target={"parameters": 0.8}, blocks=3))
    assert (error["pointer"], error["expected"]) == ("/pruning", "one of blocks, ratio, drop, target, constraints")
    assert "not blocks and target" in error["detail"]


def test_an_estimate_of_a_target(client: TestClient, model_root: Path) -> None:
    checkpoint(model_root, config=CONFIG)
    found = client.post("/estimates", json=local("model", target={"parameters": 0.8})).json()
    assert (found["pruned"]["blocks"], found["pruned"]["parameters"]) == (22, 106_194_240)


def test_a_speed_is_taken_where_blocks_may_go(client: TestClient, model_root: Path) -> None:
    checkpoint(model_root, config=CONFIG)
    made = client.post("/jobs", json=local("model", target={"speedup": 1.3}))
    assert made.status_code == 202
    stages = {stage["key"]: stage["needs"] for stage in made.json()["stages"]}
    assert stages["plan"] == stages["score"] == ["check"]
    assert stages["prune"] == ["check", "plan", "score"]
    checkpoint(model_root, "shallow", config={**CONFIG, "num_hidden_layers": 6})
    error = only(client, local("shallow", target={"speedup": 1.3}))
    assert error["pointer"] == "/pruning/target/speedup"
    assert "none of the model's 6 blocks may go" in error["detail"]


def test_a_speed_that_nobody_measures(client: TestClient) -> None:
    error = only(client, {**local("model", target={"speedup": 1.3}), "benchmark": {"latency": None}})
    assert error["pointer"] == "/pruning/target/speedup"
    assert error["expected"] == "a benchmark with `latency` by transformers, or a target of parameters or bytes"


def test_a_speed_is_estimated_without_what_it_takes(client: TestClient, model_root: Path) -> None:
    checkpoint(model_root, config=CONFIG)
    found = client.post("/estimates", json=local("model", target={"speedup": 1.3})).json()
    assert (found["original"]["blocks"], found["pruned"]) == (30, None)
    assert "How much goes" in found["notes"][0]
    assert "plan" in [stage["key"] for stage in found["stages"]]


def test_constraints_are_taken_where_blocks_may_go(client: TestClient, model_root: Path) -> None:
    checkpoint(model_root, config=CONFIG)
    bounded = {"constraints": {"max_kl": 0.3}, "maximise": "speedup"}
    made = client.post("/jobs", json=local("model", **bounded))
    assert made.status_code == 202, made.text
    stages = {stage["key"]: stage["needs"] for stage in made.json()["stages"]}
    assert stages["search"] == ["check", "score"]
    assert stages["prune"] == ["check", "score", "search"]
    checkpoint(model_root, "shallow", config={**CONFIG, "num_hidden_layers": 6})
    error = only(client, local("shallow", **bounded))
    assert (error["pointer"], error["value"]) == ("/pruning/constraints", {"max_kl": 0.3})
    unmeasured = {**local("model", **bounded), "benchmark": {"fidelity": {"enabled": False}}}
    assert only(client, unmeasured)["pointer"] == "/pruning/constraints/max_kl"


def test_constraints_are_estimated_without_what_they_allow(client: TestClient, model_root: Path) -> None:
    checkpoint(model_root, config=CONFIG)
    found = client.post("/estimates", json=local("model", constraints={"max_kl": 0.3})).json()
    assert (found["original"]["blocks"], found["pruned"]) == (30, None)
    assert "search" in [stage["key"] for stage in found["stages"]]


@pytest.mark.parametrize(
    ("pruning", "pointer", "part"),
    [
        ({"target": {"parameters": 134_515_008}}, "/pruning/target/parameters", "no more than 134,515,008 parameters"),
        ({"target": {"parameters": 0.2}}, "/pruning/target/parameters", "even without all that may go"),
        ({"target": {"parameters": 0.7}, "choices": ["attention"]}, "/pruning/target/parameters", "without all that"),
        ({"target": {"bytes": 10**12}}, "/pruning/target/bytes", "no more than 1 bytes of weights"),
        ({"target": {"parameters": 0.8}, "protected": ["30.mlp"]}, "/pruning/protected/0", "there is no unit 30.mlp"),
        ({}, "/pruning/target", ""),
        ({"target": {}}, "/pruning/target", "give exactly one of"),
        ({"target": {"parameters": 0.8}, "units": 3}, "/pruning/units", ""),
    ],
)
def test_a_budget_that_cannot_be(
    client: TestClient, model_root: Path, pruning: dict[str, Any], pointer: str, part: str
) -> None:
    checkpoint(model_root, config=CONFIG)
    body = {"model": {"source": "local", "path": "model"}, "pruning": {"kind": "joint", **pruning}}
    error = only(client, body)
    assert error["pointer"] == pointer
    assert part in error["detail"]


def test_a_budget_that_can(client: TestClient, model_root: Path) -> None:
    checkpoint(model_root, config=CONFIG)

    def body(**target: float) -> dict[str, Any]:
        return {"model": {"source": "local", "path": "model"}, "pruning": {"kind": "joint", "target": target}}

    for reached in (body(parameters=0.8), body(bytes=0.8), body(speedup=1.3), body(memory=0.9)):
        response = client.post("/jobs", json=reached)
        assert response.status_code == 202, response.text
    assert only(client, body(speedup=1.3, batch_size=7))["pointer"] == "/pruning/target/batch_size"
