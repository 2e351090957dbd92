"""The original's figures of an earlier job: reused where all is the same, measured anew where anything is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import TypeAdapter

from secateur.contract.measurements import Benchmarks
from secateur.contract.protocol import Runtime, StageInput, StageSpec
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_kinds import STAGE_KINDS
from workers.engine.benchmarks.perplexity import window_losses
from workers.engine.benchmarks.samples import write_samples
from workers.engine.model.block_model import BlockModel
from workers.stages import benchmark, benchmark_generation, benchmark_quality, prune
from workers.stages.context import StageContext
from workers.stages.known_figures import KnownFigures

SPEC: dict[str, Any] = {
    "model": {"source": "local", "path": "tiny"},
    "pruning": {"kind": "depth", "drop": [1]},
    "recovery": {"kind": "none"},
    "benchmark": {
        "latency": {"input_tokens": 4, "output_tokens": [4], "warmup": 0, "runs": 3},
        "perplexity": {"texts": [{"source": "local", "path": "words.txt"}], "tokens": 16, "windows": 4},
        "samples": {"prompts": ["The river"], "max_new_tokens": 3},
        "generation": {"prompts": 2, "checks": ["copying"], "max_new_tokens": 3},
    },
}


@pytest.fixture
def measure(
    tmp_path: Path, tiny_checkpoint: Callable[..., Path], text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Benchmarks, list[int]]]:
    """measure(job number, changes of `benchmark`, …) → the result, and the blocks of each model run for quality.

    The numbers of blocks tell the models apart: 3 for the original, 2 for the pruned one.
    """
    tiny_checkpoint(num_hidden_layers=3)
    asked: list[int] = []

    def counted_losses(model: BlockModel, *rest: Any, **more: Any) -> Any:
        asked.append(model.n_blocks)
        return window_losses(model, *rest, **more)

    def counted_samples(model: Any, *rest: Any, **more: Any) -> Any:
        asked.append(model.config.num_hidden_layers)
        return write_samples(model, *rest, **more)

    monkeypatch.setattr(benchmark_quality, "window_losses", counted_losses)
    monkeypatch.setattr(benchmark_generation, "write_samples", counted_samples)

    def run(number: int, changes: dict[str, Any] | None = None, **spec: Any) -> tuple[Benchmarks, list[int]]:
        asked.clear()
        body = {**SPEC, **spec, "benchmark": {**SPEC["benchmark"], **(changes or {})}}
        inputs: dict[str, StageInput] = {}
        result: Any = None
        for name, stage_run in (("prune", prune.run), ("benchmark", benchmark.run)):
            stage = StageSpec(
                job_id=UUID(int=number),
                key=name,
                kind=name,
                created_at=datetime(2026, 11, 24, tzinfo=UTC),
                spec=CompressionSpec.model_validate(body),
                work=tmp_path / str(number) / name,
                inputs=dict(inputs),
                runtime=Runtime(
                    cache=tmp_path / "cache",
                    model_roots=(tmp_path / "models",),
                    data_roots=(text_file.parent,),
                    device="cpu",
                    threads=1,
                ),
            )
            context = StageContext(stage, lambda event: None)
            context.out.mkdir(parents=True)
            result = stage_run(context)
            (context.out / STAGE_KINDS[name].file).write_text(result.model_dump_json())
            inputs[name] = StageInput(kind=name, folder=context.out)
        return result, list(asked)

    return run


def test_a_second_job_measures_the_variants_alone(measure: Callable[..., tuple[Benchmarks, list[int]]]) -> None:
    first, asked = measure(1)
    assert asked == [3, 3, 2, 2]  # perplexity and samples of each
    assert first.variants[0].reused == []
    second, asked = measure(2)
    assert asked == [2, 2]
    before, after = first.variants[0], second.variants[0]
    assert after.perplexity == before.perplexity
    assert after.samples == before.samples
    assert after.generation == before.generation
    assert second.variants[1].generation == first.variants[1].generation
    assert [(known.figure, known.job_id) for known in after.reused] == [
        ("perplexity", UUID(int=1)),
        ("samples", UUID(int=1)),
        ("generation", UUID(int=1)),
    ]
    assert after.latency != before.latency  # timed anew
    assert second.variants[1].fidelity == first.variants[1].fidelity
    note = next(note for note in second.notes if "Reused" in note)
    assert note.startswith(
        "Reused of the original: perplexity, samples, generation, as job 00000000-0000-0000-0000-000000000001"
    )


def test_it_can_be_turned_off(measure: Callable[..., tuple[Benchmarks, list[int]]], tmp_path: Path) -> None:
    assert measure(1, {"reuse_original": False})[1] == [3, 3, 2, 2]
    assert not (tmp_path / "cache" / "figures").exists()
    measure(2)
    found, asked = measure(3, {"reuse_original": False})
    assert asked == [3, 3, 2, 2]
    assert not any("reused" in note for note in found.notes)


@pytest.mark.thorough
def test_other_settings_are_other_figures(measure: Callable[..., tuple[Benchmarks, list[int]]]) -> None:
    measure(1)
    windows = {"perplexity": {**SPEC["benchmark"]["perplexity"], "windows": 5}}
    assert measure(2, windows)[1] == [3, 2, 2]  # the samples are the same
    assert measure(3, {"samples": {"prompts": ["The river"], "max_new_tokens": 4}})[1] == [3, 2, 2]
    assert measure(4, dtype="bfloat16")[1] == [3, 3, 2, 2]


def test_another_model_is_another_original(
    measure: Callable[..., tuple[Benchmarks, list[int]]], tiny_checkpoint: Callable[..., Path]
) -> None:
    measure(1)
    tiny_checkpoint(num_hidden_layers=3, seed=1)
    assert measure(2)[1] == [3, 3, 2, 2]


@pytest.mark.thorough
def test_a_broken_entry_is_measured_anew(measure: Callable[..., tuple[Benchmarks, list[int]]], tmp_path: Path) -> None:
    first, _ = measure(1)
    entries = sorted((tmp_path / "cache" / "figures").glob("*.json"))
    assert len(entries) == 3
    entries[0].write_bytes(entries[0].read_bytes()[:40])
    for entry in entries[1:]:
        entry.write_text(json.dumps({**json.loads(entry.read_text()), "figures": {"what": "else"}}))
    second, asked = measure(2)
    assert asked == [3, 3, 2, 2]
    assert second.variants[0].perplexity == first.variants[0].perplexity
    assert second.variants[0].generation == first.variants[0].generation
    assert measure(3)[1] == [2, 2]


def test_figures_that_turn_out_not_to_fit_are_replaced(tmp_path: Path) -> None:
    """As where the items of a task have changed on the hub."""
    kind = TypeAdapter(list[int])

    def known(number: int) -> KnownFigures:
        return KnownFigures(tmp_path, UUID(int=number), {"model": "m"})

    assert known(1).recall("tasks", {}, kind, lambda: [1]) == [1]
    second = known(2)
    assert second.recall("tasks", {}, kind, lambda: [2]) == [1]
    assert second.measure_anew("tasks", {}, kind, lambda: [3]) == [3]
    assert second.reused == []
    assert known(3).recall("tasks", {}, kind, lambda: [4]) == [3]
