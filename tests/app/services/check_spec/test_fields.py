"""A bad submission is refused with the field, the value and what is expected, before anything is queued."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.fixtures.model_folders import LLAMA, checkpoint, local
from tests.fixtures.refusals import errors, only
from tests.fixtures.small_files import write_gguf

MIXTRAL = {**LLAMA, "model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_local_experts": 8}


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
        "/recovery/text/source": ("hubb", "one of self, answers, named, hub, local, upload, blend"),
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


@pytest.mark.parametrize("path", ["/jobs", "/estimates"])
@pytest.mark.parametrize(
    ("character", "says"), [("\\u0000", "a NUL character"), ("\\udc80", "half of a surrogate pair")]
)
def test_text_that_nobody_can_write(
    client: TestClient, spec: dict[str, Any], path: str, character: str, says: str
) -> None:
    """Also where a field takes any text; `column` is one."""
    hub = {"source": "hub", "id": "a/b", "column": "?"}
    body = {**spec, "recovery": {"kind": "lora", "text": {"source": "blend", "parts": [{"text": hub}] * 2}}}
    text = json.dumps(body).replace('"?"', f'"{character}"')
    response = client.post(path, content=text, headers={"content-type": "application/json"})
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert error["pointer"] == "/recovery/text/parts/0/text/column"
    assert says in error["detail"]
    assert error["expected"]


@pytest.mark.parametrize("name", ["/etc", "../../etc", "json", "a/b/c", "a/..", "hf://datasets/a/b", "a/b\n", "~/b"])
def test_a_hub_data_set_is_named_with_its_owner(client: TestClient, spec: dict[str, Any], name: str) -> None:
    """Anything else is a folder of the worker to the hub's client, or a reader of files that are there."""
    text = {"source": "hub", "id": name, "revision": "a" * 40}
    assert only(client, {**spec, "recovery": {"kind": "lora", "text": text}})["pointer"] == "/recovery/text/id"


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


WORDS = {"source": "named", "name": "wikitext2"}


@pytest.mark.parametrize(
    ("pruning", "more", "pointer"),
    [
        ({"tokens": 128}, {}, "/pruning/tokens"),
        ({"tokens": 0}, {}, "/pruning/tokens"),
        ({"tokens": 64, "text": None}, {}, "/pruning/text"),
        ({"tokens": 64, "text": {"source": "self"}}, {}, "/pruning/text/source"),
        ({"tokens": 64, "ratio": 0.2}, {}, "/pruning/ratio"),
        ({"tokens": 64, "blocks": 2}, {}, "/pruning/blocks"),
        ({"tokens": 64}, {"recovery": {"kind": "lora"}}, "/recovery"),
        ({"tokens": 64}, {"scoring": {"criterion": "greedy"}}, "/scoring"),
        ({"tokens": 64}, {"use": "draft", "target_model": {"source": "hub", "id": "a/b"}}, "/pruning/kind"),
        ({"tokens": 64}, {"preset": "quick"}, "/preset"),
        ({"tokens": 64}, {"gates": {"max_kl": 1}}, "/gates/max_kl"),
        ({"tokens": 64}, {"gates": {"max_bits_per_byte_rise": 1}, "benchmark": {"perplexity": None}}, None),
    ],
)
def test_a_vocabulary_that_cannot_be_pruned(
    client: TestClient, model_root: Path, pruning: dict[str, Any], more: dict[str, Any], pointer: str | None
) -> None:
    checkpoint(model_root, config={**LLAMA, "vocab_size": 128})
    body = {
        "model": {"source": "local", "path": "model"},
        "pruning": {"kind": "vocabulary", "text": WORDS, **pruning},
        **more,
    }
    assert only(client, body)["pointer"] == (pointer or "/gates/max_bits_per_byte_rise")


def test_no_recovery_is_meant_where_none_is_named(client: TestClient, model_root: Path) -> None:
    checkpoint(model_root, config={**LLAMA, "vocab_size": 128})
    body = {"model": {"source": "local", "path": "model"}}
    response = client.post("/jobs", json={**body, "pruning": {"kind": "vocabulary", "tokens": 64, "text": WORDS}})
    assert response.status_code == 202, response.text
    assert response.json()["spec"]["recovery"] == {"kind": "none"}
    assert [stage["key"] for stage in response.json()["stages"]] == ["check", "prune", "benchmark", "report"]


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
