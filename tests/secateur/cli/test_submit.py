"""`secateur submit` and the flags that the catalogue makes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter
from typer.testing import Result

from app.api import example_errors, example_specs, examples
from app.api.example_estimates import ESTIMATE
from secateur.cli.spec_flags import merge, parse_model, parse_text, spec_flags
from secateur.contract.catalog import CRITERIA, PRUNERS, RECOVERIES
from secateur.contract.options.texts import Text
from secateur.contract.spec import CompressionSpec
from tests.fixtures.answers import JOB, Service, event, finished, stream

Run = Callable[..., Result]


def dry(run: Run, *arguments: str, input: str | None = None) -> dict[str, Any]:
    result = run("submit", *arguments, "--dry-run", input=input)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    CompressionSpec.model_validate(found)
    assert isinstance(found, dict)
    return found


def test_the_least_that_is_needed(run: Run) -> None:
    assert dry(run, "model.gguf", "--blocks", "6") == {
        "pruning": {"kind": "depth", "blocks": 6},
        "model": {"source": "local", "path": "model.gguf"},
    }


def test_flags_reach_every_depth(run: Run) -> None:
    found = dry(
        run,
        *("org/name", "--revision", "v1", "--ratio", "0.2", "--criterion", "taylor", "--no-plus"),
        *("--calibration-text", "news.txt@0:0.7", "--recovery-max-steps", "30", "--latency-output-tokens", "32,64"),
        *("--perplexity-texts", "ptb@test", "--perplexity-texts", "wikitext2"),
        *("--perplexity-texts", "self", "--perplexity-texts", "news.txt@0.7:1", "--no-samples"),
        *("--recovery-text", "upload:019ab8e2-3f40-7d21-8a55-6c1de0b7f913@:0.7"),
        *("--min-speedup", "1.2", "--label", "commit=abc", "--seed", "7"),
        *("--quantise", "int8", "--quantise", "int4:64", "--quantise", "gguf:Q4_0"),
    )
    assert found["quantise"] == [
        {"kind": "int8"},
        {"kind": "int4", "group_size": 64},
        {"kind": "gguf", "type": "Q4_0"},
    ]
    assert found["model"] == {"source": "hub", "id": "org/name", "revision": "v1"}
    assert found["scoring"]["calibration"]["text"] == {"source": "local", "path": "news.txt", "start": 0, "stop": 0.7}
    assert found["scoring"]["plus"] is False
    practice = {"source": "upload", "id": "019ab8e2-3f40-7d21-8a55-6c1de0b7f913", "start": 0, "stop": 0.7}
    assert found["recovery"] == {"kind": "distill", "max_steps": 30, "text": practice}
    assert found["benchmark"]["latency"]["output_tokens"] == [32, 64]
    assert [text["source"] for text in found["benchmark"]["perplexity"]["texts"]] == ["named", "named", "self", "local"]
    assert found["benchmark"]["perplexity"]["texts"][0] == {"source": "named", "name": "ptb", "split": "test"}
    assert found["benchmark"]["samples"] is None
    assert found["gates"] == {"min_speedup": 1.2}
    assert (found["labels"], found["seed"]) == ({"commit": "abc"}, 7)


def test_flags_go_on_top_of_a_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(example_specs.HUB_WITH_GATES))
    found = dry(run, "--spec", str(path), "--max-kl", "0.5")
    assert found == {**example_specs.HUB_WITH_GATES, "gates": {**example_specs.HUB_WITH_GATES["gates"], "max_kl": 0.5}}
    assert dry(run, "--spec", "-", input=path.read_text()) == example_specs.HUB_WITH_GATES


@pytest.mark.parametrize("arguments", [
    ("--blocks", "6"),
    ("m.gguf", "--revision", "v1"),
    ("m.gguf", "--label", "nameless"),
    ("m.gguf", "--calibration-text", "news.txt@half"),
    ("m.gguf", "--spec", "missing.json"),
])  # fmt: skip
def test_usage_errors(run: Run, arguments: tuple[str, ...]) -> None:
    assert run("submit", *arguments).exit_code == 2


def test_experts_of_a_mixture(run: Run) -> None:
    found = dry(run, "m", "--pruner", "experts", "--experts", "16", "--pruning-criterion", "frequency")
    assert found["pruning"] == {"kind": "experts", "experts": 16, "criterion": "frequency"}
    assert CompressionSpec.model_validate(found)


def test_a_draft_and_the_model_that_it_is_for(run: Run) -> None:
    found = dry(run, "org/small", "--blocks", "2", "--use", "draft", "--target-model", "org/large@v1")
    assert found["use"] == "draft"
    assert found["target_model"] == {"source": "hub", "id": "org/large", "revision": "v1"}
    flags = ("--target-model", "large.gguf", "--draft-tokens", "3", "--min-draft-speedup", "1.1")
    found = dry(run, "small.gguf", "--blocks", "2", "--use", "draft", *flags)
    assert found["target_model"] == {"source": "local", "path": "large.gguf"}
    assert found["benchmark"] == {"draft": {"tokens": 3}}
    assert found["gates"] == {"min_draft_speedup": 1.1}
    assert dry(run, "a/b", "--blocks", "2", "--use", "draft", "--target-model", "a/c", "--no-draft")["benchmark"] == {
        "draft": None
    }


def test_a_vocabulary(run: Run) -> None:
    found = dry(run, "m", "--pruner", "vocabulary", "--tokens", "24000", "--text", "news.txt@0:0.5")
    text = {"source": "local", "path": "news.txt", "start": 0.0, "stop": 0.5}
    assert found["pruning"] == {"kind": "vocabulary", "tokens": 24000, "text": text}
    assert CompressionSpec.model_validate(found).recovery.kind == "none"


def test_a_target(run: Run) -> None:
    found = dry(run, "m.gguf", "--target-parameters", "0.8")
    assert found["pruning"] == {"kind": "depth", "target": {"parameters": 0.8}}
    fast = dry(run, "m.gguf", "--target-speedup", "1.3", "--target-batch-size", "1")
    assert fast["pruning"]["target"] == {"speedup": 1.3, "batch_size": 1}
    bounded = dry(run, "m.gguf", "--constraints-max-kl", "0.3", "--maximise", "speedup")
    assert bounded["pruning"] == {"kind": "depth", "constraints": {"max_kl": 0.3}, "maximise": "speedup"}
    assert dry(run, "m.gguf", "--target-bytes", "4e8")["pruning"]["target"] == {"bytes": 4e8}


def test_joint_pruning(run: Run) -> None:
    flags = ("--pruner", "joint", "--target-speedup", "1.3", "--choices", "attention,block", "--protected", "0.mlp")
    found = dry(run, "m.gguf", *flags, "--pruning-evaluations", "50")
    wanted = {"choices": ["attention", "block"], "protected": ["0.mlp"], "evaluations": 50}
    assert found["pruning"] == {"kind": "joint", "target": {"speedup": 1.3}, **wanted}
    assert CompressionSpec.model_validate(found)


def test_halves_of_blocks(run: Run) -> None:
    flags = ("--pruner", "sub_block", "--units", "4", "--protected", "0.mlp", "--pruning-plus")
    found = dry(run, "m.gguf", *flags, "--pruning-calibration-samples", "5")
    wanted = {"units": 4, "protected": ["0.mlp"], "plus": True, "calibration": {"samples": 5}}
    assert found["pruning"] == {"kind": "sub_block", **wanted}
    named = dry(run, "m.gguf", "--pruner", "sub_block", "--drop", "3.attention,5.mlp")
    assert named["pruning"] == {"kind": "sub_block", "drop": ["3.attention", "5.mlp"]}
    assert CompressionSpec.model_validate(found)
    assert CompressionSpec.model_validate(named)


def test_prints_the_id_alone_on_stdout(service: Service, run: Run) -> None:
    service.answers["POST /jobs"] = httpx.Response(202, json=examples.JOB_QUEUED)
    result = run("submit", "m.gguf", "--blocks", "2", "--idempotency-key", "run-7", "--cancel-after", "2h")
    assert result.exit_code == 0
    assert result.stdout == f"{JOB}\n"
    assert service.body == {"pruning": {"kind": "depth", "blocks": 2}, "model": {"source": "local", "path": "m.gguf"}}
    submitted = service.requests[0]  # what comes after it asks how long the job may take
    headers = submitted.headers
    assert (headers["idempotency-key"], headers["cancel-after"]) == ("run-7", "2h")


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({}, "about 45 s, by what has run here"),
        ({"seconds": None, "rough_seconds": {"low": 200, "high": 800}}, "may take 3 to 13 min"),
        ({"seconds": None}, ""),
    ],
)
def test_it_says_how_long_the_job_may_take(service: Service, run: Run, found: dict[str, Any], words: str) -> None:
    service.answers["POST /jobs"] = httpx.Response(202, json=examples.JOB_QUEUED)
    service.answers["POST /estimates"] = {**ESTIMATE, **found}
    result = run("submit", "m.gguf", "--blocks", "6")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{JOB}\n"
    assert words in result.stderr
    assert ("take" in result.stderr) == bool(words)


def test_json_is_the_whole_job(service: Service, run: Run) -> None:
    service.answers["POST /jobs"] = httpx.Response(202, json=examples.JOB_QUEUED)
    service.answers["GET /job"] = finished("failed")
    service.answers["GET /events"] = stream(event(3, "state", state="failed"))
    assert json.loads(run("submit", "m.gguf", "--blocks", "2", "--json").stdout)["state"] == "queued"
    result = run("submit", "m.gguf", "--blocks", "2", "--json", "--watch")
    assert result.exit_code == 20
    assert json.loads(result.stdout)["state"] == "failed"


def test_a_refusal_names_the_field_and_is_usage(service: Service, run: Run) -> None:
    refusal = example_errors.SUBMIT_ERRORS[0].to_problem()
    service.answers["POST /jobs"] = httpx.Response(422, json=refusal)
    result = run("submit", "m.gguf", "--blocks", "2", "--criterion", "perplexty")
    assert result.exit_code == 2
    assert "/scoring/criterion" in result.stderr
    assert "did you mean 'perplexity'" in result.stderr


def test_watch_follows_to_the_end(service: Service, run: Run) -> None:
    service.answers["POST /jobs"] = httpx.Response(202, json=examples.JOB_QUEUED)
    service.answers["GET /job"] = finished("failed")
    service.answers["GET /events"] = stream(
        event(1, "state", "score", state="running"), event(3, "state", "score", state="failed")
    )
    result = run("submit", "m.gguf", "--blocks", "2", "--watch")
    assert result.exit_code == 20
    assert "score: failed in 2.0 s" in result.stderr


def test_every_method_of_the_catalogue_can_be_named() -> None:
    helps = {flag.name: flag.help for flag in spec_flags()}
    for name, rows in (("criterion", CRITERIA), ("pruner", PRUNERS), ("recovery", RECOVERIES)):
        assert all(row in helps[name] for row in rows)


def test_every_flag_is_documented_and_typed_once() -> None:
    flags = spec_flags()
    assert [flag.option for flag in flags if not flag.help] == []
    assert len({flag.option for flag in flags}) == len(flags)
    assert len({flag.path for flag in flags if flag.kind != "off"}) == len([f for f in flags if f.kind != "off"])


def test_every_plain_option_of_every_method_has_a_flag() -> None:
    paths = {flag.path for flag in spec_flags()}
    for section, rows in (("scoring", CRITERIA), ("pruning", PRUNERS), ("recovery", RECOVERIES)):
        for row in rows.values():
            for name, field in row.options.model_fields.items():
                if field.annotation in (int, float, bool, str):
                    assert (section, name) in paths


@pytest.mark.parametrize("text", [
    "self", "answers", "answers:prompts.txt@0:0.5", "news.txt", "a@b.txt@0.25:", "news.txt@:0.5", "hub:org/name",
    "hub:org/name,config=c,split=test,column=text,revision=main",
])  # fmt: skip
def test_the_short_forms_of_a_text_are_valid(text: str) -> None:
    TypeAdapter(Text).validate_python(parse_text(text))


@pytest.mark.parametrize("text", ["hub:org/name,splat=test", "news.txt@0.5", "news.txt@a:b"])
def test_a_short_form_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ValueError, match="'"):
        parse_text(text)


def test_the_model_is_hub_or_local_by_its_looks() -> None:
    assert parse_model("org/name", source=None, revision=None)["source"] == "hub"
    assert parse_model("org/name", source="local", revision=None)["source"] == "local"
    assert parse_model("./folder", source=None, revision=None)["source"] == "local"
    assert parse_model("x.gguf", source="hub", revision=None)["source"] == "hub"


def test_a_folder_that_exists_is_local(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse_model("org/name", source=None, revision=None) == {"source": "local", "path": "org/name"}
    assert parse_model("org/name", source="hub", revision=None)["source"] == "hub"
    assert parse_model("~/org", source=None, revision=None) == {"source": "local", "path": str(tmp_path / "org")}
    with pytest.raises(ValueError, match="hub or local"):
        parse_model("org/name", source="loca", revision=None)


def test_what_the_model_is_taken_for_is_told(run: Run) -> None:
    assert "org/name is read as a model of the hub" in run("submit", "org/name", "--blocks", "2", "--dry-run").stderr
    assert "./m is read as a local path" in run("submit", "./m", "--blocks", "2", "--dry-run").stderr
    told = run("submit", "m", "--source", "hub", "--blocks", "2", "--dry-run")
    assert told.exit_code == 0
    assert "is read as" not in told.stderr


@pytest.mark.parametrize(
    ("arguments", "pointer"),
    [
        ((), "/pruning"),
        (("--blocks", "2", "--ratio", "0.5"), "/pruning"),
        (("--blocks", "2", "--criterion", "magnitdue"), "/scoring/criterion"),
        (("--blocks", "2", "--recovery", "none", "--recovery-rank", "8"), "/recovery/rank"),
    ],
)
def test_a_dry_run_refuses_what_the_service_would(run: Run, arguments: tuple[str, ...], pointer: str) -> None:
    result = run("submit", "m.gguf", *arguments, "--dry-run")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert pointer in result.stderr


def test_help_has_the_default_of_each_method() -> None:
    helps = {flag.name: flag.help for flag in spec_flags()}
    rows = {name: row.options.model_fields["batch_size"].default for name, row in RECOVERIES.items()
            if "batch_size" in row.options.model_fields}  # fmt: skip
    assert len(set(rows.values())) > 1
    note = helps["recovery_batch_size"].rpartition("(default: ")[2].rstrip(").")
    told = {method: part.partition(" for ")[0] for part in note.split("; ")
            for method in part.partition(" for ")[2].split(", ")}  # fmt: skip
    assert told == {name: str(default) for name, default in rows.items()}
    assert helps["recovery_alpha"].endswith("(of lora, distill; default: 16).")
    assert not any("default: )" in text or "for none" in text for text in helps.values())


def test_merge_leaves_its_input_alone() -> None:
    spec: dict[str, Any] = {"recovery": {"kind": "none"}}
    assert merge(spec, {"recovery": "lora", "blocks": 2})["recovery"] == {"kind": "lora"}
    assert spec == {"recovery": {"kind": "none"}}
