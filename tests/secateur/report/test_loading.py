"""What loads a checkpoint is named with the checkpoint's own path, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest

from secateur.contract.report import Report
from secateur.contract.results import PrunedFile
from secateur.report.loading import ways_to_load
from secateur.report.way import Way
from tests.fixtures.reports import engine_cell, interval


def ways(
    report: Report, *, recovered: bool = True, spec: dict[str, Any] | None = None, **changes: Any
) -> dict[str, Way]:
    pruned = report.pruned.model_copy(update=changes)
    done = report.recovered if recovered else None
    return {way.key: way for way in ways_to_load(report.job_id, pruned, done, spec=spec or report.spec)}


def test_what_the_job_has_timed_it_under_is_said(report: Report) -> None:
    cells = {
        "llama_cpp": [engine_cell(90.0, speedup=interval(1.3), build="llama-bench, build 5163 (8cf427ff)")],
        "vllm": [engine_cell(300.0, speedup=interval(1.2), build="vLLM 0.99.0")],
    }
    file = PrunedFile(path="m.gguf", bytes_before=2, bytes_after=1)
    pruned = report.pruned.model_copy(update={"gguf": file})
    measured = report.benchmarks.variants[1]
    notes = {
        way.key: way.note for way in ways_to_load(report.job_id, pruned, None, spec=report.spec, measured=measured)
    }
    assert notes["vllm"] == notes["llama"] == "This job did not run it."
    measured = measured.model_copy(update=cells)
    notes = {
        way.key: way.note for way in ways_to_load(report.job_id, pruned, None, spec=report.spec, measured=measured)
    }
    assert notes["llama"] == "This job timed it under llama-bench, build 5163 (8cf427ff)."
    assert notes["vllm"] == "This job timed it under vLLM 0.99.0."


@pytest.mark.parametrize(("recovered", "stage"), [(True, "recover"), (False, "prune")])
def test_all_ways_lead_to_the_model_that_is_handed_out(report: Report, recovered: bool, stage: str) -> None:
    found = ways(report, recovered=recovered)
    assert list(found) == ["download", "transformers", "vllm", "llama"]
    assert found["download"].code == f"secateur download {report.job_id} result --prefix {stage}/\n"
    assert all(f"result/{stage}/checkpoint" in way.code for key, way in found.items() if key != "download")
    compile(found["transformers"].code, "snippet", "exec")


@pytest.mark.parametrize(("recovered", "stage"), [(True, "recover-2"), (False, "prune-2")])
def test_of_a_second_round_they_lead_to_that(report: Report, recovered: bool, stage: str) -> None:
    file = PrunedFile(path="m.gguf", bytes_before=2, bytes_after=1)
    pruned, done = report.pruned.model_copy(update={"gguf": file}), report.recovered if recovered else None
    for way in ways_to_load(report.job_id, pruned, done, spec=report.spec, number=2):
        assert f" {stage}/" in way.code or f"result/{stage}/" in way.code


def test_a_gguf_file_is_run_as_it_is(report: Report) -> None:
    file = PrunedFile(path="it's.gguf", bytes_before=2, bytes_after=1)
    found = ways(report, recovered=False, gguf=file)
    assert found["llama"].code == "llama-cli -m 'result/prune/it'\"'\"'s.gguf'\n"


def test_what_only_its_loader_can_load(report: Report) -> None:
    found = ways(report, needs_loader=True)
    assert list(found) == ["download", "transformers"]
    assert "from modeling_secateur import load" in found["transformers"].code
    decilm = ways(report, needs_loader=True, decilm=True)
    assert list(decilm) == ["download", "transformers", "vllm"]
    assert "trust_remote_code=True" in decilm["transformers"].code
    for way in (found, decilm):
        compile(way["transformers"].code, "snippet", "exec")
