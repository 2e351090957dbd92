"""The stage program itself, run as the supervisor runs it: processes, pipes, kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from app.domain.jobs import StageName
from app.domain.protocol import stage_event
from app.domain.results import Benchmarks, Pruned, Recovered, Scores
from workers.stages.context import RESULT_FILES

TEXT = {"source": "local", "path": "words.txt", "stop": 0.6}
SPEC: dict[str, Any] = {
    "model": {"source": "local", "path": "tiny"},
    "scoring": {"criterion": "perplexity", "calibration": {"text": TEXT, "samples": 4, "tokens": 32}},
    "pruning": {"kind": "depth", "blocks": 2},
    "recovery": {
        "kind": "lora",
        "rank": 2,
        "batch_size": 4,
        "micro_batch_size": 2,
        "tokens": 32,
        "max_steps": 12,
        "warmup_steps": 2,
        "learning_rate": 0.005,
        "checkpoint_steps": 2,
        "text": TEXT,
    },
    "benchmark": {
        "latency": {"output_tokens": [4], "warmup": 1, "runs": 3},
        "perplexity": {"texts": [{**TEXT, "start": 0.6, "stop": 1.0}], "tokens": 32, "windows": 6},
        "samples": {"prompts": ["The river", "A stone"], "max_new_tokens": 5},
    },
    "seed": 3,
}


class Runner:
    """Runs stages of one job, each in its own process, and hands outputs on as the service does."""

    def __init__(self, folder: Path, models: Path, data: Path) -> None:
        self.folder = folder
        self.runtime = {
            "device": "cpu",
            "threads": 1,
            "cache": str(folder / "cache"),
            "model_roots": [str(models)],
            "data_roots": [str(data)],
        }
        self.inputs: dict[str, str] = {}

    def spec_file(self, stage: str, spec: dict[str, Any], *, work: str | None = None) -> Path:
        path = self.folder / f"{work or stage}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "job_id": "01935e3a-1c3a-7b6e-9a53-4c1f2d3e4f50",
            "stage": stage,
            "created_at": "2026-01-01T00:00:00Z",
            "spec": spec,
            "work": str(self.folder / (work or stage)),
            "inputs": self.inputs,
            "runtime": self.runtime,
        }
        path.write_text(json.dumps(content))
        return path

    def start(self, stage: str, spec: dict[str, Any] = SPEC, *, work: str | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "workers.stage", str(self.spec_file(stage, spec, work=work))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, stage: str, spec: dict[str, Any] = SPEC, *, work: str | None = None) -> list[Any]:
        """The events of a stage that is left alone; its output becomes the next stages' input."""
        process = self.start(stage, spec, work=work)
        out, err = process.communicate(timeout=300)
        events = [stage_event.validate_json(line) for line in out.splitlines()]
        assert process.returncode == (1 if events[-1].type == "error" else 0), err
        self.inputs[stage] = str(self.folder / (work or stage) / "out")
        return events

    def result(self, stage: str, **options: Any) -> dict[str, Any]:
        events = self.run(stage, **options)
        assert events[-1].type == "result", events[-1]
        data: dict[str, Any] = events[-1].data
        written = json.loads((Path(self.inputs[stage]) / RESULT_FILES[StageName(stage)]).read_text())
        assert written == data
        return data


@pytest.fixture
def runner(tmp_path: Path, tiny_checkpoint: Callable[..., Path], text_file: Path) -> Runner:
    path = tiny_checkpoint("tiny", num_hidden_layers=10)
    return Runner(tmp_path / "job", path.parent, text_file.parent)


def test_a_job_runs_stage_by_stage(runner: Runner) -> None:
    events = runner.run("score")
    assert {event.unit for event in events if event.type == "progress"} != set()
    scores = Scores.model_validate(events[-1].data)
    assert len(scores.blocks) == 10
    assert len(scores.drop) == 2
    assert scores.protected == [0, 1, 2, 3, 8, 9]
    assert scores.calibration is not None
    assert (scores.calibration.samples, scores.calibration.tokens) == (4, 32)

    pruned = Pruned.model_validate(runner.result("prune"))
    assert pruned.dropped == scores.drop
    assert pruned.parameters_after < pruned.parameters_before

    recovered = Recovered.model_validate(runner.result("recover"))
    assert recovered.steps == 12
    assert recovered.tokens == 12 * 4 * 32
    assert recovered.curve[-1].loss < recovered.curve[0].loss
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
    assert all(variant.memory is not None and variant.latency for variant in found.variants)
    assert any("is adaptation to the text and not recovery" in note for note in found.notes)
    assert not any("overlap" in note for note in found.notes)


