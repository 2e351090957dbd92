"""A local model or text that cannot be used is refused when a job is submitted, as is what does not fit the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.main import create_app
from tests.fixtures.model_folders import checkpoint, local
from tests.fixtures.refusals import errors, only
from tests.fixtures.small_files import write_gguf

# --- local models -----------------------------------------------------------------------------------------------


def test_a_checkpoint_and_a_gguf_file_are_taken(client: TestClient, model_root: Path) -> None:
    checkpoint(model_root)
    write_gguf(model_root / "m.gguf", 12)
    for path in ("model", model_root / "model", "m.gguf", model_root / "sub" / ".." / "m.gguf"):
        assert client.post("/jobs", json=local(path)).status_code == 202, path


@pytest.mark.parametrize(
    "path",
    ["../outside", "/etc/passwd", "model/../../outside", "/", "link", "link/config.json", "..", "a\x00b", "x" * 5000],
)
def test_a_path_outside_the_roots_is_refused(client: TestClient, model_root: Path, tmp_path: Path, path: str) -> None:
    checkpoint(tmp_path, "outside")
    (model_root / "link").symlink_to(tmp_path / "outside")
    error = only(client, local(path))
    assert error["pointer"] == "/model/path"
    assert str(tmp_path) not in error["detail"] + str(error["expected"])


def test_what_lies_outside_is_not_told_from_what_does_not_exist(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    there, absent = (only(client, local(tmp_path / name)) for name in ("there", "absent"))
    assert there["detail"] == absent["detail"]


def test_a_link_inside_the_roots_is_followed(client: TestClient, model_root: Path) -> None:
    checkpoint(model_root)
    (model_root / "latest").symlink_to("model")
    assert client.post("/jobs", json=local("latest")).status_code == 202


def test_weights_that_link_outside_are_refused(client: TestClient, model_root: Path, tmp_path: Path) -> None:
    folder = checkpoint(model_root, files=())
    (tmp_path / "secret").write_bytes(b"x")
    (folder / "model.safetensors").symlink_to(tmp_path / "secret")
    assert "outside" in only(client, local("model"), "bad-checkpoint")["detail"]


def test_a_model_that_is_not_there(client: TestClient) -> None:
    error = only(client, local("nothing"))
    assert (error["pointer"], error["value"]) == ("/model/path", "nothing")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "model.ckpt"])
def test_pickled_weights_are_refused(client: TestClient, model_root: Path, name: str) -> None:
    checkpoint(model_root, files=(name,))
    error = only(client, local("model"), "bad-checkpoint")
    assert name in error["detail"]
    assert "safetensors" in error["expected"]
    (model_root / name).write_bytes(b"x")
    assert name in only(client, local(name), "bad-checkpoint")["detail"]


@pytest.mark.parametrize(
    ("config", "slug", "words"),
    [
        (None, "bad-checkpoint", "no config.json"),
        ("{", "bad-checkpoint", "not valid JSON"),
        ("[]", "bad-checkpoint", "not a JSON object"),
        (" " * 1_000_001, "bad-checkpoint", "at most 1000000"),
        (
            {"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True},
            "unsupported-model",
            "encoder-decoder",
        ),
        ({"architectures": ["BertForMaskedLM"]}, "unsupported-model", "BertForMaskedLM"),
    ],
)
def test_configs_that_cannot_be_used(client: TestClient, model_root: Path, config: Any, slug: str, words: str) -> None:
    checkpoint(model_root, config=config)
    assert words in only(client, local("model"), slug)["detail"]


def test_a_folder_without_weights_and_a_file_that_is_no_gguf(client: TestClient, model_root: Path) -> None:
    checkpoint(model_root, files=())
    assert "no .safetensors" in only(client, local("model"), "bad-checkpoint")["detail"]
    (model_root / "m.gguf").write_bytes(b"PK\3\4")
    assert "neither" in only(client, local("m.gguf"), "bad-checkpoint")["detail"]


@pytest.mark.parametrize("kind", ["folder", "gguf"])
@pytest.mark.parametrize(
    ("pruning", "pointer", "words"),
    [
        ({"blocks": 12}, "/pruning/blocks", "the model has 12"),
        ({"blocks": 7}, "/pruning/blocks", "keeps 6"),
        ({"ratio": 0.9}, "/pruning/ratio", "removes 11 blocks"),
        ({"drop": [3, 12]}, "/pruning/drop/1", "no block 12"),
        ({"drop": list(range(12))}, "/pruning/drop", "all 12"),
    ],
)
def test_more_blocks_than_may_go(
    client: TestClient, model_root: Path, kind: str, pruning: dict[str, Any], pointer: str, words: str
) -> None:
    path = checkpoint(model_root) if kind == "folder" else write_gguf(model_root / "m.gguf", 12)
    error = only(client, local(path.name, **pruning))
    assert error["pointer"] == pointer
    assert words in error["detail"]
    assert error["expected"]


def test_as_many_blocks_as_may_go(client: TestClient, model_root: Path) -> None:
    checkpoint(model_root)
    for pruning in ({"blocks": 6}, {"ratio": 0.5}, {"drop": [0, 11]}):
        assert client.post("/jobs", json=local("model", **pruning)).status_code == 202
    free = {**local("model", blocks=11), "scoring": {"criterion": "perplexity", "plus": False}}
    assert client.post("/jobs", json=free).status_code == 202


@pytest.mark.parametrize("cut", [4, 10, 24, 30, 50, 100])
def test_a_gguf_head_that_is_cut_short_is_left_to_the_stage(client: TestClient, model_root: Path, cut: int) -> None:
    path = write_gguf(model_root / "m.gguf", 12)
    path.write_bytes(path.read_bytes()[:cut])
    assert client.post("/jobs", json=local("m.gguf")).status_code == 202


# --- local texts ------------------------------------------------------------------------------------------------


def test_local_texts_must_be_there(client: TestClient, spec: dict[str, Any], data_root: Path) -> None:
    (data_root / "news.txt").write_text("words")
    (data_root / "folder").mkdir()

    def text(path: str) -> dict[str, str]:
        return {"source": "local", "path": path}

    body = {
        **spec,
        "scoring": {"criterion": "perplexity", "calibration": {"text": text("news.txt")}},
        "recovery": {"kind": "lora", "text": text("absent.txt")},
        "benchmark": {"perplexity": {"texts": [text("news.txt"), text("../x"), text("folder")]}},
    }
    found = errors(client, body)
    assert [error["pointer"] for error in found] == [
        "/recovery/text/path",
        "/benchmark/perplexity/texts/1/path",
        "/benchmark/perplexity/texts/2/path",
    ]


def test_bad_model_and_bad_text_are_told_together(client: TestClient) -> None:
    text = {"source": "local", "path": "absent.txt"}
    found = errors(client, {**local("absent"), "recovery": {"kind": "lora", "text": text}})
    assert [error["pointer"] for error in found] == ["/model/path", "/recovery/text/path"]


def test_no_roots_and_no_checks(make_settings: Any) -> None:
    with TestClient(create_app(make_settings(model_roots=())), base_url="http://localhost") as api:
        assert "no roots" in only(api, local("model"))["detail"]
    with TestClient(create_app(make_settings(check_local=False)), base_url="http://localhost") as api:
        assert api.post("/jobs", json=local("only/the/worker/sees/it")).status_code == 202


def test_a_named_text_has_its_splits(client: TestClient, spec: dict[str, Any]) -> None:
    def post(text: dict[str, Any]) -> Any:
        return client.post("/jobs", json={**spec, "benchmark": {"perplexity": {"texts": [text]}}})

    assert post({"source": "named", "name": "c4"}).status_code == 202
    (error,) = post({"source": "named", "name": "c4", "split": "test"}).json()["errors"]
    assert error["pointer"] == "/benchmark/perplexity/texts/0/split"
    assert (error["detail"], error["expected"]) == ("C4 has no part `test`", "one of train, validation")
    (error,) = post({"source": "named", "name": "wikitext-2"}).json()["errors"]
    assert error["detail"] == "unknown name 'wikitext-2'; did you mean 'wikitext2'?"


@pytest.mark.parametrize("check_local", [True, False])
def test_a_gate_on_what_is_not_measured(make_settings: Any, spec: dict[str, Any], check_local: bool) -> None:
    body = {**spec, "gates": {"max_accuracy_drop": 0.03, "min_speedup": 1.2}, "benchmark": {"latency": None}}
    with TestClient(create_app(make_settings(check_local=check_local)), base_url="http://localhost") as api:
        first, second = errors(api, body)
        assert (first["pointer"], first["value"]) == ("/gates/min_speedup", 1.2)
        assert (second["pointer"], second["value"]) == ("/gates/max_accuracy_drop", 0.03)
        assert second["expected"] == "no such gate, or a benchmark with `tasks`"
        assert api.post("/jobs", json={**body, "gates": {"max_kl": 1}}).status_code == 202
