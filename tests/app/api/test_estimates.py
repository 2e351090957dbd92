"""An estimate takes what a submission takes, refuses what it refuses, and says what nothing tells."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from starlette.testclient import TestClient

from app.db.session import SessionFactory
from secateur.schemas.estimates import Estimate
from tests.fixtures.gguf_models import tiny_model, write_model
from tests.fixtures.hub_server import Answer, serving
from tests.fixtures.model_folders import checkpoint
from tests.fixtures.played_worker import MEMORY, PlayedWorker
from tests.fixtures.small_files import write_gguf
from tests.fixtures.smollm2 import BLOCK, PARAMETERS, SMOLLM2_CONFIG
from tests.fixtures.worker_rows import beats

SIX = {"kind": "depth", "blocks": 6}
GGUF = {"source": "local", "path": "m.gguf"}
UPLOAD = {"source": "upload", "id": "019ab8e2-3f40-7d21-8a55-6c1de0b7f913"}


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")


def estimated(client: TestClient, body: dict[str, Any]) -> Estimate:
    response = client.post("/estimates", json=body)
    assert response.status_code == 200, response.text
    return Estimate.model_validate(response.json())


def folder(root: Path, config: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint of two tensors, which lie in a block and outside."""
    path = root / "model"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    tensors = {"model.layers.3.mlp.up_proj.weight": torch.zeros(8), "model.embed_tokens.weight": torch.zeros(100)}
    save_file(tensors, path / "model.safetensors")
    return {"source": "local", "path": "model"}


def test_a_local_checkpoint(client: TestClient, model_root: Path) -> None:
    model = folder(model_root, SMOLLM2_CONFIG)
    found = estimated(client, {"model": model, "pruning": {"kind": "depth", "drop": [3]}})
    assert found.original is not None
    assert found.pruned is not None
    assert (found.family, found.original.parameters) == ("llama", PARAMETERS)
    assert (found.pruned.parameters, found.pruned.blocks, found.pruned.exact) == (PARAMETERS - BLOCK, 29, True)
    assert (found.original.bytes, found.pruned.bytes) == (432, 400)  # those of its files, whatever its config says
    assert [stage.key for stage in found.stages] == ["check", "prune", "recover", "benchmark", "report"]
    assert found.speedup is not None
    assert found.speedup.basis == "bytes"
    assert found.memory_bytes is not None
    assert found.memory_bytes > 10**8
    assert found.disk_bytes is not None


def test_quantised_models(client: TestClient, model_root: Path) -> None:
    ways = [{"kind": "int8"}, {"kind": "gguf", "type": "Q4_K_M"}]
    body = {"model": folder(model_root, SMOLLM2_CONFIG), "pruning": {"kind": "depth", "drop": [3]}, "quantise": ways}
    found = estimated(client, body)
    assert [one.variant for one in found.quantised] == ["int8", "gguf-q4_k_m"]
    assert all(one.bytes for one in found.quantised)
    searched = {**body, "pruning": {"kind": "sub_block", "units": 2}, "quantise": ways[1:]}
    assert [one.bytes for one in estimated(client, searched).quantised] == [None]


def test_a_config_that_leaves_sizes_to_its_class_is_no_error(client: TestClient, model_root: Path) -> None:
    bare = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 12}
    found = estimated(client, {"model": folder(model_root, bare), "pruning": SIX})
    assert (found.family, found.original, found.memory_bytes) == ("llama", None, None)
    assert "hidden_size" in found.notes[0]


def test_nothing_has_run_yet(client: TestClient, model_root: Path) -> None:
    found = estimated(client, {"model": folder(model_root, SMOLLM2_CONFIG), "pruning": SIX})
    assert found.seconds is None
    assert {stage.seconds for stage in found.stages} == {None}
    assert (found.device.kind, found.device.name, found.dtype) == ("cpu", None, "float32")


@pytest.mark.parametrize(
    ("pruning", "exact"),
    [
        ({"kind": "depth", "ratio": 0.3}, True),
        ({"kind": "sub_block", "units": 4, "only": "mlp"}, True),
        ({"kind": "sub_block", "ratio": 0.2}, False),
        ({"kind": "wanda_sp", "ratio": 0.2}, True),
        ({"kind": "flap", "ratio": 0.2, "uniform": False}, False),
        ({"kind": "llm_pruner", "ratio": 0.2}, True),
    ],
)
def test_every_kind_of_pruning(client: TestClient, model_root: Path, pruning: dict[str, Any], exact: bool) -> None:
    body = {"model": folder(model_root, SMOLLM2_CONFIG), "pruning": pruning, "recovery": {"kind": "none"}}
    found = estimated(client, body)
    assert found.pruned is not None
    assert found.pruned.exact is exact
    assert found.pruned.parameters + found.pruned.spread < PARAMETERS
    assert (found.pruned.spread == 0) is exact


