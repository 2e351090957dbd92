"""A model of few positions: the default lengths are cut with a word, and others are refused by the check."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest

from secateur.contract.errors import InvalidInput
from secateur.contract.protocol import ProgressEvent, Runtime, StageEvent, StageInput, StageSpec
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_kinds import STAGE_KINDS
from tests.fixtures.whole_job import Job
from workers.engine.benchmarks.compiling import NotCompiled
from workers.engine.benchmarks.latency import time_cell
from workers.stages import benchmark, benchmark_speed, check, prune
from workers.stages.context import StageContext

TEXT = {"source": "local", "path": "words.txt"}
SPEC: dict[str, Any] = {
    "model": {"source": "local", "path": "tiny"},
    "pruning": {"kind": "depth", "drop": [1]},
    "recovery": {"kind": "none"},
    "benchmark": {
        "latency": {"warmup": 0, "runs": 3},
        "perplexity": {"texts": [TEXT], "tokens": 16, "windows": 4},
        "samples": {"prompts": ["The river"]},
        "generation": {"prompts": 1},
        "reuse_original": False,
    },
}
STAGES: dict[str, ModuleType] = {
    "check": check,
    "prune": prune,
    "benchmark": benchmark,
}


@pytest.fixture
def run(tmp_path: Path, tiny_checkpoint: Callable[..., Path], text_file: Path) -> Callable[..., Any]:
    """run(*stages, **benchmark) → the last one's result, on a model that holds 40 tokens."""
    tiny_checkpoint(num_hidden_layers=3, max_position_embeddings=40)

    def stages(*names: str, **changes: Any) -> Any:
        inputs: dict[str, StageInput] = {}
        result: Any = None
        for name in names:
            stage = StageSpec(
                job_id=UUID(int=1),
                key=name,
                kind=name,
                created_at=datetime(2026, 11, 24, tzinfo=UTC),
                spec=CompressionSpec.model_validate({**SPEC, "benchmark": {**SPEC["benchmark"], **changes}}),
                work=tmp_path / name,
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
            context.out.mkdir(parents=True, exist_ok=True)
            result = STAGES[name].run(context)
            (context.out / STAGE_KINDS[name].file).write_text(result.model_dump_json())
            inputs[name] = StageInput(kind=name, folder=context.out)
        return result

    return stages


def test_the_default_lengths_are_cut_and_a_note_says_so(run: Callable[..., Any]) -> None:
    run("check")
    found = run("prune", "benchmark")
    (cell,) = found.variants[1].latency
    assert (cell.input_tokens, cell.output_tokens) == (12, 28)
    assert "The model holds 40 tokens, so 28 are generated" in " ".join(found.notes)
    assert "so samples have 20 new ones and not the usual 48" in " ".join(found.notes)
    assert "No generation checks were made. Their prompts have up to" in " ".join(found.notes)
    assert "more than the 40 that the model holds" in " ".join(found.notes)
    assert found.variants[1].generation == []


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"latency": {"output_tokens": [8, 29]}}, "/benchmark/latency/output_tokens/1"),
        ({"latency": {"input_tokens": 39, "output_tokens": [8]}}, "/benchmark/latency/input_tokens"),
        ({"samples": {"max_new_tokens": 40}}, "/benchmark/samples/max_new_tokens"),
        ({"samples": {"prompts": ["river", "river " * 60], "max_new_tokens": 4}}, "/benchmark/samples/prompts/1"),
        ({"perplexity": {"texts": [TEXT], "tokens": 41}}, "/benchmark/perplexity/tokens"),
    ],
)
def test_what_was_asked_for_is_refused_before_anything_is_measured(
    run: Callable[..., Any], changes: dict[str, Any], pointer: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        run("check", **changes)
    assert [error.pointer for error in caught.value.errors] == [pointer]


def test_what_cannot_be_compiled_is_timed_as_it_is_and_said(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def refusing(models: Any, cell: Any, **more: Any) -> Any:
        asked.append(cell.mode.compiled)
        if cell.mode.compiled:
            raise NotCompiled("the pruned model: no")
        return time_cell(models, cell, **more)

    monkeypatch.setattr(benchmark_speed, "time_cell", refusing)
    latency = {"compile": True, "static_cache": True, "output_tokens": [4], "warmup": 0, "runs": 3}
    found = run(
        "prune",
        "benchmark",
        latency=latency,
        samples=None,
        generation=None,
        perplexity=None,
        fidelity={"enabled": False},
    )
    assert asked == [True, False]
    assert not any(cell.compiled for variant in found.variants for cell in variant.latency)
    assert "all models were timed without torch.compile. What stood against it, the pruned model: no." in found.notes[0]


@pytest.mark.parametrize("place", ["measure_memory", "time_cell"])
def test_what_a_library_raises_while_timing_is_put_to_the_latency(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise TypeError("no cache of that kind")

    monkeypatch.setattr(benchmark_speed, place, broken)
    with pytest.raises(InvalidInput, match="no cache of that kind") as caught:
        run("prune", "benchmark", samples=None)
    assert caught.value.errors[0].pointer == "/benchmark/latency"


def test_progress_of_the_timing_is_over_all_cells(tiny_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    """While a cell is compiled nothing is told, and what was told last must not be that all is done."""
    tiny_checkpoint()
    benchmark = {
        "latency": {"batch_sizes": [1, 2], "input_tokens": 4, "output_tokens": [2, 3], "warmup": 1, "runs": 3},
        "perplexity": None,
        "samples": None,
        "generation": None,
        "fidelity": {"enabled": False},
    }
    events: list[StageEvent] = []
    job = Job(tmp_path / "models", CompressionSpec.model_validate({**SPEC, "benchmark": benchmark}), events=events)
    for name in ("prune", "benchmark"):
        job.run(name)
    told = [
        (event.done, event.total) for event in events if isinstance(event, ProgressEvent) and event.unit == "rounds"
    ]
    assert told[0] == (0, 16)
    assert told[-1] == (16, 16)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert {total for _, total in told} == {16}
