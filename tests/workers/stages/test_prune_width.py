"""A job of width pruning through its stages: nothing is scored, and later stages take uneven widths as they are."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from app.domain.jobs import StageName, stages_of
from app.domain.protocol import Runtime, StageSpec
from app.domain.results import Benchmarks, Pruned, Recovered
from app.domain.spec import CompressionSpec
from workers.stages import benchmark, prune, recover, report
from workers.stages.context import RESULT_FILES, StageContext

CALIBRATION = {"samples": 4, "tokens": 16}
SPEC: dict[str, Any] = {
    "model": {"source": "local", "path": "tiny"},
    "recovery": {
        "kind": "lora",
        "batch_size": 4,
        "micro_batch_size": 4,
        "tokens": 16,
        "samples": 8,
        "max_steps": 2,
        "warmup_steps": 0,
    },
    "benchmark": {
        "latency": {"input_tokens": 4, "output_tokens": [4], "warmup": 0, "runs": 3},
        "perplexity": {"tokens": 16, "windows": 4},
        "samples": None,
    },
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    config = LlamaConfig(
        vocab_size=96,
        hidden_size=32,
        intermediate_size=96,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(tmp_path / "tiny")
    return tmp_path


def test_a_job_of_uneven_widths(model: Path) -> None:
    pruning = {"kind": "flap", "ratio": 0.2, "uniform": False, "calibration": CALIBRATION}
    spec = CompressionSpec.model_validate({**SPEC, "pruning": pruning})
    stages = stages_of(spec)
    assert stages == (StageName.PRUNE, StageName.RECOVER, StageName.BENCHMARK, StageName.REPORT)
    runs: dict[StageName, Any] = {
        StageName.PRUNE: prune.run,
        StageName.RECOVER: recover.run,
        StageName.BENCHMARK: benchmark.run,
        StageName.REPORT: report.run,
    }
    inputs: dict[StageName, Path] = {}
    results: dict[StageName, Any] = {}
    for name in stages:
        stage = StageSpec(
            job_id=UUID("0193a1b2-0000-7000-8000-000000000001"),
            stage=name,
            created_at=datetime(2026, 11, 24, tzinfo=UTC),
            spec=spec,
            work=model / name,
            inputs=dict(inputs),
            runtime=Runtime(cache=model / "cache", model_roots=(model,), device="cpu", threads=1),
        )
        context = StageContext(stage, lambda event: None)
        context.out.mkdir(parents=True)
        results[name] = runs[name](context)
        (context.out / RESULT_FILES[name]).write_text(results[name].model_dump_json())
        inputs[name] = context.out

    pruned: Pruned = results[StageName.PRUNE]
    assert pruned.kept == list(range(6))
    assert pruned.dropped == []
    assert len(pruned.widths) == 6
    assert pruned.calibration is not None
    assert pruned.calibration.samples == 4
    assert pruned.needs_loader
    assert abs(1 - pruned.parameters_after / pruned.parameters_before - 0.2) <= 0.01
    recovered: Recovered = results[StageName.RECOVER]
    assert recovered.steps == 2
    benchmarks: Benchmarks = results[StageName.BENCHMARK]
    assert [m.variant for m in benchmarks.variants] == ["original", "pruned", "recovered"]
    assert benchmarks.variants[1].fidelity[0].kl > 0
    for stage_name in (StageName.PRUNE, StageName.RECOVER):
        folder = inputs[stage_name] / "checkpoint"
        assert (folder / "README.md").is_file()
        assert (folder / "modeling_secateur.py").is_file()
    page = (inputs[StageName.REPORT] / "report.html").read_text()
    assert "eads and neurons removed in 6 blocks" in page