def test_with_the_default_texts_no_data_set_is_needed(runner: Runner) -> None:
    generated = {"source": "self"}
    spec = {
        **SPEC,
        "scoring": {"criterion": "taylor", "calibration": {"samples": 3, "tokens": 16}},
        "recovery": {**SPEC["recovery"], "text": generated, "samples": 8, "max_steps": 2},
        "benchmark": {"latency": None, "perplexity": {"windows": 3, "tokens": 16}, "samples": None},
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


def test_the_same_job_gives_the_same_bits(runner: Runner) -> None:
    def run(attempt: str) -> tuple[dict[str, Any], bytes, bytes]:
        scores = runner.result("score", work=f"score-{attempt}")
        runner.result("prune", work=f"prune-{attempt}")
        runner.result("recover", work=f"recover-{attempt}")
        pruned, recovered = (
            (Path(runner.inputs[stage]) / "checkpoint" / "model.safetensors").read_bytes()
            for stage in ("prune", "recover")
        )
        return {"blocks": scores["blocks"], "drop": scores["drop"]}, pruned, recovered

    assert run("a") == run("b")


def test_a_recovery_killed_with_sigkill_ends_with_the_same_bytes(runner: Runner) -> None:
    runner.run("score")
    runner.run("prune")
    whole = runner.result("recover", work="whole")
    expected = (Path(runner.inputs["recover"]) / "checkpoint" / "model.safetensors").read_bytes()

    process = runner.start("recover", work="killed")
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event["type"] == "metrics" and event["data"]["step"] >= 7:
            break
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (runner.folder / "killed" / "out" / "recovered.json").exists()

    resumed = runner.result("recover", work="killed")
    assert (Path(runner.inputs["recover"]) / "checkpoint" / "model.safetensors").read_bytes() == expected
    assert len(resumed["resumed_from"]) == 1
    assert resumed["resumed_from"][0] >= 6
    assert resumed["curve"] == whole["curve"]


def test_blocks_named_in_the_spec_need_no_scores(runner: Runner) -> None:
    pruned = runner.result("prune", spec={**SPEC, "pruning": {"kind": "depth", "drop": [7, 2]}})
    assert pruned["dropped"] == [2, 7]


@pytest.mark.parametrize(
    ("change", "pointer", "says"),
    [
        ({"pruning": {"kind": "depth", "blocks": 5}}, "/pruning/blocks", "of which 6 are protected"),
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


def test_what_nobody_foresaw_is_a_problem_without_a_traceback_and_a_log_with_one(runner: Runner) -> None:
    runner.run("score")
    runner.run("prune")
    (Path(runner.inputs["prune"]) / "checkpoint" / "model.safetensors").unlink()
    (Path(runner.inputs["prune"]) / "checkpoint" / "config.json").write_text("[]")
    events = runner.run("recover")
    assert events[-1].type == "error"
    assert "Traceback" not in json.dumps(events[-1].problem)


def test_an_unreadable_spec_is_a_problem_as_well(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text('{"stage": "score"}')
    done = subprocess.run(
        [sys.executable, "-m", "workers.stage", str(tmp_path / "spec.json")],
        capture_output=True,
        text=True,
        check=False,
    )
    (line,) = done.stdout.splitlines()
    event = json.loads(line)
    assert done.returncode == 1
    assert event["type"] == "error"
    assert "/job_id" in {error["pointer"] for error in event["problem"]["errors"]}


def test_sigterm_ends_a_stage_at_once(runner: Runner) -> None:
    spec = {**SPEC, "recovery": {**SPEC["recovery"], "max_steps": 100_000, "epochs": 1000}}
    runner.run("score", spec=spec)
    runner.run("prune", spec=spec)
    process = runner.start("recover", spec)
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["type"] == "metrics":
            break
    process.send_signal(signal.SIGTERM)
    sent = time.monotonic()
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM
    assert time.monotonic() - sent < 3  # what a user who cancels is promised


def test_events_go_to_the_descriptor_that_was_given_and_nothing_else_does(runner: Runner) -> None:
    read, write = os.pipe()
    spec = runner.spec_file("prune", {**SPEC, "pruning": {"kind": "depth", "drop": [4]}})
    process = subprocess.Popen(
        [sys.executable, "-m", "workers.stage", str(spec), "--event-fd", str(write)],
        pass_fds=[write],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    with os.fdopen(read) as pipe:
        events = [json.loads(line) for line in pipe]
    out, _ = process.communicate()
    assert out == b""
    assert events[-1]["type"] == "result"


def test_a_stage_that_nobody_listens_to_ends(runner: Runner) -> None:
    spec = {**SPEC, "recovery": {**SPEC["recovery"], "max_steps": 100_000, "epochs": 1000}}
    runner.run("score", spec=spec)
    runner.run("prune", spec=spec)
    process = runner.start("recover", spec)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=60) == 3
    assert process.stderr is not None
    process.stderr.close()