def test_a_gguf_file_by_its_head(client: TestClient, model_root: Path) -> None:
    model = tiny_model("llama")
    written = write_model(model_root / "m.gguf", model)
    found = estimated(client, {"model": GGUF, "pruning": {"kind": "depth", "drop": [1]}})
    assert found.original is not None
    assert found.pruned is not None
    assert found.original.parameters == model.num_parameters()
    assert found.original.bytes == 4 * model.num_parameters()  # unpacked
    published = {stage.key: stage.disk_bytes for stage in found.stages}["prune"]
    assert published is not None
    assert published > (found.pruned.bytes or 0) + written.stat().st_size // 2  # and a pruned file beside


def read_so_far() -> int:
    """Bytes that this process has read from files and sockets since it began."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("rchar:")).split()[1])


@pytest.mark.parametrize("form", ["safetensors", "gguf"])
def test_no_weight_is_read(client: TestClient, model_root: Path, form: str) -> None:
    """So an answer takes as long for a model of 70 billion parameters."""
    huge = 1 << 28
    if form == "gguf":
        model, path = GGUF, write_model(model_root / "m.gguf", tiny_model("llama"))
        os.truncate(path, path.stat().st_size + huge)  # a hole, which takes no room on the disk
    else:
        model = folder(model_root, SMOLLM2_CONFIG)
        entry = {"dtype": "F32", "shape": [huge // 4], "data_offsets": [0, huge]}
        header = json.dumps({"model.layers.3.mlp.up_proj.weight": entry}).encode()
        path = model_root / "model" / "model.safetensors"
        path.write_bytes(len(header).to_bytes(8, "little") + header)
        os.truncate(path, 8 + len(header) + huge)
    before = read_so_far()
    found = estimated(client, {"model": model, "pruning": {"kind": "depth", "drop": [1]}})
    assert read_so_far() - before < huge // 4
    assert found.original is not None


def test_a_hub_model_by_its_config(client: TestClient, monkeypatch: pytest.MonkeyPatch, spec: dict[str, Any]) -> None:
    asked: list[str] = []

    def answer(path: str, _: str | None) -> Answer:
        asked.append(path)
        return 200, {}, json.dumps(SMOLLM2_CONFIG).encode()

    body = {**spec, "model": {"source": "hub", "id": "some/model", "revision": "v1"}, "pruning": SIX}
    with serving(answer) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        found = estimated(client, body)
        again = estimated(client, body)
    assert again == found
    assert asked == ["/some/model/resolve/v1/config.json"]  # and nothing else, once
    assert found.original is not None
    assert (found.original.parameters, found.original.bytes) == (PARAMETERS, 2 * PARAMETERS)
    assert found.worker_disk_bytes is not None
    assert found.worker_disk_bytes >= 2 * PARAMETERS


def test_a_hub_model_in_the_cache_of_this_machine(client: TestClient, tmp_path: Path, spec: dict[str, Any]) -> None:
    hub = tmp_path / "data" / "cache" / "hub" / "models--some--model"
    (hub / "refs").mkdir(parents=True)
    (hub / "refs" / "main").write_text("a" * 40)
    (hub / "snapshots" / ("a" * 40)).mkdir(parents=True)
    (hub / "snapshots" / ("a" * 40) / "config.json").write_text(json.dumps(SMOLLM2_CONFIG))
    found = estimated(client, {**spec, "pruning": SIX})
    assert found.original is not None
    assert found.original.parameters == PARAMETERS


def test_a_hub_that_does_not_answer_is_no_error(client: TestClient, spec: dict[str, Any]) -> None:
    found = estimated(client, spec)
    assert (found.original, found.pruned, found.speedup, found.memory_bytes) == (None, None, None, None)
    assert "the hub did not answer" in found.notes[0]


def test_times_and_memory_come_from_what_has_run_here(
    client: TestClient, spec: dict[str, Any], submit: Callable[..., dict[str, Any]], worker: PlayedWorker
) -> None:
    worker.finish(submit()["id"])
    found = estimated(client, spec)
    stages = {stage.key: stage for stage in found.stages}
    assert found.device.name is not None
    assert {stage.memory_bytes for stage in found.stages} == {MEMORY}  # seen on this very model
    assert {stage.memory_basis for stage in found.stages} == {"past"}
    assert {stage.seconds for stage in found.stages} == {None}  # its config is not known, so neither is its work
    assert stages["check"].memory_bytes == MEMORY


def test_times_of_a_model_that_is_known(
    client: TestClient, model_root: Path, spec: dict[str, Any], worker: PlayedWorker, sessions: SessionFactory
) -> None:
    checkpoint(model_root, config=SMOLLM2_CONFIG)
    body = {**spec, "model": {"source": "local", "path": "model"}}
    checked = worker.results["check"]
    size = {"parameters": PARAMETERS, "bytes_on_disk": 2 * PARAMETERS, "blocks": 30}
    worker.results = {**worker.results, "check": {**checked, "model": {**checked["model"], **size}}}
    worker.finish(client.post("/jobs", json=body).json()["id"])
    found = estimated(client, body)
    assert found.seconds is not None
    assert found.seconds > 0
    assert {stage.seconds_basis.stages for stage in found.stages if stage.seconds_basis} == {1}
    assert found.speedup is not None
    original, pruned = worker.results["benchmark"]["variants"][:2]
    measured = pruned["latency"][0]["speedup"]["median"]
    share = (1 - pruned["parameters"] / original["parameters"]) * PARAMETERS / BLOCK  # of one block
    assert found.speedup.basis == "past"
    assert found.speedup.value == pytest.approx(1 / (1 - (1 - 1 / measured) / share))
    other = estimated(client, {**body, "scoring": {"criterion": "taylor"}})
    assert {stage.key for stage in other.stages if stage.seconds is None} == {"score"}
    assert (other.seconds, other.rough_seconds) == (None, None)
    beats(sessions, flops=1e11, weights_read=1e10, device_name=found.device.name)
    other = estimated(client, {**body, "scoring": {"criterion": "taylor"}})
    assert [stage.key for stage in other.stages if stage.rough_seconds] == ["score"]
    score = next(stage.rough_seconds for stage in other.stages if stage.rough_seconds)
    known = sum(stage.seconds for stage in other.stages if stage.seconds is not None)
    assert other.rough_seconds is not None
    assert other.rough_seconds.low == pytest.approx(known + score.low, abs=0.01)
    assert estimated(client, body).rough_seconds is None  # all of it has run here


def test_a_rough_time_by_the_speed_of_a_worker_that_is_up(
    client: TestClient, model_root: Path, sessions: SessionFactory
) -> None:
    body = {"model": folder(model_root, SMOLLM2_CONFIG), "pruning": SIX, "preset": "quick"}
    beats(sessions, flops=1e11, weights_read=1e10)
    found = estimated(client, body)
    assert found.seconds is None
    spans = [stage.rough_seconds for stage in found.stages if stage.rough_seconds]
    assert len(spans) == len(found.stages)
    assert found.rough_seconds is not None
    assert found.rough_seconds.low == pytest.approx(sum(span.low for span in spans))
    assert found.rough_seconds.high == pytest.approx(sum(span.high for span in spans))
    without_end = {**body, "recovery": {"kind": "lora", "text": {"source": "hub", "id": "some/text"}}}
    assert estimated(client, without_end).rough_seconds is None  # one stage is unknown


def test_a_worker_that_has_not_measured_its_speed_tells_no_time(
    client: TestClient, model_root: Path, sessions: SessionFactory
) -> None:
    beats(sessions)
    found = estimated(client, {"model": folder(model_root, SMOLLM2_CONFIG), "pruning": SIX})
    assert (found.seconds, found.rough_seconds) == (None, None)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/model"),
        ({"model": GGUF}, "/pruning"),
        ({"model": {"source": "local", "path": "../etc"}, "pruning": SIX}, "/model/path"),
        (
            {"model": GGUF, "pruning": {"kind": "depth", "blocks": 7}},
            "/pruning/blocks",
        ),
        (
            {
                "model": GGUF,
                "pruning": {"kind": "depth", "blocks": 1},
                "gates": {"max_accuracy_drop": 0.1},
            },
            "/gates/max_accuracy_drop",
        ),
        (
            {
                "model": GGUF,
                "pruning": {"kind": "depth", "blocks": 1},
                "recovery": {
                    "kind": "lora",
                    "text": {"source": "upload", "id": "019ab8e2-3f40-7d21-8a55-6c1de0b7f913"},
                },
            },
            "/recovery/text/id",
        ),
    ],
)
def test_it_refuses_what_a_submission_refuses(
    client: TestClient, model_root: Path, body: dict[str, Any], pointer: str
) -> None:
    write_gguf(model_root / "m.gguf", 12)
    estimated, submitted = (client.post(path, json=body) for path in ("/estimates", "/jobs"))
    assert (estimated.status_code, submitted.status_code) == (422, 422)
    assert estimated.json()["errors"] == submitted.json()["errors"]
    assert pointer in [error["pointer"] for error in estimated.json()["errors"]]


def test_what_the_config_of_a_hub_model_tells_is_told_before_it_is_submitted(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, spec: dict[str, Any]
) -> None:
    with serving(lambda path, _: (200, {}, json.dumps(SMOLLM2_CONFIG).encode())) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        response = client.post("/estimates", json={**spec, "pruning": {"kind": "depth", "blocks": 29}})
    assert response.status_code == 422
    assert [error["pointer"] for error in response.json()["errors"]] == ["/pruning/blocks"]


def test_a_config_of_the_hub_that_is_none(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, spec: dict[str, Any]
) -> None:
    with serving(lambda path, _: (200, {}, b"<html>")) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        response = client.post("/estimates", json={**spec, "model": {"source": "hub", "id": "a/page"}})
    assert response.status_code == 422
    assert [error["pointer"] for error in response.json()["errors"]] == ["/model/id"]


def larger(root: Path, **changes: Any) -> dict[str, Any]:
    checkpoint(root, "large", config={**SMOLLM2_CONFIG, "architectures": ["LlamaForCausalLM"], **changes})
    return {"source": "local", "path": "large"}


def test_what_a_draft_is_expected_to_give(client: TestClient, model_root: Path) -> None:
    body = {"model": folder(model_root, SMOLLM2_CONFIG), "pruning": SIX, "use": "draft"}
    alone = estimated(client, {"model": body["model"], "pruning": SIX})
    target = larger(model_root, num_hidden_layers=300, hidden_size=1152)
    found = estimated(client, {**body, "target_model": target})
    assert found.draft is not None
    head = SMOLLM2_CONFIG["vocab_size"] * SMOLLM2_CONFIG["hidden_size"]
    read = 24 * BLOCK + head + SMOLLM2_CONFIG["hidden_size"]
    assert found.draft.cost < read / (300 * BLOCK)
    assert found.draft.pays
    assert found.draft.least_acceptance is not None
    assert any(note.startswith("By the weights that are read, a token of the draft costs") for note in found.notes)
    assert {stage.seconds for stage in found.stages if stage.kind == "benchmark"} == {None}
    assert (found.memory_bytes or 0) > (alone.memory_bytes or 0), "the target lies beside its drafts"


def test_a_draft_of_its_own_original_is_told_not_to_pay(client: TestClient, model_root: Path) -> None:
    model = folder(model_root, SMOLLM2_CONFIG)
    found = estimated(client, {"model": model, "use": "draft", "target_model": model, "pruning": SIX})
    assert found.draft is not None
    read = 30 * BLOCK + PARAMETERS - 30 * BLOCK
    assert found.draft.cost == pytest.approx(1 - 6 * BLOCK / read)
    assert not found.draft.pays
    assert any(note.startswith("This draft is not expected to pay.") for note in found.notes)


def test_a_target_that_is_not_there_is_refused_at_its_field(client: TestClient, model_root: Path) -> None:
    body = {"model": folder(model_root, SMOLLM2_CONFIG), "use": "draft", "pruning": SIX}
    for path in ("/estimates", "/jobs"):
        answer = client.post(path, json={**body, "target_model": {"source": "local", "path": "none"}})
        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == ["/target_model/path"]


def test_nothing_is_queued(client: TestClient, model_root: Path) -> None:
    estimated(client, {"model": folder(model_root, SMOLLM2_CONFIG), "pruning": SIX})
    assert client.get("/jobs").json()["data"] == []
