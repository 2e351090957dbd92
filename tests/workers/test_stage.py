"""The stage program itself, run as the supervisor runs it: processes, pipes, kills."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from secateur.contract.measurements import Benchmarks
from secateur.contract.protocol import stage_event
from secateur.contract.results import Pruned, Recovered, Scored
from secateur.contract.stage_kinds import PRUNE, STAGE_KINDS
from tests.fixtures.stage_runner import SPEC, TEXT, Runner
from workers import stage as stage_program
from workers.launch.fork_server import ForkServer
from workers.stages.context import StageContext


def parts_of(events: list[Any]) -> list[str]:
    """The parts of a stage that has succeeded, in the order in which they were over."""
    parts = [event for event in events if event.type == "part"]
    over = [part.name for part in parts if part.state == "succeeded"]
    assert sorted(part.name for part in parts if part.state == "began") == sorted(over)
    assert [part.at for part in parts] == sorted(part.at for part in parts)
    return over


@pytest.mark.thorough
def test_a_job_runs_stage_by_stage(runner: Runner) -> None:
    events = runner.run("score")
    assert {event.unit for event in events if event.type == "progress"} != set()
    assert parts_of(events) == ["open the model", "calibration text", "score the blocks"]
    scores = Scored.model_validate(events[-1].data)
    assert len(scores.blocks) == 10
    assert scores.calibration is not None
    assert (scores.calibration.samples, scores.calibration.tokens) == (4, 32)

    pruned = Pruned.model_validate(runner.result("prune"))
    assert pruned.protected == [0, 1, 2, 3, 8, 9]
    assert pruned.dropped == sorted([block for block in scores.order if block not in pruned.protected][:2])
    assert pruned.parameters_after < pruned.parameters_before

    recovered = Recovered.model_validate(runner.result("recover"))
    assert recovered.steps == 12
    assert recovered.tokens == 12 * 4 * 32
    assert recovered.curve[-1].loss < recovered.curve[0].loss
    assert recovered.schedule is not None
    assert (recovered.schedule.steps, recovered.schedule.warmup_steps) == (12, 2)
    assert recovered.schedule.reached == recovered.schedule.learning_rate == 0.005
    assert recovered.resumed_from == []
    files = {
        path.relative_to(runner.inputs["recover"]).as_posix() for path in Path(runner.inputs["recover"]).rglob("*")
    }
    assert {"checkpoint/model.safetensors", "checkpoint/tokenizer.json", "adapter/adapter_model.safetensors"} <= files
    for stage in ("prune", "recover"):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            Path(runner.inputs[stage]) / "checkpoint", output_loading_info=True
        )
        assert not loaded[1]["missing_keys"]
        assert not loaded[1]["unexpected_keys"]
        assert loaded[0].config.num_hidden_layers == 8

    events = runner.run("benchmark")
    assert parts_of(events) == ["open the model", "memory", "quality", "speed"]
    found = Benchmarks.model_validate(events[-1].data)
    assert [variant.variant for variant in found.variants] == ["original", "pruned", "recovered"]
    original, cut, trained = found.variants
    assert (original.blocks, cut.blocks, trained.blocks) == (10, 8, 8)
    assert cut.bytes_on_disk == trained.bytes_on_disk < original.bytes_on_disk
    assert trained.perplexity[0].value < cut.perplexity[0].value
    assert original.perplexity[0].protocol == "windows of 32 tokens, no overlap, 31 predicted in each, BOS on none"
    assert original.fidelity == []
    assert cut.fidelity[0].kl > 0
    assert [sample.prompt for sample in cut.samples] == ["The river", "A stone"]
    assert [score.check for score in cut.generation] == ["all", "arithmetic", "copying"]
    assert all(variant.memory is not None and variant.latency for variant in found.variants)
    assert not any("overlap" in note for note in found.notes)


@pytest.mark.thorough
def test_with_the_default_texts_no_data_set_is_needed(runner: Runner) -> None:
    generated = {"source": "self"}
    spec = {
        **SPEC,
        "scoring": {"criterion": "taylor", "calibration": {"samples": 3, "tokens": 16}},
        "recovery": {**SPEC["recovery"], "text": generated, "samples": 8, "warmup_steps": 0},
        "benchmark": {
            "latency": None,
            "perplexity": {"windows": 3, "tokens": 16},
            "samples": None,
            "generation": None,
        },
    }
    shas = []
    scores = runner.result("score", spec=spec)
    shas.append(scores["calibration"]["sha256"])
    runner.result("prune", spec=spec)
    recovered = runner.result("recover", spec=spec)
    shas.append(recovered["text"]["sha256"])
    found = runner.result("benchmark", spec=spec)
    shas.append(found["variants"][0]["perplexity"][0]["text"]["sha256"])
    assert len(set(shas)) == 3
    assert "BOS on each" in found["variants"][0]["perplexity"][0]["protocol"]
    assert found["variants"][0]["latency"] == []


@pytest.mark.thorough
def test_the_same_job_gives_the_same_bits(runner: Runner) -> None:
    def run(attempt: str) -> tuple[dict[str, Any], bytes, bytes]:
        scores = runner.result("score", work=f"score-{attempt}")
        runner.result("prune", work=f"prune-{attempt}")
        runner.result("recover", work=f"recover-{attempt}")
        pruned, recovered = (
            (Path(runner.inputs[stage]) / "checkpoint" / "model.safetensors").read_bytes()
            for stage in ("prune", "recover")
        )
        return {"blocks": scores["blocks"], "order": scores["order"]}, pruned, recovered

    assert run("a") == run("b")


def test_perplexity_by_two_protocols(runner: Runner) -> None:
    options = {"texts": [{**TEXT, "start": 0.6, "stop": 1.0}], "tokens": 32, "windows": 9}
    spec = {
        **SPEC,
        "pruning": {"kind": "depth", "drop": [4]},
        "recovery": {"kind": "none"},
        "benchmark": {
            "latency": None,
            "samples": None,
            "generation": None,
            "perplexity": {**options, "stride": 8, "bos": "each"},
        },
    }
    runner.run("prune", spec)
    original, pruned = runner.result("benchmark", spec=spec)["variants"]
    (found,) = original["perplexity"]
    assert found["protocol"] == "windows of 32 tokens, stride 8, each token predicted once, BOS on each"
    assert (found["text"]["samples"], found["text"]["tokens"]) == (9, 32)
    assert pruned["fidelity"][0]["text"] == found["text"]


def test_blocks_named_in_the_spec_need_no_scores(runner: Runner) -> None:
    pruned = runner.result("prune", spec={**SPEC, "pruning": {"kind": "depth", "drop": [7, 2]}})
    assert pruned["dropped"] == [2, 7]


def test_more_blocks_than_may_go_are_refused_where_they_are_chosen(runner: Runner) -> None:
    spec = {**SPEC, "pruning": {"kind": "depth", "blocks": 5}}
    assert len(runner.result("score", spec=spec)["blocks"]) == 10  # they serve a job that asks for less as well
    problem = runner.run("prune", spec=spec)[-1].problem
    assert problem["errors"][0]["pointer"] == "/pruning/blocks"
    assert 'of which the "+" rule keeps 6' in problem["detail"]


def test_scores_of_an_older_version_are_read(runner: Runner) -> None:
    """It wrote the choice beside them, and a job that it began goes on."""
    order = runner.result("score")["order"]
    file = Path(runner.inputs["score"]) / "scores.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "drop": [0], "protected": []}))
    kept = {0, 1, 2, 3, 8, 9}
    assert runner.result("prune")["dropped"] == sorted([block for block in order if block not in kept][:2])


@pytest.mark.parametrize(
    ("change", "pointer", "says"),
    [
        (
            {"pruning": {"kind": "depth", "blocks": 5}, "scoring": {**SPEC["scoring"], "criterion": "greedy"}},
            "/pruning/blocks",
            'of which the "+" rule keeps 6',
        ),
        (
            {"scoring": {"criterion": "perplexity", "calibration": {"text": TEXT, "samples": 9999}}},
            "/scoring/calibration",
            "9,999 samples of 128 tokens need 1,279,872",
        ),
        (
            {"scoring": {"criterion": "taylor", "calibration": {"text": {"source": "local", "path": "../x"}}}},
            "/scoring/calibration/text/path",
            "no text file",
        ),
    ],
)
def test_what_a_user_got_wrong_is_a_problem_with_its_field(
    runner: Runner, change: dict[str, Any], pointer: str, says: str
) -> None:
    events = runner.run("score", spec={**SPEC, **change})
    problem = events[-1].problem
    assert problem["status"] == 422
    assert problem["errors"][0]["pointer"] == pointer
    assert says in problem["detail"]
    assert not any(event.type == "log" and event.level == "error" for event in events)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            ZeroDivisionError("division by zero\nsecond line"),
            "did not foresee this error (ZeroDivisionError: division by zero)",
        ),
        (MemoryError(), "ran out of memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), "allocate 2.00 GiB"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate"), "ran out of memory"),
        (torch.AcceleratorError("CUDA error: an illegal memory access\nsecond line"), "GPU or its driver failed: CUDA"),
        (OSError(28, "No space left on device"), "disk is full"),
        (KeyboardInterrupt(), "did not foresee this error (KeyboardInterrupt)"),
    ],
)
def test_what_nobody_foresaw_is_a_problem_without_a_traceback_and_a_log_with_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, says: str
) -> None:
    def run(context: StageContext) -> None:
        raise error

    monkeypatch.setitem(sys.modules, "stage_that_breaks", types.SimpleNamespace(run=run))
    monkeypatch.setitem(STAGE_KINDS, "prune", replace(PRUNE, module="stage_that_breaks"))
    monkeypatch.setattr(stage_program, "_quiet_libraries", lambda pipe: contextlib.nullcontext())
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    runner = Runner(ForkServer("workers.stage:main", []), tmp_path, tmp_path, tmp_path)
    read, write = os.pipe()
    status = stage_program.main(runner.spec_file("prune", SPEC), write)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        log, problem = [stage_event.validate_json(line) for line in pipe]
    assert status == 1
    assert log.type == "log"
    assert log.level == "error"
    assert "Traceback" in log.message
    assert problem.type == "error"
    assert problem.problem["title"] == ("Device failed" if "GPU" in says else "Stage failed")
    assert says in problem.problem["detail"]
    assert "Traceback" not in json.dumps(problem.problem)
    assert "second line" not in json.dumps(problem.problem)


def test_a_model_that_changed_in_the_middle_of_a_job_ends_it(runner: Runner) -> None:
    runner.run("score")
    config = Path(runner.runtime["model_roots"][0]) / "tiny" / "config.json"
    config.write_text(config.read_text().replace('"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-05'))
    events = runner.run("prune")
    assert "has changed since this job began" in events[-1].problem["detail"]


def test_sigterm_ends_a_stage_at_once(runner: Runner) -> None:
    spec = {**SPEC, "recovery": {**SPEC["recovery"], "max_steps": 100_000, "epochs": 1000}}
    runner.run("score", spec)
    runner.run("prune", spec)
    process = runner.start("recover", spec)
    process.until(lambda event: event.type == "metrics")
    sent = time.monotonic()
    process.send(signal.SIGTERM)
    assert process.wait() == -signal.SIGTERM
    assert time.monotonic() - sent < 3  # what a user who cancels is promised


def test_a_stage_that_nobody_listens_to_ends(runner: Runner) -> None:
    spec = {**SPEC, "recovery": {**SPEC["recovery"], "max_steps": 100_000, "epochs": 1000}}
    runner.run("score", spec)
    runner.run("prune", spec)
    process = runner.start("recover", spec)
    process.until(lambda event: event.type == "metrics")
    os.close(process.process.events)
    assert process.wait() in (3, -signal.SIGPIPE)  # by its own check, or by the signal where that is not ignored


@pytest.mark.thorough
def test_by_hand_events_are_printed_and_nothing_else_is(runner: Runner) -> None:
    spec = runner.spec_file("prune", {**SPEC, "pruning": {"kind": "depth", "drop": [4]}})
    done = subprocess.run([sys.executable, "-m", "workers.stage", str(spec)], capture_output=True, check=True)
    events = [stage_event.validate_json(line) for line in done.stdout.splitlines()]
    assert events[-1].type == "result"
    assert {event.type for event in events} <= {"progress", "log", "part", "result"}


def test_by_hand_an_unreadable_spec_is_a_problem_as_well(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text('{"stage": "score"}')
    command = [sys.executable, "-m", "workers.stage", str(tmp_path / "spec.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    (line,) = done.stdout.splitlines()
    event = json.loads(line)
    assert done.returncode == 1
    assert event["type"] == "error"
    assert "/job_id" in {error["pointer"] for error in event["problem"]["errors"]}
