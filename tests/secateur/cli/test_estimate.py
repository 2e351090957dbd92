"""`secateur estimate`, and the estimate beside a dry run."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
from typer.testing import Result

from app.api import example_errors
from app.api.example_estimates import ESTIMATE
from tests.fixtures.answers import Service

Run = Callable[..., Result]


def test_it_takes_the_options_of_submit(service: Service, run: Run) -> None:
    service.answers["POST /estimates"] = ESTIMATE
    result = run("estimate", "m.gguf", "--blocks", "6", "--recovery", "none", "--latency-runs", "5")
    assert result.exit_code == 0, result.output
    assert service.body == {
        "model": {"source": "local", "path": "m.gguf"},
        "pruning": {"kind": "depth", "blocks": 6},
        "recovery": {"kind": "none"},
        "benchmark": {"latency": {"runs": 5}},
    }
    for words in ("134,515,008", "113,274,432", "1.19×", "538 MB", "31 s", "45 s", "1.58 GB", "AMD EPYC"):
        assert words in result.stdout


def test_what_is_not_known_is_told_as_unknown(service: Service, run: Run) -> None:
    stages = [{**ESTIMATE["stages"][0], "seconds": None, "seconds_basis": None, "memory_bytes": None}]
    nothing = dict.fromkeys(("original", "pruned", "speedup", "seconds", "memory_bytes", "disk_bytes"))
    notes = ["The model's sizes are not known: the hub did not answer."]
    service.answers["POST /estimates"] = {**ESTIMATE, **nothing, "stages": stages, "notes": notes}
    result = run("estimate", "org/name", "--blocks", "6")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("unknown") >= 12
    assert "the hub did not answer" in result.stdout


def test_quantised_models_have_their_bytes(service: Service, run: Run) -> None:
    known, unknown = {"variant": "gguf-q4_k_m", "bytes": 89_167_104}, {"variant": "int8", "bytes": None}
    service.answers["POST /estimates"] = {**ESTIMATE, "quantised": [known, unknown]}
    lines = run("estimate", "m.gguf", "--blocks", "6").stdout.splitlines()
    assert [line.split() for line in lines if "gguf" in line or "int8" in line] == [
        ["gguf-q4_k_m", "89.2", "MB"],
        ["int8", "unknown"],
    ]


def test_a_rough_time_is_told_as_a_span_with_what_it_rests_on(service: Service, run: Run) -> None:
    rough = {"seconds": None, "seconds_basis": None, "rough_seconds": {"low": 45.0, "high": 180.0}}
    stages = [ESTIMATE["stages"][0], {**ESTIMATE["stages"][1], **rough}]
    whole = {"seconds": None, "rough_seconds": {"low": 53.1, "high": 188.1}}
    service.answers["POST /estimates"] = {**ESTIMATE, **whole, "stages": stages}
    told = run("estimate", "m.gguf", "--blocks", "6").stdout
    assert "45 s to 3 min" in told
    assert "53 s to 3 min" in told
    assert "8.1 s" in told
    assert "arithmetic speed" in told


def test_what_is_not_certain_is_told_with_its_spread(service: Service, run: Run) -> None:
    service.answers["POST /estimates"] = {
        **ESTIMATE,
        "pruned": {**ESTIMATE["pruned"], "exact": False, "spread": 1_234_567},
    }
    assert "113,274,432 ± 1,234,567" in run("estimate", "m.gguf", "--blocks", "6").stdout


def test_json(service: Service, run: Run) -> None:
    service.answers["POST /estimates"] = ESTIMATE
    assert json.loads(run("estimate", "m.gguf", "--blocks", "6", "--json").stdout) == ESTIMATE


def test_a_refusal_names_the_field(service: Service, run: Run) -> None:
    problem = example_errors.SUBMIT_ERRORS[1].to_problem()
    service.answers["POST /estimates"] = httpx.Response(422, json=problem)
    result = run("estimate", "m.gguf", "--blocks", "28")
    assert result.exit_code == 2
    assert "/pruning/blocks" in result.stderr


def test_a_dry_run_prints_the_spec_with_the_estimate_beside(service: Service, run: Run) -> None:
    service.answers["POST /estimates"] = ESTIMATE
    result = run("submit", "m.gguf", "--blocks", "6", "--dry-run")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == service.body
    assert "1.19×" in result.stderr
    assert [request.url.path for request in service.requests] == ["/estimates"]


def test_a_dry_run_needs_no_service(service: Service, run: Run) -> None:
    result = run("submit", "m.gguf", "--blocks", "6", "--dry-run")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["pruning"] == {"kind": "depth", "blocks": 6}
    assert "no estimate" in result.stderr
    assert len(service.requests) == 1  # it does not wait for one to come


def test_a_dry_run_tells_what_the_service_would_refuse(service: Service, run: Run) -> None:
    service.answers["POST /estimates"] = httpx.Response(422, json=example_errors.SUBMIT_ERRORS[1].to_problem())
    result = run("submit", "m.gguf", "--blocks", "28", "--dry-run")
    assert result.exit_code == 2
    assert "/pruning/blocks" in result.stderr
