"""A bad submission is refused with the field, the value and what is expected, before anything is queued."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.local.embedded import PostgresServer, ValkeyServer
from app.main import create_app
from app.settings import Settings
from tests.fixtures.model_folders import LLAMA, checkpoint, emptied, local
from tests.fixtures.servers import database_of
from tests.fixtures.small_files import write_gguf

MIXTRAL = {**LLAMA, "model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_local_experts": 8}


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: tmp_path_factory.mktemp(name) for name in ("models", "texts")}


@pytest.fixture(scope="module")
def client(
    postgres_server: PostgresServer, template_database: str, valkey_server: ValkeyServer, roots: dict[str, Path]
) -> Iterator[TestClient]:
    """One application for all of these tests: what is refused leaves nothing behind, as each of them checks."""
    for url in database_of(postgres_server, template_database):
        settings = Settings(
            database_url=url,
            redis_url=valkey_server.url,
            model_roots=(roots["models"],),
            data_roots=(roots["texts"],),
        )
        with TestClient(create_app(settings), base_url="http://localhost") as client:
            yield client


@pytest.fixture
def model_root(roots: dict[str, Path]) -> Iterator[Path]:
    yield from emptied(roots["models"])


@pytest.fixture
def data_root(roots: dict[str, Path]) -> Iterator[Path]:
    yield from emptied(roots["texts"])


def errors(client: TestClient, body: Any, slug: str = "invalid-input") -> list[dict[str, Any]]:
    before = client.get("/jobs").json()
    response = client.post("/jobs", json=body)
    assert response.status_code == 422, response.text
    assert response.json()["type"].endswith(slug)
    assert client.get("/jobs").json() == before  # nothing was queued
    found: list[dict[str, Any]] = response.json()["errors"]
    return found


def only(client: TestClient, body: Any, slug: str = "invalid-input") -> dict[str, Any]:
    found = errors(client, body, slug)
    assert len(found) == 1, found
    assert found[0]["detail"]
    return found[0]


def test_every_bad_field_is_named_at_once(client: TestClient) -> None:
    found = errors(
        client,
        {
            "model": {"source": "hub", "id": 5, "revison": "main"},
            "scoring": {"criterion": "perplexty"},
            "pruning": {"kind": "depth", "ratio": 1.5},
            "recovery": {"kind": "lora", "rank": 0, "text": {"source": "hubb"}},
            "benchmark": {"latency": {"batch_sizes": [1, 0]}},
            "labels": {"a b": "x"},
            "sed": 1,
        },
    )
    assert {error["pointer"]: (error["value"], error["expected"]) for error in found} == {
        "/model/id": (5, found[0]["expected"]),
        "/model/revison": ("main", "one of source, id, revision"),
        "/scoring/criterion": ("perplexty", found[2]["expected"]),
        "/pruning/ratio": (1.5, "a number, above 0 and below 1"),
        "/recovery/rank": (0, "a whole number, at least 1 and at most 1024"),
        "/recovery/text/source": ("hubb", "one of self, named, hub, local, upload"),
        "/benchmark/latency/batch_sizes/1": (0, "a whole number, at least 1 and at most 4096"),
        "/labels/a b": ("a b", "a string of 1 to 63 characters that matches ^[A-Za-z0-9._/-]+$"),
        "/sed": (1, found[-1]["expected"]),
    }
    by_pointer = {error["pointer"]: error["detail"] for error in found}
    assert "did you mean 'revision'?" in by_pointer["/model/revison"]
    assert "did you mean 'perplexity'?" in by_pointer["/scoring/criterion"]
    assert "did you mean 'hub'?" in by_pointer["/recovery/text/source"]
    assert "did you mean 'seed'?" in by_pointer["/sed"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/model"),
        ([], ""),
        (None, ""),
        ("text", ""),
        ({"model": {"source": "hub", "id": "a/b"}}, "/pruning"),
        ({"model": {"id": "a/b"}, "pruning": {"kind": "depth", "blocks": 1}}, "/model/source"),
        ({"model": "a/b", "pruning": {"kind": "depth", "blocks": 1}}, "/model"),
        ({"model": {"source": "hub", "id": "../x"}, "pruning": {"kind": "depth", "blocks": 1}}, "/model/id"),
        ({"model": {"source": "hub", "id": "a/b"}, "pruning": {"kind": "depth"}}, "/pruning"),
        (
            {"model": {"source": "hub", "id": "a/b"}, "pruning": {"kind": "depth", "blocks": 1, "ratio": 0.5}},
            "/pruning",
        ),
    ],
)
def test_shapes_that_are_wrong(client: TestClient, body: Any, pointer: str) -> None:
    response = client.post("/jobs", content=json.dumps(body), headers={"content-type": "application/json"})
    assert response.status_code == 422
    assert pointer in [error["pointer"] for error in response.json()["errors"]]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ('{"model": {"source": "hub", "id": "a/b"}, "pruning": {"blocks": NUMBER}}', "/pruning/blocks"),
        ('{"labels": {"a/b": [NUMBER]}}', "/labels/a~1b/0"),
        ("NUMBER", ""),
        ("[-NUMBER]", "/0"),
    ],
)
def test_a_number_of_a_hundred_thousand_digits(client: TestClient, body: str, pointer: str) -> None:
    content = body.replace("NUMBER", "1" * 100_000)
    for path in ("/jobs", "/estimates"):
        response = client.post(path, content=content, headers={"content-type": "application/json"})
        assert response.status_code == 422
        (error,) = response.json()["errors"]
        assert error["pointer"] == pointer
        assert error["detail"] == "the body has a number of 100,000 digits, and at most 4,300 are read"
        assert error["expected"] == "a number of at most 4,300 digits"
        assert error["value"].strip("-").startswith("111")
        assert len(error["value"]) <= 200


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"[" * 100_000, "the body is nested too deeply to be read as JSON"),
        (b'{"model": "\xff"}', "the body is not JSON: byte 11 begins no character of UTF-8"),
    ],
)
def test_a_body_that_cannot_be_read(client: TestClient, body: bytes, detail: str) -> None:
    response = client.post("/jobs", content=body, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["detail"]) == (400, detail)


def test_a_config_with_a_number_of_a_hundred_thousand_digits(client: TestClient, model_root: Path) -> None:
    checkpoint(model_root)
    file = model_root / "model" / "config.json"
    file.write_text(file.read_text().replace("{", '{"n": ' + "1" * 100_000 + ",", 1))
    error = only(client, local("model", drop=[3]), "bad-checkpoint")
    assert error["pointer"] == "/model/path"
    assert error["detail"] == "config.json has a number of 100,000 digits, and at most 4,300 are read, at /n"


def test_numbers_that_are_none(client: TestClient, spec: dict[str, Any]) -> None:
    for number in ("NaN", "Infinity", "-Infinity", "1e999"):
        text = json.dumps({**spec, "gates": {"min_speedup": "?"}}).replace('"?"', number)
        response = client.post("/jobs", content=text, headers={"content-type": "application/json"})
        assert response.status_code == 422
        assert response.json()["errors"][0]["pointer"] == "/gates/min_speedup"


def test_text_that_postgres_cannot_keep(client: TestClient, spec: dict[str, Any]) -> None:
    assert only(client, {**spec, "labels": {"a": "x\0y"}})["pointer"] == "/labels/a"
    nested = {"kind": "lora", "text": {"source": "hub", "id": "a\0b"}}
    assert only(client, {**spec, "recovery": nested})["pointer"] == "/recovery/text/id"
    lone = json.dumps({**spec, "labels": {"a": "?"}}).replace('"?"', '"\\ud800"')
    response = client.post("/jobs", content=lone, headers={"content-type": "application/json"})
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "/labels/a"


def test_a_long_value_is_not_thrown_back(client: TestClient, spec: dict[str, Any]) -> None:
    error = only(client, {**spec, "labels": {"a": "x" * 100_000}})
    assert len(error["value"]) < 300


@pytest.mark.parametrize(
    ("pruning", "more", "pointer"),
    [
        ({"units": 3, "ratio": 0.2}, {}, "/pruning"),
        ({"units": 0}, {}, "/pruning/units"),
        ({"drop": ["3.attn"]}, {}, "/pruning/drop/0"),
        ({"drop": ["3.mlp"], "plus": True}, {}, "/pruning/plus"),
        ({"drop": ["3.mlp", "12.mlp"]}, {}, "/pruning/drop/1"),
        ({"units": 24}, {}, "/pruning/units"),
        ({"units": 13, "plus": True}, {}, "/pruning/units"),
        ({"units": 3, "protected": ["12.mlp"]}, {}, "/pruning/protected/0"),
        ({"units": 3}, {"scoring": {"criterion": "greedy"}}, "/scoring"),
        ({"units": 3}, {"recovery": {"kind": "healing"}}, "/recovery"),
        ({"units": 3, "unts": 3}, {}, "/pruning/unts"),
    ],
)
def test_halves_of_blocks_that_cannot_go(
    client: TestClient, model_root: Path, pruning: dict[str, Any], more: dict[str, Any], pointer: str
) -> None:
    checkpoint(model_root)
    body = {"model": {"source": "local", "path": "model"}, "pruning": {"kind": "sub_block", **pruning}, **more}
    assert only(client, body)["pointer"] == pointer


@pytest.mark.parametrize(
    ("config", "pruning", "slug", "pointer"),
    [
        (LLAMA, {"experts": 2}, "unsupported-model", "/pruning/kind"),
        ({**LLAMA, "model_type": "nonesuch", "num_experts": 0}, {"experts": 2}, "unsupported-model", "/pruning/kind"),
        (MIXTRAL, {"experts": 8}, "invalid-input", "/pruning/experts"),
        (MIXTRAL, {"ratio": 0.97}, "invalid-input", "/pruning/ratio"),
        ({**MIXTRAL, "num_local_experts": 1}, {"experts": 1}, "invalid-input", "/pruning/experts"),
        (MIXTRAL, {}, "invalid-input", "/pruning"),
        (MIXTRAL, {"experts": 2, "ratio": 0.5}, "invalid-input", "/pruning"),
        (MIXTRAL, {"experts": 2, "criterion": "angular"}, "invalid-input", "/pruning/criterion"),
    ],
)
def test_experts_that_cannot_go(
    client: TestClient, model_root: Path, config: Any, pruning: dict[str, Any], slug: str, pointer: str
) -> None:
    checkpoint(model_root, config=config)
    body = {"model": {"source": "local", "path": "model"}, "pruning": {"kind": "experts", **pruning}}
    assert only(client, body, slug)["pointer"] == pointer


def test_experts_are_judged_in_the_prune_stage(client: TestClient, model_root: Path) -> None:
    checkpoint(model_root, config=MIXTRAL)
    body = {"model": {"source": "local", "path": "model"}, "pruning": {"kind": "experts", "experts": 7}}
    response = client.post("/jobs", json={**body, "recovery": {"kind": "none"}})
    assert response.status_code == 202, response.text
    assert [stage["key"] for stage in response.json()["stages"]] == ["check", "prune", "benchmark", "report"]
    assert only(client, {**body, "scoring": {"criterion": "greedy"}})["pointer"] == "/scoring"
    assert only(client, {**body, "recovery": {"kind": "healing"}})["pointer"] == "/recovery"


def test_a_quantised_model_loses_blocks_and_halves_only(client: TestClient, model_root: Path) -> None:
    checkpoint(model_root, config={**LLAMA, "quantization_config": {"quant_method": "gptq", "bits": 4}})
    alone = {"recovery": {"kind": "none"}}
    assert client.post("/jobs", json={**local("model", drop=[3]), **alone}).status_code == 202
    trained = only(client, local("model", drop=[3]), "unsupported-model")
    assert trained["pointer"] == "/recovery/kind"
    assert "none" in trained["expected"]
    halves = {**local("model"), "pruning": {"kind": "sub_block", "drop": ["3.mlp"]}, **alone}
    assert client.post("/jobs", json=halves).status_code == 202
    narrow = {**local("model"), "pruning": {"kind": "flap", "ratio": 0.2}, **alone}
    assert only(client, narrow, "unsupported-model")["pointer"] == "/pruning/kind"
    again = {**local("model", drop=[3]), **alone, "quantise": [{"kind": "int8"}]}
    assert only(client, again, "unsupported-model")["pointer"] == "/quantise"


@pytest.mark.parametrize(
    ("settings", "problem", "words"),
    [
        ({"quant_method": "nonesuch", "bits": 4}, "unsupported-model", "names the method 'nonesuch', which"),
        ({"quant_method": "bitsandbytes"}, "bad-checkpoint", "does not say how many bits"),
        ({}, "bad-checkpoint", "names no `quant_method`"),
        ([1], "bad-checkpoint", "is no JSON object"),
    ],
)
def test_a_quantiser_that_nobody_can_follow(
    client: TestClient, model_root: Path, settings: Any, problem: str, words: str
) -> None:
    checkpoint(model_root, config={**LLAMA, "quantization_config": settings})
    error = only(client, {**local("model", drop=[3]), "recovery": {"kind": "none"}}, problem)
    assert error["pointer"] == "/model/path"
    assert error["value"] in (settings, "nonesuch")
    assert words in error["detail"]
    assert error["expected"]


def test_a_pruned_gguf_file_of_what_is_none(client: TestClient, model_root: Path) -> None:
    checkpoint(model_root)
    write_gguf(model_root / "m.gguf", 12)
    hub = {"source": "hub", "id": "a/b"}
    for model in (hub, {"source": "local", "path": "model"}):
        error = only(client, {"model": model, "pruning": {"kind": "depth", "blocks": 2, "gguf": True}})
        assert error["pointer"] == "/pruning/gguf"
    for kind in ({"kind": "sub_block", "units": 2}, {"kind": "flap", "ratio": 0.2}):
        body = {"model": {"source": "local", "path": "m.gguf"}, "pruning": {**kind, "gguf": True}}
        assert only(client, body)["pointer"] == "/pruning/gguf"
    assert client.post("/jobs", json=local("m.gguf", blocks=2, gguf=True)).status_code == 202


def test_halves_of_blocks_are_searched_in_the_prune_stage(client: TestClient, model_root: Path) -> None:
    checkpoint(model_root)
    for pruning in ({"units": 12, "plus": True}, {"ratio": 0.5}, {"drop": ["11.mlp", "0.attention"]}):
        body = {"model": {"source": "local", "path": "model"}, "pruning": {"kind": "sub_block", **pruning}}
        response = client.post("/jobs", json=body)
        assert response.status_code == 202, response.text
        assert [stage["key"] for stage in response.json()["stages"]] == [
            "check",
            "prune",
            "recover",
            "benchmark",
            "report",
        ]


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
