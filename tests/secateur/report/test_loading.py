"""What loads a checkpoint is named with the checkpoint's own path, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest

from secateur.contract.report import Report
from secateur.contract.results import PrunedFile
from secateur.report.loading import Way, ways_to_load


def ways(report: Report, *, recovered: bool = True, **changes: Any) -> dict[str, Way]:
    pruned = report.pruned.model_copy(update=changes)
    return {way.key: way for way in ways_to_load(report.job_id, pruned, report.recovered if recovered else None)}


@pytest.mark.parametrize(("recovered", "stage"), [(True, "recover"), (False, "prune")])
def test_all_ways_lead_to_the_model_that_is_handed_out(report: Report, recovered: bool, stage: str) -> None:
    found = ways(report, recovered=recovered)
    assert list(found) == ["download", "transformers", "vllm", "llama"]
    assert found["download"].code == f"secateur download {report.job_id} result --prefix {stage}/\n"
    assert all(f"result/{stage}/checkpoint" in way.code for key, way in found.items() if key != "download")
    compile(found["transformers"].code, "snippet", "exec")


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
